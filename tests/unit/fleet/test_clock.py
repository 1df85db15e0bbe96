"""Outages of the server and clocks that are set: no host falls silent by them, and no trouble is overlooked."""

from datetime import timedelta

import pytest

from kmend.fleet import acts, judging
from kmend.fleet.store import tokens
from kmend.fleet.store.health import Hearing, count_in_flight
from kmend.fleet.store.rollouts import find_rollout
from kmend.model.rollout import RolloutState, Wave
from makers.agents import SILENCE, SimulatedFleet
from makers.fleet import make_plan
from makers.nouns import NOW

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def begun(database, *, hosts=6, **more):
    """A fleet in the middle of a rollout, and the rollout."""
    fleet = SimulatedFleet(database, hosts=hosts, **more)
    fleet.turn()
    with database.writing() as connection:
        plan = make_plan(3, waves=(Wave(soak=0),), max_concurrent=2)
        rollout = acts.create_rollout(connection, plan, acts.Actor(name="me", now=fleet.now))
    fleet.turn()
    return fleet, rollout


def judged(fleet, rollout):
    """The rollout after somebody judged it."""
    judging.judge_due(fleet.database, Hearing(now=fleet.now, silence=SILENCE))
    with fleet.database.reading() as connection:
        return find_rollout(connection, rollout.id)


def finish(fleet, rollout, turns=20):
    """The rollout after everybody checked in often enough."""
    for _ in range(turns):
        fleet.turn()
        assert sum(agent.loading for agent in fleet.agents if not agent.gone) <= 2
    return judged(fleet, rollout)


@pytest.mark.parametrize("away", [HOUR, DAY, -timedelta(minutes=10), -DAY, -400 * DAY])
def test_a_rollout_outlives_an_outage_and_a_clock_that_is_set(database, away):
    """No host lost its place by it, whoever comes back first; nobody is silent; and it goes on to the end."""
    fleet, rollout = begun(database)
    fleet.now += away
    assert judged(fleet, rollout).state == RolloutState.RUNNING
    idle = [agent for agent in fleet.agents if not agent.loading]
    for agent in idle:
        fleet.check_in(agent)
    assert sum(agent.loading for agent in fleet.agents) == 2
    with database.reading() as connection:
        assert count_in_flight(connection, rollout.id, Hearing(now=fleet.now, silence=3 * DAY)) == 2
    assert finish(fleet, rollout).state == RolloutState.FINISHED


def test_who_does_not_come_back_after_an_outage_is_silent(database):
    """Not at once, but when there was time enough."""
    fleet, rollout = begun(database)
    lost = next(agent for agent in fleet.agents if agent.loading)
    lost.gone = True
    fleet.now += HOUR
    states = []
    for _ in range(24):
        fleet.turn()
        states.append(judged(fleet, rollout).state)
    assert states[:12] == [RolloutState.RUNNING] * 12
    assert states[-1] == RolloutState.STOPPED
    assert "fell silent" in judged(fleet, rollout).reason


def test_who_was_silent_before_an_outage_is_silent_after_it(database):
    """Time to report is for those who lost it."""
    fleet, rollout = begun(database)
    lost = next(agent for agent in fleet.agents if agent.loading)
    lost.gone = True
    for _ in range(5):
        fleet.turn()
    assert "fell silent" in judged(fleet, rollout).reason
    fleet.now += HOUR
    with database.writing() as connection:
        actor = acts.Actor(name="me", now=fleet.now)
        acts.resume_rollout(connection, rollout.id, actor)
    assert finish(fleet, rollout).state == RolloutState.FINISHED


def test_trouble_after_the_clock_went_back_counts(database):
    """It is later than the offer, whatever the clock says."""
    fleet, rollout = begun(database, takes="warns")
    fleet.now -= DAY
    fleet.turn()
    fleet.turn()
    assert "quarantined it" in judged(fleet, rollout).reason


def test_a_lockout_ends_although_the_clock_went_back(database):
    """Nobody is locked out for longer than an hour."""
    with database.writing() as connection:
        for _ in range(10):
            tokens.note_failure(connection, "a", now=NOW)
        assert tokens.locked_until(connection, "a", now=NOW) is not None
        assert tokens.locked_until(connection, "a", now=NOW - DAY) is None
        for _ in range(10):
            tokens.note_failure(connection, "a", now=NOW - DAY)
        assert tokens.locked_until(connection, "a", now=NOW - DAY) is not None
