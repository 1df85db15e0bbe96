"""Whole rollouts with simulated agents, on SQLite and on PostgreSQL."""

import threading
from datetime import timedelta

import pytest

from kmend.fleet import acts
from kmend.fleet.rollout import share_of
from kmend.fleet.store.check_in import check_in
from kmend.fleet.store.database import open_database
from kmend.fleet.store.health import Hearing
from kmend.fleet.store.log import audit, events
from kmend.fleet.store.rollouts import find_rollout
from kmend.model.fleet import EventKind, OfferAction
from kmend.model.rollout import BackTo, RolloutState, Target, Wave
from makers.agents import SILENCE, SimulatedFleet
from makers.fleet import make_plan, make_report
from makers.nouns import KERNEL, NOW, OTHER_KERNEL

THREE = (Wave(percent=5, soak=600), Wave(percent=30, soak=600), Wave(soak=600))


def begin(fleet, plan):
    """A rollout made now."""
    with fleet.database.writing() as connection:
        return acts.create_rollout(connection, plan, acts.Actor(name="token:me", now=fleet.now))


def state_of(fleet, rollout):
    """As the database has it."""
    with fleet.database.reading() as connection:
        return find_rollout(connection, rollout.id)


def test_a_rollout_goes_through_its_waves_and_finishes_by_itself(database):
    """No wave before the one before it is well, never more at a time than allowed, and everybody in the end."""
    fleet = SimulatedFleet(database, hosts=24)
    fleet.turn()
    rollout = begin(fleet, make_plan(3, waves=THREE, max_concurrent=4))
    shares = []
    for _ in range(60):
        fleet.turn()
        assert sum(agent.loading for agent in fleet.agents) <= 4
        shares.append(len(fleet.were_offered(3)))
        if state_of(fleet, rollout).state == RolloutState.FINISHED:
            break
    assert state_of(fleet, rollout).reason == "every wave is done: 24 hosts run the livepatch and are well"
    assert len(fleet.running(3)) == 24
    assert shares[0] < 4
    assert shares == sorted(shares)
    assert sum(share <= 12 for share in shares) >= 6
    with database.reading() as connection:
        told = [event.text for event in events(connection, rollout=rollout.id, most=1000)]
    assert sum("was offered livepatch 3" in text for text in told) == 24
    assert sum("wave 2 of 3 began" in text for text in told) == 1


@pytest.mark.parametrize(
    ("takes", "because"),
    [
        ("warns", "quarantined it"),
        ("fails", "did not load it"),
        ("dies", "quarantined it"),
        ("vanishes", "fell silent"),
    ],
)
def test_a_bad_livepatch_stops_at_the_canary(database, takes, because):
    """Whatever kind of trouble it makes: the rollout stops by itself and no other host is ever offered it."""
    fleet = SimulatedFleet(database, hosts=30, takes=takes)
    fleet.turn()
    rollout = begin(fleet, make_plan(3, waves=THREE))
    for _ in range(12):
        fleet.turn()
    now = state_of(fleet, rollout)
    assert now.state == RolloutState.STOPPED
    assert because in now.reason
    assert 1 <= len(fleet.were_offered(3)) <= 4
    assert "stopped by itself" in fleet.agents[-1].offers[-1].because or fleet.agents[-1].gone


def test_a_stopped_rollout_goes_on_when_somebody_looked(database):
    """Resuming counts troubles anew; the troubled host keeps its quarantine."""
    fleet = SimulatedFleet(database, hosts=10)
    fleet.turn()
    first = min(fleet.agents, key=lambda agent: share_of(agent.id))
    first.takes = "warns"
    rollout = begin(fleet, make_plan(3, waves=(Wave(percent=40, soak=0), Wave(soak=0))))
    for _ in range(5):
        fleet.turn()
    assert state_of(fleet, rollout).state == RolloutState.STOPPED
    with database.writing() as connection:
        acts.resume_rollout(connection, rollout.id, acts.Actor(name="token:me", now=fleet.now), reason="bad disk")
    for _ in range(12):
        fleet.turn()
    assert state_of(fleet, rollout).state == RolloutState.FINISHED
    assert fleet.running(3) == {agent.id for agent in fleet.agents} - {first.id}


