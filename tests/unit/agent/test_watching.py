"""The watch after loading: what takes a livepatch out, what does not, and what survives."""

import errno
from contextlib import suppress

import pytest

from kmend.agent import sync, view, watching
from kmend.agent.decide import Verdict
from kmend.agent.settings import Settings
from kmend.agent.state import load_state
from kmend.kit.errors import MachineError
from kmend.kit.files import write_atomic
from kmend.model.host import AgentPhase
from makers.repository import SimulatedRepository


def at(machine, seconds, action):
    """Let something happen once, so many slept seconds from now."""
    due = machine.clock.monotonic() + seconds

    def tick():
        if machine.clock.monotonic() >= due and tick in machine.clock.ticks:
            machine.clock.ticks.remove(tick)
            action()

    machine.clock.ticks.append(tick)


def state_of(machine):
    """What the agent remembers."""
    status = view.status(machine.host())
    return load_state(machine.host().paths, boot_id=status.boot_id, now=machine.clock.now())


def log_warn(machine, function, module=""):
    """A WARN with one function in its trace."""
    machine.log("WARNING: CPU: 0 PID: 7 at some/file.c:8")
    machine.log("Call Trace:")
    machine.log(f" {function}+0x10/0x20{f' [{module}]' if module else ''}")
    machine.log("---[ end trace 0000000000000000 ]---")


def restart(machine, name, **how):
    """A container has been started again."""
    machine.around.run(name, restarts=how.pop("restarts", 1), **how)


