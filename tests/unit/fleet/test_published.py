"""A rollout of what the repository's channel does not have is refused, when the server knows the repository."""

import shutil
from contextlib import closing

import pytest

from kmend.fleet.store.rollouts import rollouts
from kmend.model import wire
from kmend.model.rollout import Target
from makers.fleet import make_plan
from makers.nouns import KERNEL, OTHER_KERNEL
from makers.repository import SimulatedRepository
from makers.server import TalkingServer


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository whose channel edge has two livepatches for one kernel."""
    made = SimulatedRepository(tmp_path_factory.mktemp("published"))
    made.publish(1)
    made.publish(2)
    return made


def begin(database, folder, *targets, channel="edge"):
    """The answer to a new rollout."""
    plan = make_plan(1, channel=channel, livepatches=targets or (Target(build_id=KERNEL.build_id, number=1),))
    with closing(TalkingServer(database, repository=folder)) as server:
        server.ask("PUT", f"/channels/{channel}", json={"paused": False, "reason": ""})
        return server.ask("POST", "/rollouts", json={"plan": wire.plain(plan)})


@pytest.mark.parametrize("number", [1, 2])
def test_what_the_channel_has_can_be_rolled_out(sqlite, repository, number):
    """The newest, and an earlier one."""
    assert begin(sqlite, repository.repo, Target(build_id=KERNEL.build_id, number=number)).status_code == 201


@pytest.mark.parametrize(
    ("build_id", "number", "channel"),
    [(KERNEL.build_id, 3, "edge"), (OTHER_KERNEL.build_id, 1, "edge"), (KERNEL.build_id, 1, "stable")],
)
def test_what_the_channel_does_not_have_cannot(sqlite, repository, build_id, number, channel):
    """Another number, another kernel, another channel; each is named, and nothing is begun."""
    good = Target(build_id=KERNEL.build_id, number=2)
    targets = (Target(build_id=build_id, number=number), *([good] if build_id != good.build_id else []))
    answer = begin(sqlite, repository.repo, *targets, channel=channel)
    assert answer.status_code == 409
    assert f"Channel {channel} of the repository has no livepatch {number}" in answer.json()["detail"]
    with sqlite.reading() as connection:
        assert rollouts(connection) == []


@pytest.mark.parametrize("damage", ["metadata/1.root.json", "metadata/timestamp.json", "metadata"])
def test_a_repository_that_does_not_hold(sqlite, repository, tmp_path, damage):
    """Nothing of it can be rolled out: no host would take it either."""
    folder = tmp_path / "repo"
    shutil.copytree(repository.repo, folder)
    path = folder / damage
    shutil.rmtree(path) if path.is_dir() else path.write_bytes(b"{}")
    answer = begin(sqlite, folder)
    assert answer.status_code == 409
    assert "repository" in answer.json()["detail"]
    assert answer.json()["detail"].count(str(tmp_path)) == 0


def test_without_a_repository_any_number_is_taken(sqlite):
    """The server cannot know; hosts load only what is signed."""
    assert begin(sqlite, None).status_code == 201
