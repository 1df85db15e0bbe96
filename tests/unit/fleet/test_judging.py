"""Rollouts are judged beside the check-ins, too."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from kmend.fleet import acts, judging
from kmend.fleet.store.health import Hearing
from kmend.fleet.store.rollouts import find_rollout, save_rollout
from kmend.kit.errors import MachineError
from kmend.model.rollout import RolloutState, Wave
from makers.agents import SILENCE, SimulatedFleet
from makers.fleet import make_plan


def begun(database, **more):
    """A fleet that has taken the first wave."""
    fleet = SimulatedFleet(database, hosts=8, **more)
    fleet.turn()
    with database.writing() as connection:
        plan = make_plan(3, waves=(Wave(percent=30, soak=0), Wave()))
        rollout = acts.create_rollout(connection, plan, acts.Actor(name="me", now=fleet.now))
    return fleet, rollout


def listens(database, begin, time):
    """A server runs for a while."""
    for part in range(1, 5):
        judging.judge_due(database, Hearing(now=begin + part * time / 4, silence=SILENCE))


def now_of(database, rollout):
    """The rollout as it is kept."""
    with database.reading() as connection:
        return find_rollout(connection, rollout.id)


def test_hosts_that_fall_silent_stop_a_rollout_without_any_check_in(database):
    """When nobody reports any more there is nobody else to notice."""
    fleet, rollout = begun(database, takes="vanishes")
    fleet.turn()
    listens(database, fleet.now, SILENCE)
    later = Hearing(now=fleet.now + SILENCE + timedelta(seconds=1), silence=SILENCE)
    for agent in fleet.agents:
        if not agent.gone:
            fleet.now = later.now
            agent.report = replace(agent.report, held="not now")
            fleet.check_in(agent)
    with database.writing() as connection:
        save_rollout(connection, replace(now_of(database, rollout), state=RolloutState.RUNNING, judged=None))
    assert judging.judge_due(database, later) == 1
    assert "fell silent" in now_of(database, rollout).reason


def test_what_was_judged_just_now_is_left_alone(sqlite):
    """So replicas share the work; two seconds later it is due again."""
    fleet, rollout = begun(sqlite)
    hearing = Hearing(now=fleet.now, silence=SILENCE)
    assert judging.judge_due(sqlite, hearing) == 1
    assert judging.judge_due(sqlite, hearing) == 0
    assert judging.judge_due(sqlite, replace(hearing, now=fleet.now + judging.EVERY)) == 1
    with sqlite.writing() as connection:
        acts.pause_rollout(connection, rollout.id, acts.Actor(name="me", now=fleet.now))
    assert judging.judge_due(sqlite, replace(hearing, now=fleet.now + timedelta(hours=1))) == 0


def test_a_count_that_somebody_overtook_is_not_kept(sqlite, monkeypatch):
    """A person paused the rollout while it was counted: it stays paused."""
    fleet, rollout = begun(sqlite)

    def slow_count(*_):
        with sqlite.writing() as connection:
            acts.pause_rollout(connection, rollout.id, acts.Actor(name="me", now=fleet.now))
        return rollout.health

    monkeypatch.setattr(judging, "count_health", slow_count)
    assert judging.judge_due(sqlite, Hearing(now=fleet.now, silence=SILENCE)) == 0
    assert now_of(sqlite, rollout).state == RolloutState.PAUSED


def test_it_goes_on_when_something_fails(sqlite, monkeypatch, caplog):
    """A database that is away, or a fault: it is logged, and the next round comes."""
    rounds = []
    errors = [MachineError("away"), ZeroDivisionError()]

    def fails(*_):
        rounds.append(1)
        if errors:
            raise errors.pop(0)

    monkeypatch.setattr(judging, "judge_due", fails)
    monkeypatch.setattr(judging, "EVERY", timedelta(0))
    monkeypatch.setattr(judging, "_SHARE", 0)

    async def a_while():
        task = asyncio.create_task(judging.keep_judging(sqlite, lambda: None))
        while len(rounds) < 3:  # noqa: ASYNC110 - what counts comes from a thread
            await asyncio.sleep(0.005)
        task.cancel()

    asyncio.run(asyncio.wait_for(a_while(), 60))
    assert "away" in caplog.text
    assert "could not be judged" in caplog.text
