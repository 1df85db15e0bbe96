"""The fleet at a glance, counted in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from kmend.fleet.store.choose import count_each, heard_since
from kmend.fleet.store.health import Hearing
from kmend.fleet.store.tables import HOSTS, PARTS, ROLLOUTS
from kmend.model.protocol import FleetSummary
from kmend.model.rollout import IN_FLIGHT, Stage


def summary(connection: sa.Connection, hearing: Hearing) -> FleetSummary:
    """How many hosts stand how."""
    heard = heard_since(hearing.silent_before)
    in_stage = sa.select(PARTS.c.host_id).where(PARTS.c.host_id == HOSTS.c.id)
    soaking = sa.exists(in_stage.where(PARTS.c.stage.in_([stage.value for stage in IN_FLIGHT])))
    troubled = sa.exists(in_stage.where(PARTS.c.stage == Stage.TROUBLED.value))
    counts = {
        "silent": ~heard,
        "safe": sa.and_(heard, HOSTS.c.running.is_not(None)),
        "soaking": sa.and_(heard, soaking),
        "troubled": troubled,
    }
    row = connection.execute(count_each({"hosts": sa.true(), **counts}).select_from(HOSTS)).one()
    by_state = sa.select(ROLLOUTS.c.state, sa.func.count().label("many")).group_by(ROLLOUTS.c.state)
    states = connection.execute(by_state)
    return FleetSummary(
        hosts=int(row.hosts),
        silent=int(row.silent),
        safe=int(row.safe),
        soaking=int(row.soaking),
        troubled=int(row.troubled),
        rollouts={row.state: row.many for row in states},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCount:
    """How many hosts with one kernel run one livepatch, or none."""

    build_id: str
    number: int | None
    hosts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCount:
    """How many hosts stand at one stage of one rollout."""

    rollout: str
    stage: Stage
    hosts: int


def running_counts(connection: sa.Connection) -> Sequence[RunningCount]:
    """What the fleet runs; hosts that have not reported yet are left out."""
    what = (HOSTS.c.build_id, HOSTS.c.running)
    wanted = sa.select(*what, sa.func.count().label("hosts")).where(HOSTS.c.build_id.is_not(None)).group_by(*what)
    counted = [
        RunningCount(build_id=row.build_id, number=row.running, hosts=row.hosts)
        for row in connection.execute(wanted)
    ]
    return sorted(counted, key=lambda one: (one.build_id, one.number or 0))


def stage_counts(connection: sa.Connection, rollout_ids: Sequence[str]) -> Sequence[StageCount]:
    """Where hosts stand in some rollouts."""
    what = (PARTS.c.rollout_id, PARTS.c.stage)
    wanted = sa.select(*what, sa.func.count().label("hosts")).where(PARTS.c.rollout_id.in_(rollout_ids))
    return [
        StageCount(rollout=row.rollout_id, stage=Stage(row.stage), hosts=row.hosts)
        for row in connection.execute(wanted.group_by(*what).order_by(*what))
    ]
