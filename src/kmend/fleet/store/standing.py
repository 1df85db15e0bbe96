"""How hosts stand, as the dashboard counts and lists them; every host is in one state only, the worst first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from kmend.fleet.store.choose import below_target, chosen_by, heard_since, taking_part
from kmend.fleet.store.health import Hearing
from kmend.fleet.store.rollouts import OPEN, rollouts
from kmend.fleet.store.tables import HOSTS, PARTS, ROLLOUTS, TARGETS
from kmend.model.rollout import IN_FLIGHT, Rollout, RolloutState, Stage

SHOWN_STATES = ("safe", "soaking", "pending", "refused", "quarantined", "silent", "bare")
_COUNT = (*OPEN, RolloutState.FINISHED.value)
"""An aborted rollout, and one that was rolled back, say nothing of a host any more."""
_MOST_OPEN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """How many hosts are in which state."""

    hosts: int
    safe: int
    """Run a livepatch and are done with watching it."""
    soaking: int
    """Were offered one, or load or watch it."""
    pending: int
    """An open rollout will bring them one."""
    refused: int
    """Cannot take what a rollout brings: switched off, pinned, or somebody else's livepatch."""
    quarantined: int
    """Failed to load it, or hold it back because they got worse with it."""
    silent: int
    """Not heard of for too long."""
    bare: int
    """Run no livepatch, and no open rollout would bring them one."""


def in_state(connection: sa.Connection, name: str, hearing: Hearing) -> sa.ColumnElement[bool]:
    """Hosts that are in a state, as a condition."""
    return _state(connection, hearing) == name


def glance(connection: sa.Connection, hearing: Hearing) -> Glance:
    """The counts of all states."""
    state = _state(connection, hearing).label("state")
    # Grouped, not summed up by tests: a test for each state would find out each host's state as often.
    wanted = sa.select(state, sa.func.count().label("many")).select_from(HOSTS).group_by(state)
    counts = {row.state: int(row.many) for row in connection.execute(wanted)}
    return Glance(hosts=sum(counts.values()), **{name: counts.get(name, 0) for name in SHOWN_STATES})


def wave_stages(connection: sa.Connection, rollout: Rollout) -> dict[int, dict[Stage, int]]:
    """For each wave how many hosts stand at which stage; a host counts in the first wave that takes it."""
    joins = zip(rollout.plan.waves, rollout.cuts, strict=True)
    takes = [
        (sa.and_(HOSTS.c.share < cut, chosen_by(wave.selector)), index) for index, (wave, cut) in enumerate(joins)
    ]
    wave = sa.case(*takes, else_=-1).label("wave")
    mine = sa.and_(PARTS.c.host_id == HOSTS.c.id, PARTS.c.rollout_id == rollout.id)
    stage = sa.func.coalesce(
        PARTS.c.stage, sa.case((below_target(rollout.plan), Stage.WAITING.value), else_=Stage.DONE.value)
    ).label("stage")
    each = (
        sa.select(wave, stage)
        .select_from(HOSTS.outerjoin(PARTS, mine))
        .where(taking_part(rollout.plan))
        .subquery()
    )
    wanted = sa.select(each.c.wave, each.c.stage, sa.func.count().label("hosts")).group_by(
        each.c.wave, each.c.stage
    )
    found: dict[int, dict[Stage, int]] = {}
    for row in connection.execute(wanted):
        found.setdefault(row.wave, {})[Stage(row.stage)] = row.hosts
    return found


def _state(connection: sa.Connection, hearing: Hearing) -> sa.ColumnElement[str]:
    """The state of a host: the first that fits."""
    plans = [one.plan for state in OPEN for one in rollouts(connection, state=state, most=_MOST_OPEN)]
    higher = TARGETS.c.number > sa.func.coalesce(HOSTS.c.running, 0)
    same = TARGETS.c.number >= sa.func.coalesce(HOSTS.c.running, 0)
    return sa.case(
        (~heard_since(hearing.silent_before), "silent"),
        (_stands_at({Stage.TROUBLED}, higher), "quarantined"),
        (_stands_at(IN_FLIGHT, same), "soaking"),
        (_stands_at({Stage.HELD}, higher), "refused"),
        (sa.or_(sa.false(), *(sa.and_(taking_part(plan), below_target(plan)) for plan in plans)), "pending"),
        (HOSTS.c.running.is_not(None), "safe"),
        else_="bare",
    )


def _stands_at(stages: Collection[Stage], number: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Hosts that stand so in a rollout that still counts, for the kernel that they run."""
    return (
        sa.exists()
        .where(PARTS.c.host_id == HOSTS.c.id, PARTS.c.stage.in_(sorted(stage.value for stage in stages)))
        .where(TARGETS.c.rollout_id == PARTS.c.rollout_id, TARGETS.c.build_id == HOSTS.c.build_id, number)
        .where(ROLLOUTS.c.id == PARTS.c.rollout_id, ROLLOUTS.c.state.in_(_COUNT))
        .correlate(HOSTS)
    )
