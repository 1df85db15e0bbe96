"""Where livepatches come from: pins, delays, the host's own copy."""

import shutil
from datetime import timedelta

import pytest

from kmend.agent import sync, view
from kmend.agent.decide import Verdict
from kmend.agent.settings import Settings, UpdatePolicy
from kmend.kit.errors import InputError, TrustError
from kmend.trust.refusal import Refusal
from makers.repository import SimulatedRepository, flip_bit

LOCAL = Settings(update_policy=UpdatePolicy.LOCAL)
LOCAL_FIRST = Settings(update_policy=UpdatePolicy.LOCAL_FIRST)


def test_a_pin_loads_an_earlier_one(machine, made):
    """With three in the channel, pin_number takes the second, and back to the first."""
    made.publish(2)
    made.publish(3)
    assert sync.update(machine.host(settings=Settings(pin_number=2))).decision.offered == 2
    assert machine.livepatches() == ["kmend_2"]
    assert sync.update(machine.host(settings=Settings(pin_number=1))).applied
    assert machine.livepatches() == ["kmend_1"]
    assert machine.modules() == ["kmend_1"]
    assert sync.check(machine.host(settings=Settings(pin_number=9))).verdict == Verdict.NOTHING_OFFERED


def test_a_delay_takes_the_newest_that_is_old_enough(machine, made):
    """The one of three days ago is loaded, not the one of an hour ago."""
    made.now -= timedelta(days=3)
    made.publish(2)
    made.now += timedelta(days=3, hours=-1)
    made.publish(3)
    delayed = Settings(delay_hours=24)
    assert sync.update(machine.host(settings=delayed)).decision.offered == 2
    assert machine.livepatches() == ["kmend_2"]
    machine.clock.seconds += 24 * 3600
    assert sync.update(machine.host(settings=delayed)).decision.offered == 3


def test_nothing_is_old_enough(machine):
    """The decision speaks of the newest, and says from when on."""
    decision = sync.check(machine.host(settings=Settings(delay_hours=24)))
    assert decision.verdict == Verdict.DELAYED
    assert decision.offered == 1


def test_a_date_takes_what_was_there_then(machine, made):
    """Nothing later than the pinned date."""
    made.now += timedelta(minutes=5)
    made.publish(2)
    pinned = Settings(pin_date=made.now - timedelta(minutes=1))
    assert sync.update(machine.host(settings=pinned)).decision.offered == 1


def test_settings_replace_channel_and_repository(machine, made, tmp_path):
    """The enrolment stays; what agent.toml names is used, under the same pinned root."""
    moved = made.copy("moved")
    shutil.rmtree(made.repo)
    settings = Settings(repository=str(moved), channel="edge")
    assert sync.check(machine.host(settings=settings)).verdict == Verdict.AVAILABLE
    found = view.info(machine.host(settings=settings))
    assert (found.repository, found.channel) == (str(moved), "edge")
    assert sync.check(machine.host(settings=Settings(repository=str(moved), channel="stable"))).verdict == (
        Verdict.NOTHING_OFFERED
    )
    other = SimulatedRepository(tmp_path / "other")
    with pytest.raises(TrustError):
        sync.check(machine.host(settings=Settings(repository=str(other.repo))))


def test_local_needs_a_copy(machine):
    """Without one it says how to get it."""
    with pytest.raises(InputError, match="no copy") as caught:
        sync.check(machine.host(settings=LOCAL))
    assert "kmend agent fetch" in caught.value.hint


def test_local_works_without_the_repository(machine, made):
    """What fetch has kept is verified and loaded; nothing newer is seen until the next fetch."""
    assert sync.fetch_copy(machine.host(settings=LOCAL)).verdict == Verdict.AVAILABLE
    assert machine.loaded == []
    made.publish(2)
    away = made.copy("away")
    shutil.rmtree(made.repo)
    assert sync.update(machine.host(settings=LOCAL)).decision.offered == 1
    shutil.copytree(away, made.repo)
    sync.fetch_copy(machine.host(settings=LOCAL))
    assert sync.update(machine.host(settings=LOCAL)).decision.offered == 2
    kept = [path.name for path in (machine.host().paths.copy / "targets").rglob("*.ko")]
    assert [name.partition(".")[2] for name in kept] == ["kmend_2.ko"]


def test_local_first_after_a_boot_without_network(machine, made):
    """The livepatch comes back from the copy; when the copy has nothing to load the repository is asked."""
    sync.update(machine.host(settings=LOCAL_FIRST))
    machine.boot(2)
    away = made.copy("away")
    shutil.rmtree(made.repo)
    assert sync.update(machine.host(settings=LOCAL_FIRST)).applied
    with pytest.raises(TrustError) as caught:
        sync.update(machine.host(settings=LOCAL_FIRST))
    assert caught.value.reason == Refusal.UNREACHABLE
    shutil.copytree(away, made.repo)
    made.publish(2)
    assert sync.update(machine.host(settings=LOCAL_FIRST)).decision.offered == 2


@pytest.mark.parametrize("policy", [LOCAL, LOCAL_FIRST])
def test_an_altered_copy_is_not_loaded(machine, made, policy):
    """The copy is trusted no more than any mirror; local-first goes on to the repository."""
    sync.fetch_copy(machine.host(settings=policy))
    flip_bit(next((machine.host().paths.copy / "targets").rglob("*.ko")))
    flip_bit(next((machine.host().paths.copy / "targets").rglob("*.entry.json")))
    if policy == LOCAL:
        with pytest.raises(TrustError) as caught:
            sync.update(machine.host(settings=policy))
        assert caught.value.reason == Refusal.ALTERED
        assert machine.loaded == []
    else:
        sync.update(machine.host(settings=policy))
        assert machine.loaded == [("kmend_1", made.module_path().read_bytes())]


def test_a_copy_with_a_pin(machine, made):
    """The copy holds what the pin asks for."""
    made.publish(2)
    settings = Settings(update_policy=UpdatePolicy.LOCAL, pin_number=1)
    sync.fetch_copy(machine.host(settings=settings))
    shutil.rmtree(made.repo)
    assert sync.update(machine.host(settings=settings)).decision.offered == 1
