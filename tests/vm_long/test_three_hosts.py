"""Three container hosts with two kernels under one server, as a fleet lives: `make test-vm`.

One story, told in order: a rollout that finishes by itself, hosts at rest, a livepatch that provokes a WARN, and
one that brings its host down.
"""

import re
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kmend.kernels import store
from kmend.kit.progress import Silent
from kmend.lab.accelerator import accelerator
from kmend.lab.guests import host_disk, own_host_disk
from kmend.lab.host import ContainerHost, container_host
from kmend.lab.series import run_lab_series
from kmend.model.lab import ProbeResult
from makers.fixes import CMDLINE_PROBE
from makers.guest_fleet import (
    PANICS,
    RESIDENT_KIB,
    WARNS,
    cmdline_livepatch,
    enrol,
    last_offer,
    real_fleet,
    resident_kib,
    status,
    until,
)
from makers.repository import SimulatedRepository

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.kit, pytest.mark.timeout(3600)]
ROOT = Path(__file__).parents[2]
WELL, WARNING, PANICKING = 1, 2, 3
ROLES = {"canary": "role=canary", "second": "role=rest", "third": "role=rest"}
UNIT = "kmend-agent.service"
TRACING, MINE = "/sys/kernel/tracing", "events/kprobes/mine/enable"
AT_REST = 180
"""Seconds that a host is looked at while nothing happens."""
WORK = """\
import hashlib, json, time
begin = time.process_time()
for n in range(20000):
    hashlib.sha256(json.dumps({str(i): i * n for i in range(30)}).encode())
print(time.process_time() - begin)
"""
"""Says how much processor time the same work takes; in a guest of a busy machine it counts what it waits, too."""
SHOWS = CMDLINE_PROBE.replace("kmend-was-here", "livepatched=1")
"""Run as user 65534 in a container, four times a second: so it is also who meets the faults."""


@dataclass
class Story:
    """What is there; ``say`` writes to the terminal."""

    fleet: object
    release: SimulatedRepository
    built: dict
    hosts: dict[str, ContainerHost]
    boot_canary: object
    say: object

    def publish(self, number):
        """Publish a livepatch for both kernels; returns the folders."""
        folders = [folder for (kernel, which), folder in self.built.items() if which == number]
        for folder in folders:
            self.release.publish_folder(folder)
        return folders


@pytest.fixture(scope="module")
def kits():
    """Role → kit: the canary and the third have the oldest kernel of a series, the second has the newest."""
    oldest, newest = (store.fetch(kernel.release) for kernel in store.oldest_and_newest())
    assert oldest.kernel.build_id != newest.kernel.build_id
    return {"canary": oldest, "second": newest, "third": oldest}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of everything here."""
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module")
def say(request):
    """Writes a line to the terminal."""
    writer = request.config.get_terminal_writer()
    writer.line()
    return lambda text: writer.line(f"  {text}")


@contextmanager
def timed(say, name):
    """Say how long a part took."""
    begin = time.monotonic()
    yield
    say(f"{name}: {time.monotonic() - begin:.0f} s")


@pytest.fixture(scope="module")
def built(kits, folder, say):
    """(release, number) → folder of a livepatch that the real lab has proven: nobody reads /proc/cmdline there."""
    made = {}
    for kit in (kits["canary"], kits["second"]):
        with timed(say, f"livepatches for {kit.kernel.release} are built and proven"):
            for number, fault in ((WELL, ""), (WARNING, WARNS), (PANICKING, PANICS)):
                out = folder / f"{kit.kernel.release}-{number}"
                cmdline_livepatch(kit, number, out, fault=fault)
                made[kit.kernel.release, number] = out
            folders = [out for (release, _), out in made.items() if release == kit.kernel.release]
            for _, report in run_lab_series(kit, folders, progress=Silent()):
                assert report.passed, report.failure
    return made


@pytest.fixture(scope="module")
def story(kits, folder, built, say):
    """The server, and three hosts with the agent's package installed, enrolled and its service running."""
    release = SimulatedRepository(folder / "release")
    chosen = accelerator(kits["canary"], Silent())
    disk = folder / "canary.img"
    own_host_disk(host_disk(kits["canary"], accelerator=chosen, progress=Silent()), disk)
    package = agent_package(folder)

    def boot(name, turn=1):
        place = folder / f"{name}-{turn}"
        place.mkdir()
        own = disk if name == "canary" else None
        return container_host(
            kits[name],
            probes={"shows": SHOWS},
            forward_port=fleet.port,
            accelerator=chosen,
            folder=place,
            own_disk=own,
            limit=3600,
        )

    with real_fleet(folder, release) as fleet, ExitStack() as running:
        hosts = {}
        for name, role in ROLES.items():
            with timed(say, f"{name} is up"):
                hosts[name] = host = running.enter_context(boot(name))
            with timed(say, f"{name} has the agent"):
                host.put("/root/kmend-agent.deb", package)
                host.must(["dpkg", "-i", "/root/kmend-agent.deb"], timeout=300)
                enrol(host, fleet, name, role)
                host.must(["systemctl", "start", UNIT], timeout=180)
        yield Story(fleet, release, built, hosts, lambda: running.enter_context(boot("canary", 2)), say)


