"""The daemon: when it looks, what it tells systemd, and that nothing makes it stop."""

import logging
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmend.agent import view
from kmend.agent.daemon import Daemon, PetClock
from kmend.agent.timing import first_wait, next_wait, place_of
from kmend.kit.errors import BusyError
from kmend.kit.files import lock
from kmend.linux.kernel import machine_id
from kmend.linux.notify import notify, watchdog_seconds
from makers.machine import run_for

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def test_hosts_spread_evenly():
    """A thousand hosts: each tenth of the interval has about a hundred; a host keeps its place."""
    places = [place_of(f"{number:032x}") for number in range(1000)]
    counts = [sum(1 for place in places if int(place * 10) == tenth) for tenth in range(10)]
    assert all(70 < count < 130 for count in counts)
    assert place_of("a") == place_of("a") != place_of("b")


@given(
    place=st.floats(0, 1, exclude_max=True),
    chance=st.floats(0, 1, exclude_max=True),
    minutes=st.integers(1, 1440),
    seconds=st.integers(0, 10**6),
)
def test_each_host_comes_at_its_place(*, place, chance, minutes, seconds):
    """At its place in an interval plus the jitter, half to one and three fifths of an interval from now."""
    interval = minutes * 60.0
    now = NOW + timedelta(seconds=seconds)
    wait = next_wait(now, interval=interval, place=place, failures=0, chance=chance)
    assert interval * 0.5 <= wait <= interval * 1.6 + 0.01
    at = (now.timestamp() + wait - chance * interval * 0.1 - place * interval) % interval
    assert min(at, interval - at) < 0.01
    assert 0 <= first_wait(place, interval=interval) <= 60


@given(failures=st.integers(1, 900), chance=st.floats(0, 1, exclude_max=True), minutes=st.integers(1, 1440))
def test_failures_slow_it_down(*, failures, chance, minutes):
    """The pause doubles up to an hour (or the interval, if longer), and is never drawn too short."""
    interval = minutes * 60.0
    wait = next_wait(NOW, interval=interval, place=0.5, failures=failures, chance=chance)
    slowest = max(3600.0, interval)
    assert min(interval * 2**failures, slowest) * 0.5 <= wait <= slowest * 1.5
    assert next_wait(NOW, interval=300, place=0, failures=1, chance=0.5) == 600
    assert next_wait(NOW, interval=300, place=0, failures=3, chance=0.5) == 2400


