"""What all tests share."""

import pytest


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