def agent_package(folder):
    """The package that `make deb` makes."""
    subprocess.run([sys.executable, ROOT / "packaging/make-agent-deb", folder], check=True, capture_output=True)
    return next(folder.glob("*.deb")).read_bytes()


def test_the_life_of_a_fleet(story):
    """A rollout, rest, a WARN and a panic: every container of every host lives on, but those of the panic."""
    boots = {name: host.boot_id() for name, host in story.hosts.items()}
    with timed(story.say, "a rollout in two waves finishes by itself"):
        a_rollout_finishes(story)
    with timed(story.say, "a host at rest is looked at"):
        a_daemon_rests(story, "third")
    tracers_are_named(story.hosts["third"])
    with timed(story.say, "a WARN stops at the canary"):
        a_warn_stops_at_the_canary(story)
    containers_lived_on(story.hosts)
    with timed(story.say, "a panic is told"):
        a_panic_is_told(story, boots["canary"])
    others = {name: host for name, host in story.hosts.items() if name != "canary"}
    containers_lived_on(others)
    assert {name: host.boot_id() for name, host in others.items()} == {name: boots[name] for name in others}
    for host in others.values():
        assert set(re.findall(r"kmend_\d+", host.kernel_log())) == {"kmend_1"}


def a_rollout_finishes(story):
    """The canary first, the others once it is well; containers see the new behaviour."""
    fleet = story.fleet
    folders = story.publish(WELL)
    assert {host.probe()["shows"] for host in story.hosts.values()} == {ProbeResult.VULNERABLE}
    rollout = fleet.roll_out("well", folders, "--wave", "role=canary:20s", "--wave", "100%:10s")
    because = fleet.until_state(rollout, "finished", limit=900)
    assert "every wave is done: 3 hosts run the livepatch and are well" in because
    changed = {one["name"]: one["changed"] for one in fleet.ask("rollout", "hosts", rollout)}
    assert min(changed, key=changed.get) == "canary"
    assert {name: fleet.host(name)["report"]["running"] for name in ROLES} == dict.fromkeys(ROLES, WELL)
    assert {host.probe()["shows"] for host in story.hosts.values()} == {ProbeResult.FIXED}


def a_daemon_rests(story, name):
    """What the service takes while nothing happens but check-ins, far more of them than anybody wants."""
    host, heard = story.hosts[name], set()
    figures = service(host)
    begin = time.monotonic()
    while time.monotonic() < begin + AT_REST:
        heard.add(story.fleet.host(name)["seen"])
        time.sleep(2)
    seconds = (service(host)["CPUUsageNSec"] - figures["CPUUsageNSec"]) / 1e9
    each = seconds / (len(heard) - 1)
    after = service(host)
    resident = resident_kib(host, after["MainPID"])
    story.say(f"resident {resident / 1024:.1f} MiB, the whole unit {after['MemoryCurrent'] / 2**20:.1f} MiB")
    story.say(f"{each:.2f} s of processor time ({host.accelerator}) for each of {len(heard) - 1} check-ins")
    slower = float(host.must(["python3", "-c", WORK], timeout=300)) / float(run_here(["python3", "-c", WORK]))
    story.say(
        f"the guest is {slower:.0f} times as slow as this machine: {each / slower:.3f} s without it, and that"
    )
    story.say(f"is {each / slower / 300:.3%} of a processor at the usual check-in each 300 s")
    assert resident < RESIDENT_KIB


def run_here(args):
    """What a program prints on this machine."""
    return subprocess.run(args, check=True, capture_output=True, text=True, timeout=300).stdout