def test_machine_id(tmp_path):
    """From /etc, else the host name, else nothing."""
    assert machine_id(tmp_path) == ""
    for name, text in (("proc/sys/kernel/hostname", "box\n"), ("etc/machine-id", "abc\n")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
        assert machine_id(tmp_path) == text.strip()


class Systemd:
    """The listening end of NOTIFY_SOCKET; reads all the time, as systemd does: the queue is short."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.queue: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            self.queue.put(self.socket.recv(4096).decode())

    def next(self) -> str:
        """The next datagram; waits for it."""
        return self.queue.get(timeout=20)

    def heard(self) -> list[str]:
        """All that came since the last time."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as talking:
            talking.sendto(b"END", self.address)
        found = []
        while (text := self.next()) != "END":
            found.append(text)
        return found


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """A service manager that listens."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    return Systemd(str(tmp_path / "notify"))


def test_notify(systemd, monkeypatch):
    """One datagram with all lines; abstract addresses work; nobody listening is no error."""
    assert notify("READY=1", "STATUS=x")
    assert systemd.heard() == ["READY=1\nSTATUS=x"]
    name = f"kmend-test-{os.getpid()}"
    abstract = Systemd(f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    assert notify("A=@")
    assert abstract.heard() == ["A=@"]
    for address in ("/no/such/socket", "vsock:2:3", ""):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        assert not notify("READY=1")


@pytest.mark.parametrize(("text", "seconds"), [("30000000", 30), ("", None), ("0", None), ("x", None)])
def test_watchdog_seconds(monkeypatch, text, seconds):
    """Microseconds in the environment."""
    monkeypatch.setenv("WATCHDOG_USEC", text)
    assert watchdog_seconds() == seconds


def test_a_long_sleep_pets_the_watchdog(machine, systemd):
    """At least every step, and the time is right."""
    PetClock(inner=machine.clock, step=10).sleep(35)
    assert machine.clock.monotonic() == 35
    assert systemd.heard() == ["WATCHDOG=1"] * 5


def daemon(machine, **settings):
    """A daemon on the fake machine whose clock never leaves systemd waiting."""
    host = replace(machine.host(**settings), clock=PetClock(inner=machine.clock), patient=True)
    return Daemon(host=host, chance=lambda: 0.5)


def test_it_loads_watches_and_goes_on(machine, made, systemd, caplog):
    """Ready at once, the livepatch within a minute, watched for 15 minutes, the next one after that."""
    caplog.set_level(logging.INFO)
    running = daemon(machine)
    run_for(machine, 70, running)
    assert machine.livepatches() == ["kmend_1"]
    assert view.status(machine.host()).phase == "soaking"
    heard = systemd.heard()
    assert heard[0].startswith("READY=1")
    assert heard[-1] == "STOPPING=1"
    assert "WATCHDOG=1" in heard
    run_for(machine, 20 * 60, running)
    assert view.status(machine.host()).phase == "applied"
    made.publish(2)
    run_for(machine, 30 * 60, running)
    assert machine.livepatches() == ["kmend_2"]
    assert [record.message for record in caplog.records if "is loaded" in record.message] != []


def test_it_never_is_silent_for_long(machine, made, systemd, monkeypatch):
    """While it waits and while it watches the watchdog hears from it at least every 10 s."""
    told = []
    monkeypatch.setattr("kmend.agent.daemon.notify", lambda *lines: told.append(machine.clock.monotonic()))
    run_for(machine, 3600, daemon(machine))
    assert max(after - before for before, after in pairwise(told)) <= 10


def looks(machine, monkeypatch, error):
    """Moments of the looks in six hours in which each one fails (or does nothing)."""
    found = []

    def update(host, *, limits):
        found.append(machine.clock.monotonic())
        raise error

    monkeypatch.setattr("kmend.agent.sync.update", update)
    run_for(machine, 6 * 3600, daemon(machine))
    return [round(after - before) for before, after in pairwise(found)]


def test_a_server_that_is_away_is_asked_less_often(machine, monkeypatch):
    """10, 20, 40 minutes, then every hour."""
    assert looks(machine, monkeypatch, OSError("away"))[:6] == [600, 1200, 2400, 3600, 3600, 3600]


def test_being_busy_does_not_slow_it_down(machine, monkeypatch):
    """Another run is no failure."""
    assert max(looks(machine, monkeypatch, BusyError("another run"))) <= 480


def test_settings_are_read_anew(machine, caplog):
    """Wrong ones are said once and load nothing; put right they count from the next look on."""
    path = machine.root / "etc/kmend/agent.toml"
    path.write_text("soak = 1")
    running = daemon(machine)
    run_for(machine, 3600, running)
    assert machine.loaded == []
    assert len([record for record in caplog.records if "unknown soak" in record.message]) == 1
    path.write_text("soak_minutes = 1\ncheck_in_minutes = 2")
    run_for(machine, 600, running)
    assert view.status(machine.host()).phase == "applied"


def test_trouble_does_not_stop_it(machine, made):
    """A livepatch that is reverted is held back; the daemon goes on and loads the next one."""
    machine.log_on_load = ["BUG: unable to handle page fault for address: ffff"]
    running = daemon(machine)
    run_for(machine, 600, running)
    assert machine.livepatches() == []
    machine.log_on_load = []
    made.publish(2)
    run_for(machine, 7200, running)
    assert machine.livepatches() == ["kmend_2"]


def test_two_daemons(machine):
    """The second one says that there is a first."""
    running = daemon(machine)
    with lock(machine.host().paths.daemon, what="test"), pytest.raises(BusyError, match="kmend agent run"):
        running.run()


def test_the_program_ends_in_order(machine, tmp_path):
    """As a program: READY=1, then SIGTERM ends it with 0 and STOPPING=1."""
    address = str(tmp_path / "notify")
    listening = Systemd(address)
    words = ["-m", "kmend", "agent", "--machine-root", str(machine.root), "run"]
    environment = {**os.environ, "NOTIFY_SOCKET": address, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen([sys.executable, *words], env=environment, stderr=subprocess.PIPE) as process:
        try:
            assert listening.next().startswith("READY=1")
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert listening.heard()[-1] == "STOPPING=1"
    assert machine.loaded == []


def unit(name):
    """A unit's settings by name, each with all its values."""
    found = {}
    for line in (ROOT / "packaging" / name).read_text().splitlines():
        if match := re.match(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def test_the_unit_lets_the_agent_do_its_work():
    """What the agent needs is not taken from it by the hardening."""
    found = unit("kmend-agent.service")
    assert found["Type"] == ["notify"]
    assert {"CAP_SYS_MODULE", "CAP_SYSLOG", "CAP_SYS_ADMIN"} <= set(found["CapabilityBoundingSet"][0].split())
    assert "@module" in found["SystemCallFilter"][0]
    assert found["DeviceAllow"] == ["/dev/kmsg r"]
    for name in ("ProtectKernelModules", "ProtectKernelTunables", "ProtectKernelLogs", "PrivateDevices"):
        assert name not in found
    assert found["NoNewPrivileges"] == found["ProtectHome"] == ["yes"]
    orderly = unit("kmend-orderly.service")
    assert orderly["RemainAfterExit"] == ["yes"]
    assert orderly["ExecStop"] == ["/usr/bin/kmend-agent note-shutdown"]


def test_one_look_ends_before_the_watchdog_bites():
    """Timestamp, snapshot, targets, channel, entry, module, and a new root or two, each as slow as is allowed."""
    from kmend.agent.daemon import _LIMITS  # noqa: PLC0415

    minutes = int(unit("kmend-agent.service")["WatchdogSec"][0].removesuffix("min"))
    assert 8 * _LIMITS.total < minutes * 60
