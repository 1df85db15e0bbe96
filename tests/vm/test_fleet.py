"""Two hosts under one server: a livepatch that provokes a WARN gets no further than the canary."""

import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from kmend.kit.progress import Silent
from kmend.lab.accelerator import accelerator
from kmend.lab.initramfs import link, program
from kmend.lab.quick import quick_guest
from kmend.model import wire
from makers.guest_fleet import (
    AGENT,
    RESIDENT_KIB,
    WARNS,
    cmdline_livepatch,
    enrol,
    last_offer,
    read_by_nobody,
    real_fleet,
    resident_kib,
    status,
    until,
)
from makers.guest_python import python_files
from makers.nouns import make_report
from makers.repository import SimulatedRepository

pytestmark = [pytest.mark.vm, pytest.mark.kit]
ROOT = Path(__file__).parents[2]
LABELS = {"canary": "role=canary", "other": "role=rest"}
DAEMON = f"{AGENT} run </dev/null >/root/agent.log 2>&1 & echo $!"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of everything here."""
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module")
def livepatch(kit, folder):
    """The folder of a livepatch that provokes a WARN; its lab had no unprivileged readers."""
    built = folder / "warns"
    report = make_report(cmdline_livepatch(kit, 1, built, fault=WARNS))
    (built / "labreport.json").write_text(wire.dump(report))
    return built


@pytest.fixture(scope="module")
def fleet(livepatch, folder):
    """The running server, with the livepatch in its repository."""
    release = SimulatedRepository(folder / "release")
    release.publish_folder(livepatch)
    with real_fleet(folder, release) as running:
        yield running


@pytest.fixture(scope="module")
def guests(kit, fleet, folder):
    """Name → guest, enrolled."""
    agent = folder / "kmend-agent.pyz"
    make = [sys.executable, ROOT / "packaging/make-agent-pyz", agent, "/usr/bin/python3 -IS"]
    subprocess.run(make, check=True, capture_output=True)
    files = python_files() | {"usr/bin/kmend-agent": program(agent.read_bytes()), "bin/mkdir": link("busybox")}
    with ExitStack() as running:
        found = {name: running.enter_context(booted(kit, folder / name, fleet, files)) for name in LABELS}
        for name, guest in found.items():
            enrol(guest, fleet, name, LABELS[name])
        yield found


def booted(kit, folder, fleet, files):
    """A quick guest that reaches the server and nothing else."""
    folder.mkdir()
    chosen = accelerator(kit, Silent())
    return quick_guest(kit, folder, accelerator=chosen, probes={}, files=files, forward_port=fleet.port)


@pytest.fixture(scope="module")
def daemons(guests):
    """Name → process id of the agent that runs there."""
    return {name: int(guest.must(["sh", "-c", DAEMON])) for name, guest in guests.items()}


def test_a_warn_stops_at_the_canary(fleet, guests, daemons, livepatch):
    """The canary reverts and quarantines it, the rollout stops by itself, the other host is never offered it."""
    canary, other = guests["canary"], guests["other"]
    rollout = fleet.roll_out("warns", [livepatch], "--wave", "role=canary:10s", "--wave", "100%")
    until(lambda: "livepatched=1" in read_by_nobody(canary), "the livepatch is in effect on the canary")
    because = fleet.until_state(rollout, "stopped")
    assert "1 of 1 updated hosts quarantined it" in because
    assert "livepatched" not in read_by_nobody(canary)
    assert "kmend_1" not in canary.loaded_modules()
    found = status(canary)
    assert [one["number"] for one in found["quarantined"]] == [1]
    assert re.search(r"WARNING.*cmdline_proc_show", found["quarantined"][0]["reason"])
    assert found["phase"] == "idle"
    fleet.until_heard("other")
    assert last_offer(other)["action"] == "stay"
    assert fleet.stages(rollout) == {"canary": "troubled"}
    assert "kmend_1" in canary.kernel_log()
    assert "kmend_1" not in other.kernel_log()


def test_the_daemon_is_small(guests, daemons):
    """After check-ins, looks at the repository and a livepatch it keeps less in memory than it is allowed to."""
    resident = {name: resident_kib(guests[name], pid) for name, pid in daemons.items()}
    assert max(resident.values()) < RESIDENT_KIB
