"""What the agent's tests share."""

import pytest

from kmend.agent import config
from makers.machine import FakeMachine
from makers.repository import SimulatedRepository


@pytest.fixture
def made(tmp_path, template):
    """A repository with livepatch 1 in edge."""
    return SimulatedRepository(tmp_path / "release", template=template)


@pytest.fixture
def machine(tmp_path, made):
    """An enrolled machine that runs the kernel that the livepatch is for."""
    fake = FakeMachine(tmp_path / "machine")
    enrol(fake, made)
    return fake


def enrol(fake, made):
    """Let a machine follow edge."""
    host = fake.host()
    config.enrol(host.paths, root_json=made.root, repo=str(made.repo), channel="edge", now=made.now)
