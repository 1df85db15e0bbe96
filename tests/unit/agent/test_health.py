"""How a host is, in the words of a Nagios plugin."""

from datetime import timedelta

import pytest

from kmend.agent import sync, view
from kmend.agent.decide import Verdict
from kmend.agent.health import Level, health, health_of_check, health_of_error
from kmend.kit.errors import InputError, MachineError, TrustError
from kmend.trust.refusal import Refusal
from makers.machine import FakeMachine
from makers.repository import flip_bit


def level(machine, *, later=timedelta(0)):
    """Level and reasons of a machine."""
    found = health(view.status(machine.host()), now=machine.clock.now() + later)
    return found.level, " / ".join(found.reasons)


def test_a_patched_host_is_well(machine):
    """Nothing to say, until a day has passed without a check."""
    sync.update(machine.host())
    assert level(machine) == (Level.OK, "")
    assert level(machine, later=timedelta(hours=25))[0] == Level.WARNING


def test_not_enrolled_and_never_looked(machine, tmp_path):
    """Both are warnings."""
    assert level(FakeMachine(tmp_path / "bare")) == (Level.WARNING, "not enrolled")
    assert level(machine) == (Level.WARNING, "the repository was never looked at")


def test_something_is_available(machine, made):
    """A warning until it is loaded."""
    sync.check(machine.host())
    assert level(machine) == (Level.WARNING, "livepatch 1 is available")
    sync.update(machine.host())
    assert level(machine)[0] == Level.OK


def test_a_quarantine_is_critical_until_something_newer_runs(machine, made):
    """And only a warning when a person unloaded it."""
    machine.log_on_load = ["BUG: unable to handle page fault for address: ffff"]
    with pytest.raises(MachineError):
        sync.update(machine.host())
    found, words = level(machine)
    assert found == Level.CRITICAL
    assert "livepatch 1 is held back: the kernel complained" in words
    machine.log_on_load = []
    made.publish(2)
    sync.update(machine.host())
    assert level(machine) == (Level.OK, "")
    sync.unload_now(machine.host(), hold=True)
    sync.check(machine.host())
    found, words = level(machine)
    assert "livepatch 2 is held back: unloaded by hand" in words


def test_a_tampered_repository_is_critical(machine, made):
    """The last success stays known beside the failure."""
    sync.check(machine.host())
    flip_bit(made.entry_path())
    with pytest.raises(TrustError):
        sync.check(machine.host())
    found, words = level(machine)
    assert found == Level.CRITICAL
    assert "the last check failed" in words
    last = view.status(machine.host()).last
    assert last.succeeded is not None
    assert last.succeeded < last.at
    assert (last.reason, last.offered) == ("altered", 1)


def test_other_warnings(machine):
    """A switch, somebody else's livepatch, and a kernel that says otherwise."""
    sync.update(machine.host())
    (machine.root / "etc/kmend/disabled").touch()
    machine.foreign("kpatch_1")
    machine.foreign("kmend_9")
    found, words = level(machine)
    assert found == Level.WARNING
    assert "disabled exists" in words
    assert "kpatch_1" in words
    assert "another livepatch than the agent remembers" in words


def test_every_verdict_has_a_level():
    """What the owner wants is fine; what needs a person is critical."""
    levels = {verdict: health_of_check(verdict) for verdict in Verdict}
    assert [verdict for verdict in Verdict if levels[verdict] == Level.CRITICAL] == [
        Verdict.HELD_BACK,
        Verdict.BLOCKED,
    ]
    assert levels[Verdict.AVAILABLE] == levels[Verdict.SWITCHED_OFF] == levels[Verdict.STALLED] == Level.WARNING


def test_errors():
    """Wrong signatures are critical; what could not be looked at is unknown."""
    assert health_of_error(TrustError("x", reason=Refusal.WRONG_KEY)) == Level.CRITICAL
    assert health_of_error(TrustError("x", reason=Refusal.UNREACHABLE)) == Level.UNKNOWN
    assert health_of_error(InputError("x")) == Level.UNKNOWN
