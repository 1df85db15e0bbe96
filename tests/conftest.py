"""What all tests share."""

import signal

import pytest
from hypothesis import settings

from makers.machine import FakeMachine

# A busy machine is no fault of the code.
settings.register_profile("kmend", deadline=None)
settings.load_profile("kmend")

# What a shell starts in the background ignores Ctrl-C, and so would the programs that tests send it to.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def empty_template(tmp_path_factory):
    """A signed repository without livepatches, made once; tests work on copies of it."""
    from makers.repository import SimulatedRepository  # noqa: PLC0415 - needs the build side's libraries

    return SimulatedRepository(tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="session")
def template(tmp_path_factory, empty_template):
    """The same with livepatch 1 in edge."""
    from makers.repository import SimulatedRepository  # noqa: PLC0415

    made = SimulatedRepository(tmp_path_factory.mktemp("one"), template=empty_template)
    made.publish(1)
    return made


@pytest.fixture
def made(tmp_path, template):
    """A repository of one's own with livepatch 1 in edge."""
    from makers.repository import SimulatedRepository  # noqa: PLC0415

    return SimulatedRepository(tmp_path / "release", template=template)


@pytest.fixture
def machine(tmp_path, made):
    """A fake machine, enrolled, that runs the kernel that the livepatch is for."""
    fake = FakeMachine(tmp_path / "machine")
    fake.enrol(made)
    return fake