TROUBLES = {
    "a WARN in a replaced function": (lambda m: log_warn(m, "unix_ioctl"), "with unix_ioctl in the trace"),
    "a WARN in a part of it": (lambda m: log_warn(m, "unix_ioctl.cold"), "with unix_ioctl in the trace"),
    "a WARN in the module": (lambda m: log_warn(m, "new_part", "kmend_1"), "with kmend_1 in the trace"),
    "an oops anywhere": (lambda m: m.log("BUG: kernel NULL pointer dereference, address: 0"), "NULL pointer"),
    "a unit": (lambda m: m.around.failed.append("nginx.service"), "nginx.service failed"),
    "a container": (lambda m: restart(m, "web"), "container web was started again by docker"),
    "systemd is gone": (lambda m: setattr(m.around, "failed", None), "systemd units could be looked at before"),
    "docker is gone": (lambda m: m.around.containers.update(docker=None), "docker could be looked at before"),
    "disabled": (
        lambda m: (m.root / "sys/kernel/livepatch/kmend_1/enabled").write_text("0\n"),
        "disabled by somebody else",
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_trouble_takes_it_out(machine, name):
    """Whatever becomes worse while the host is watched: reverted, quarantined, and the reason is kept."""
    action, words = TROUBLES[name]
    machine.around.run("web")
    at(machine, 60, lambda: action(machine))
    with pytest.raises(MachineError, match=words) as caught:
        sync.update(machine.host(soak=900))
    assert "held back" in caught.value.hint
    assert machine.livepatches() == []
    assert machine.modules() == []
    found = view.status(machine.host())
    assert words in found.note
    assert [(one.number, words in one.reason) for one in found.quarantined] == [(1, True)]
    assert sync.check(machine.host()).verdict == Verdict.HELD_BACK


HARMLESS = {
    "a WARN elsewhere": lambda m: log_warn(m, "some_driver", "drm"),
    "a hung task elsewhere": lambda m: m.log("INFO: task dd:12 blocked for more than 120 seconds."),
    "an ignored unit": lambda m: m.around.failed.append("certbot.service"),
    "an ignored container": lambda m: restart(m, "batch-7"),
    "one that keeps being started": lambda m: restart(m, "crashing", restarts=9),
    "a new container": lambda m: restart(m, "new", restarts=3),
    "a container that is gone": lambda m: m.around.containers["docker"].clear(),
    "a short silence": lambda m: (
        setattr(m.around, "failed", None),
        at(m, 40, lambda: setattr(m.around, "failed", ["old.service"])),
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_no_trouble(machine, name):
    """What was so before, is ignored, or has nothing to do with the livepatch."""
    machine.around.failed = ["old.service"]
    for container in ("web", "batch-7"):
        machine.around.run(container)
    machine.around.run("crashing", restarts=8, steady=False)
    at(machine, 60, lambda: HARMLESS[name](machine))
    settings = Settings(watch_ignore=("certbot.service", "batch-*"))
    assert sync.update(machine.host(soak=900, settings=settings)).applied
    assert machine.clock.monotonic() > 900
    assert view.status(machine.host()).phase == AgentPhase.APPLIED


def test_whoever_waits_hears_that_the_watch_begins(machine):
    """Before it begins, so that nobody wonders for 15 minutes."""
    heard = []
    sync.update(machine.host(soak=900), told=lambda text: heard.append((machine.clock.monotonic() < 5, text)))
    assert heard == [(True, "Livepatch 1 is loaded; the host is watched for 900 s.")]


def test_what_is_not_to_be_watched(machine):
    """With both switched off units and containers are not asked for."""
    machine.around.failed = None
    machine.around.containers["docker"] = None
    settings = Settings(watch_units=False, watch_containers=False)
    seen = []
    at(machine, 20, lambda: seen.append(view.status(machine.host()).watch.unseen))
    assert sync.update(machine.host(soak=60, settings=settings)).applied
    assert seen == [()]


def test_what_cannot_be_looked_at_is_said(machine):
    """Status says during the watch who does not answer; nobody is blamed for it."""
    machine.around.failed = None
    machine.around.containers["podman"] = None
    seen = []
    at(machine, 20, lambda: seen.append(view.status(machine.host(soak=60))))
    assert sync.update(machine.host(soak=60)).applied
    assert seen[0].phase == AgentPhase.SOAKING
    assert seen[0].agrees
    assert seen[0].watch.unseen == ("systemd units", "podman")
    assert 30 < seen[0].watch.seconds_left <= 45
    assert view.status(machine.host()).watch is None


def test_a_full_disk_keeps_nothing_bad_in(machine, monkeypatch):
    """When the disk fills up while it is watched, trouble takes the livepatch out all the same."""

    def full(path, *args, **options):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def fill():
        monkeypatch.setattr("kmend.agent.state.write_atomic", full)
        log_warn(machine, "unix_ioctl")

    at(machine, 60, fill)
    with pytest.raises(MachineError, match="taken out again: the kernel complained"):
        sync.update(machine.host(soak=900))
    assert machine.livepatches() == []
    with pytest.raises(MachineError, match="disk is full"):
        sync.update(machine.host(soak=900))
    assert len(machine.loaded) == 1


class KilledError(Exception):
    """Stands for kill -9."""


def killed():
    """End a run at once."""
    raise KilledError


def interrupted():
    """Ask a run to end."""
    raise KeyboardInterrupt


def dying_at(which, when):
    """A write_atomic during which, before or after, a run is killed."""
    count = 0

    def write(path, *args, **options):
        nonlocal count
        count += 1
        if count == which and when == "before":
            killed()
        write_atomic(path, *args, **options)
        if count == which and when == "after":
            killed()

    return write


@pytest.mark.parametrize("reboot", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("which", range(1, 6))
def test_killed_at_every_write(machine, monkeypatch, which, when, reboot):
    """Killed around each write of a run that ends in trouble: the next runs end with it out and held back.

    With a panic on top, a livepatch that was in the kernel is never loaded a second time.
    """
    machine.log_on_load = ["BUG: unable to handle page fault for address: ffff"]
    monkeypatch.setattr("kmend.agent.state.write_atomic", dying_at(which, when))
    with pytest.raises(KilledError):
        sync.update(machine.host())
    monkeypatch.undo()
    loaded_before = len(machine.loaded)
    if reboot:
        machine.boot(2)
    for _ in range(2):
        with suppress(MachineError):
            sync.update(machine.host())
    assert machine.livepatches() == []
    assert machine.modules() == []
    assert sync.check(machine.host()).verdict == Verdict.HELD_BACK
    assert len(machine.loaded) == 1 if reboot and loaded_before else len(machine.loaded) <= 2
    assert state_of(machine).phase == AgentPhase.IDLE


def test_a_killed_watch_goes_on(machine):
    """The next run watches for the time that is left, with what was noted before loading."""
    machine.around.run("web")
    at(machine, 300, killed)
    with pytest.raises(KilledError):
        sync.update(machine.host(soak=900))
    assert sync.check(machine.host()).verdict == Verdict.SOAKING
    restart(machine, "web")
    with pytest.raises(MachineError, match="container web"):
        sync.update(machine.host(soak=900))
    assert machine.livepatches() == []


def test_a_killed_watch_that_finds_nothing(machine):
    """It is over when it would have been over, and the livepatch stays."""
    at(machine, 300, killed)
    with pytest.raises(KilledError):
        sync.update(machine.host(soak=900))
    assert not sync.update(machine.host(soak=900)).applied
    assert 890 < machine.clock.monotonic() < 930
    assert state_of(machine).phase == AgentPhase.APPLIED


def test_an_agent_that_is_killed_again_and_again(machine):
    """After three killed runs the livepatch is no longer trusted."""
    for _ in range(3):
        at(machine, 10, killed)
        with pytest.raises(KilledError):
            sync.update(machine.host(soak=900))
    with pytest.raises(MachineError, match="killed 3 times"):
        sync.update(machine.host(soak=900))
    assert machine.livepatches() == []
    assert sync.check(machine.host()).verdict == Verdict.HELD_BACK


def test_being_asked_to_end_is_no_trouble(machine):
    """SIGTERM and Ctrl-C leave the watch to the next run, however often."""
    for _ in range(5):
        at(machine, 10, interrupted)
        with pytest.raises(KeyboardInterrupt):
            sync.update(machine.host(soak=900))
    assert state_of(machine).watch.runs == 0
    sync.update(machine.host(soak=900))
    assert state_of(machine).phase == AgentPhase.APPLIED


def test_unloading_while_it_is_watched(machine):
    """Others are not locked out for 15 minutes: unload works, and the watch ends."""
    at(machine, 60, lambda: sync.unload_now(machine.host(), hold=True))
    with pytest.raises(MachineError, match="taken out while it was watched"):
        sync.update(machine.host(soak=900))
    assert machine.livepatches() == []
    assert sync.check(machine.host()).verdict == Verdict.HELD_BACK


def test_another_update_while_it_is_watched(machine, made: SimulatedRepository):
    """It does nothing and says why; the newer livepatch comes after the watch."""
    seen = []
    at(machine, 60, lambda: (made.publish(2), seen.append(sync.update(machine.host()))))
    assert sync.update(machine.host(soak=900)).applied
    assert (seen[0].applied, seen[0].decision.verdict) == (False, Verdict.SOAKING)
    assert machine.livepatches() == ["kmend_1"]
    assert sync.update(machine.host()).decision.offered == 2


def test_an_unexpected_reboot_while_it_is_watched(machine):
    """It is not loaded again, and status says so."""
    at(machine, 60, killed)
    with pytest.raises(KilledError):
        sync.update(machine.host(soak=900))
    machine.boot(2)
    assert sync.update(machine.host()).decision.verdict == Verdict.HELD_BACK
    found = view.status(machine.host())
    assert "went down unexpectedly while livepatch 1 was being watched" in found.note
    assert found.quarantined[0].reason == found.note


@pytest.mark.parametrize(("down", "verdict"), [(True, Verdict.AVAILABLE), (False, Verdict.HELD_BACK)])
def test_an_orderly_reboot_while_it_is_watched(machine, down, verdict):
    """When systemd was shutting down it is loaded and watched anew; stopping only the unit leaves no such mark."""
    at(machine, 60, interrupted)
    with pytest.raises(KeyboardInterrupt):
        sync.update(machine.host(soak=900))
    machine.around.down = down
    assert watching.note_shutdown(machine.host()) is down
    machine.boot(2)
    machine.around.down = False
    assert sync.check(machine.host()).verdict == verdict
    if down:
        assert "shut down in order while livepatch 1" in view.status(machine.host()).note
        assert sync.update(machine.host()).applied


def test_an_orderly_mark_counts_for_its_own_boot_only(machine):
    """A mark of an earlier boot does not excuse a panic."""
    machine.around.down = True
    watching.note_shutdown(machine.host())
    machine.boot(2)
    at(machine, 60, killed)
    with pytest.raises(KilledError):
        sync.update(machine.host(soak=900))
    machine.boot(3)
    assert sync.check(machine.host()).verdict == Verdict.HELD_BACK


def test_systemd_that_does_not_answer_leaves_no_mark(machine):
    """Could not tell is not an orderly shutdown."""
    machine.around.down = None
    assert watching.note_shutdown(machine.host()) is None
    assert not machine.host().paths.orderly.exists()