def tracers_are_named(host):
    """A kprobe is somebody else's and is named; the livepatch's functions, which ftrace lists too, are not."""
    assert status(host)["traced"] == {"count": 0, "first": [], "diverted": []}
    host.must(["sh", "-c", f"cd {TRACING} && echo p:mine do_nanosleep > kprobe_events && echo 1 > {MINE}"])
    assert status(host)["traced"] == {"count": 1, "first": ["do_nanosleep"], "diverted": []}
    host.must(["sh", "-c", f"cd {TRACING} && echo 0 > {MINE} && echo > kprobe_events"])


def service(host):
    """What systemd counts of the agent's unit."""
    names = "MainPID,MemoryCurrent,CPUUsageNSec"
    lines = host.must(["systemctl", "show", UNIT, "-p", names]).splitlines()
    return {name: int(value) for name, _, value in (line.partition("=") for line in lines)}


def a_warn_stops_at_the_canary(story):
    """It reverts, the rollout stops, nobody else is offered it; the canary goes back to number 1."""
    fleet, canary = story.fleet, story.hosts["canary"]
    rollout = fleet.roll_out("warns", story.publish(WARNING), "--wave", "role=canary:20s", "--wave", "100%:10s")
    because = fleet.until_state(rollout, "stopped", limit=600)
    assert "1 of 1 updated hosts quarantined it" in because
    held = status(canary)["quarantined"]
    assert [one["number"] for one in held] == [WARNING]
    assert re.search(r"WARNING.*cmdline_proc_show", held[0]["reason"])
    assert "kmend_2" in canary.kernel_log()
    assert "kmend_2" not in canary.loaded_modules()
    for name in ("second", "third"):
        fleet.until_heard(name)
        offer = last_offer(story.hosts[name])
        assert (offer["action"], offer["number"]) == ("stay", WELL)
    assert fleet.stages(rollout) == {"canary": "troubled"}
    runs_again(story, WELL)
    fleet.ask("rollout", "rollback", rollout, "--reason", "it provokes a WARN")


def runs_again(story, number):
    """Wait until the canary is back at a number that it ran before; says how it stands when it is not."""
    try:
        until(
            lambda: settled_at(story.fleet, "canary", number),
            f"the canary runs livepatch {number} again",
            limit=600,
        )
    except AssertionError:
        canary = story.hosts["canary"]
        story.say(f"status {status(canary)}")
        story.say(f"offer {last_offer(canary)}")
        story.say(canary.answer(["journalctl", "-u", UNIT, "-n", "40", "--no-pager"]).text)
        raise


def settled_at(fleet, name, number):
    """Whether a host runs a number and has watched it."""
    report = fleet.host(name)["report"]
    return (report["running"], report["phase"]) == (number, "applied")


def a_panic_is_told(story, boot_before):
    """The host goes down while it watches, comes back unpatched, says so, and never takes that livepatch again."""
    fleet, canary = story.fleet, story.hosts["canary"]
    rollout = fleet.roll_out("panics", story.publish(PANICKING), "--wave", "role=canary:20s", "--wave", "100%:10s")
    assert canary.machine.wait_end(timeout=600)
    assert "Kernel panic - not syncing: kmend-test: read by nobody" in canary.kernel_log()
    story.hosts["canary"] = canary = story.boot_canary()
    because = fleet.until_state(rollout, "stopped", limit=600)
    assert "1 of 1 updated hosts" in because
    first = next(one for one in reversed(fleet.reports("canary")) if one["boot_id"] not in {boot_before, ""})
    assert first["boot_id"] == canary.boot_id()
    assert first["unexpected_reboot"]
    assert first["running"] is None
    held = {one["number"]: one["reason"] for one in status(canary)["quarantined"]}
    assert "the host went down unexpectedly while livepatch 3" in held[PANICKING]
    assert set(held) == {WARNING, PANICKING}
    assert fleet.stages(rollout) == {"canary": "troubled"}
    runs_again(story, WELL)
    assert set(re.findall(r"kmend_\d+", canary.kernel_log())) == {"kmend_1"}


def containers_lived_on(hosts):
    """None restarted, none lost its connection, since all were up."""
    for name, host in hosts.items():
        for one in host.containers():
            assert (one.restarts, one.started_at) == (0, one.started_at_after), (name, one)
            assert one.connection_kept, (name, one)
            assert one.heartbeats > 50, (name, one)
