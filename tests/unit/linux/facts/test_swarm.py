"""What a node of a swarm says beyond what every Docker says."""

from copy import deepcopy
from datetime import UTC, datetime

import pytest

from kmend.linux.facts.collect import collect
from makers.container_host import ContainerHost
from makers.fake_engine import INFO, FakeEngine

SWARM = {"LocalNodeState": "active", "ControlAvailable": True, "Managers": 1}
NETWORKS = [
    {"Name": "bridge", "Driver": "bridge", "Options": {"a": "b"}},
    {
        "Name": "ingress",
        "Driver": "overlay",
        "Options": {"com.docker.network.vxlan": "4096"},
    },
    {"Name": "a.b", "Driver": "overlay", "Options": {"encrypted": ""}},
]


@pytest.fixture
def host(tmp_path):
    """A host on which dockerd runs."""
    made = ContainerHost(tmp_path)
    made.process(50, name="dockerd", cgroup="/system.slice/docker.service", arguments=("/usr/sbin/dockerd",))
    return made


def says(host, engine):
    """What is known of the engine's words, by name."""
    with engine.serving(host.root / "run/docker.sock"):
        found = collect(host.root, now=datetime(2026, 1, 1, tzinfo=UTC))
    return {one.name: one.value for one in found.engines[0].says}, found.unseen


def swarm(**changes):
    """An engine that is in a swarm."""
    engine = FakeEngine()
    engine.answers = deepcopy(engine.answers) | {
        "/info": {**INFO, "Swarm": {**SWARM, **changes}},
        "/networks": NETWORKS,
        "/secrets": [{"ID": "1", "Spec": {"Name": "password", "Labels": {"owner": "anna"}}}],
    }
    return engine


def test_a_manager_tells_of_overlays_and_the_number_of_secrets(host):
    """Overlay networks with their options; of secrets the number alone."""
    words, _ = says(host, swarm())
    assert words["Secrets"] == "1"
    assert [words[f"Networks.{number}.Name"] for number in (0, 1)] == ["ingress", "a.b"]
    assert "Networks.1.Options.encrypted" in words
    assert "Networks.2.Name" not in words
    assert "password" not in words.values()


def test_a_worker_is_not_asked_for_secrets(host):
    """It would refuse."""
    engine = swarm(ControlAvailable=False)
    words, _ = says(host, engine)
    assert "Secrets" not in words
    assert "GET /secrets" not in engine.asked


def test_without_a_swarm_nothing_more_is_asked(host):
    """Most hosts are in none."""
    engine = FakeEngine()
    words, _ = says(host, engine)
    assert not [one for one in engine.asked if "networks" in one or "secrets" in one]
    assert not [name for name in words if name.startswith("Networks")]


def test_an_answer_that_is_missing_is_noted(host):
    """And the rest is kept."""
    engine = swarm()
    del engine.answers["/networks"]
    words, unseen = says(host, engine)
    assert words["Swarm.LocalNodeState"] == "active"
    assert any(one.what.endswith(":swarm") for one in unseen)