def test_a_network_that_is_down_for_all_stops_nothing(database):
    """Hosts of both kinds fall silent and come back; the rollout goes on."""
    fleet = SimulatedFleet(database, hosts=20)
    fleet.turn()
    rollout = begin(fleet, make_plan(3, waves=(Wave(percent=30, soak=3600), Wave(soak=0))))
    for _ in range(3):
        fleet.turn()
    updated = fleet.were_offered(3)
    for group in (True, False):
        alike = [agent for agent in fleet.agents if (agent.id in updated) is group]
        for agent in alike[: len(alike) // 2]:
            agent.gone = True
    for _ in range(6):
        fleet.turn()
    for agent in fleet.agents:
        agent.gone = False
    for _ in range(20):
        fleet.turn()
    assert state_of(fleet, rollout).state == RolloutState.FINISHED


def test_a_rollback_reaches_running_hosts(database):
    """Back to the number that it names; the number that was rolled back is never offered again."""
    fleet = SimulatedFleet(database, hosts=6)
    for number in (2, 3):
        begin(fleet, make_plan(number, waves=(Wave(soak=0),)))
        for _ in range(4):
            fleet.turn()
    rollout = begin(fleet, make_plan(4, waves=(Wave(soak=0),)))
    for _ in range(2):
        fleet.turn()
    back = BackTo(build_id=KERNEL.build_id, number=2)
    with database.writing() as connection:
        actor = acts.Actor(name="token:me", now=fleet.now)
        acts.roll_back(connection, rollout.id, actor, back_to=[back], reason="slow")
    with database.reading() as connection:
        assert [record.action for record in audit(connection)][:2] == ["block", "rollout-rollback"]
    fleet.turn()
    assert len(fleet.running(2)) == 6
    offered = {offer.number for agent in fleet.agents for offer in agent.offers[-1:]}
    assert offered == {2}
    for _ in range(4):
        fleet.turn()
    assert fleet.running(4) == set()


def test_two_kernels_and_labels(database):
    """Each kernel gets its own number, hosts that the selector leaves out get nothing."""
    fleet = SimulatedFleet(
        database, hosts=9, kernels=[KERNEL, OTHER_KERNEL], labels=lambda number: {"zone": "abc"[number % 3]}
    )
    fleet.turn()
    targets = (Target(build_id=KERNEL.build_id, number=3), Target(build_id=OTHER_KERNEL.build_id, number=7))
    waves = (Wave(selector="zone=a", soak=0), Wave(soak=0))
    rollout = begin(fleet, make_plan(3, livepatches=targets, selector="zone!=c", waves=waves))
    fleet.turn()
    assert fleet.were_offered(3) | fleet.were_offered(7) == {"host-000", "host-003", "host-006"}
    for _ in range(8):
        fleet.turn()
    assert state_of(fleet, rollout).state == RolloutState.FINISHED
    assert (len(fleet.running(3)), len(fleet.running(7))) == (3, 3)
    assert "no wave that takes this host" in fleet.agents[2].offers[-1].because


def test_a_canary_that_nobody_is_waits(database):
    """A label that no host has must not let the next wave begin."""
    fleet = SimulatedFleet(database, hosts=4)
    fleet.turn()
    rollout = begin(fleet, make_plan(3, waves=(Wave(selector="role=canary", soak=0), Wave())))
    for _ in range(6):
        fleet.turn()
    assert (state_of(fleet, rollout).wave, fleet.were_offered(3)) == (0, set())


def test_a_host_that_rebooted_into_another_kernel_does_not_hold_up_the_wave(database):
    """Its part in the rollout ends; the event says so."""
    fleet = SimulatedFleet(database, hosts=4)
    fleet.turn()
    rollout = begin(fleet, make_plan(3, waves=(Wave(soak=0),)))
    fleet.turn()
    fleet.agents[0].report = make_report(kernel=OTHER_KERNEL, boot_id="b-2")
    for _ in range(4):
        fleet.turn()
    assert state_of(fleet, rollout).state == RolloutState.FINISHED
    with database.reading() as connection:
        told = events(connection, host="host-000")
    assert EventKind.KERNEL in {event.kind for event in told}


def test_two_replicas_never_offer_one_place_twice(address):
    """Sixteen hosts check in at once at two servers; two may load at a time."""
    replicas = [open_database(address), open_database(address)]
    fleet = SimulatedFleet(replicas[0], hosts=16)
    fleet.turn()
    begin(fleet, make_plan(3, max_concurrent=2))
    hearing = Hearing(now=fleet.now + timedelta(minutes=5), silence=SILENCE)
    offers = []
    gate = threading.Barrier(16)

    def ask(index, agent):
        gate.wait()
        with replicas[index % 2].writing() as connection:
            offers.append(check_in(connection, agent.id, agent.report, hearing))

    threads = [threading.Thread(target=ask, args=pair) for pair in enumerate(fleet.agents)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for replica in replicas:
        replica.close()
    assert len(offers) == 16
    assert sum(offer.action == OfferAction.APPLY for offer in offers) == 2
    assert sum("2 of rollout" in offer.because for offer in offers) == 14


def test_a_second_rollout_for_the_same_kernel_has_to_wait(database):
    """The refusal names the one that is not over."""
    fleet = SimulatedFleet(database, hosts=1)
    first = begin(fleet, make_plan(3))
    with pytest.raises(acts.ConflictError, match=first.id):
        begin(fleet, make_plan(4))
    actor = acts.Actor(name="token:me", now=NOW)
    with database.writing() as connection:
        acts.pause_rollout(connection, first.id, actor, reason="lunch")
        with pytest.raises(acts.ConflictError, match="is paused: pause is not possible"):
            acts.pause_rollout(connection, first.id, actor)
        acts.abort_rollout(connection, first.id, actor)
    begin(fleet, make_plan(4))
    with database.writing() as connection, pytest.raises(acts.UnknownError):
        acts.abort_rollout(connection, "r0", actor)
    with database.reading() as connection:
        actions = [record.action for record in audit(connection)]
    assert actions == ["rollout-create", "rollout-abort", "rollout-pause", "rollout-create"]
