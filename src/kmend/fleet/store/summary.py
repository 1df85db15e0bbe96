"""The fleet at a glance, counted in the database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from kmend.fleet.store.choose import count_each, heard_since
from kmend.fleet.store.health import Hearing
from kmend.fleet.store.tables import HOSTS, LOOKS, PARTS, ROLLOUTS
from kmend.model.finding import Severity
from kmend.model.protocol import FleetSummary
from kmend.model.rollout import IN_FLIGHT, Stage, Target


def summary(connection: sa.Connection, hearing: Hearing) -> FleetSummary:
    """How many hosts stand how."""
    heard = heard_since(hearing.silent_before)
    counts = {"silent": ~heard, "safe": sa.and_(heard, HOSTS.c.running.is_not(None))}
    row = connection.execute(count_each({"hosts": sa.true(), **counts}).select_from(HOSTS)).one()
    by_state = sa.select(ROLLOUTS.c.state, sa.func.count().label("many")).group_by(ROLLOUTS.c.state)
    states = connection.execute(by_state)
    seen = {"all": sa.true(), "failing": LOOKS.c.worst >= Severity.HIGH.rank, "exposed": LOOKS.c.reachable > 0}
    looks = connection.execute(count_each(seen).select_from(LOOKS)).one()
    return FleetSummary(
        hosts=int(row.hosts),
        silent=int(row.silent),
        safe=int(row.safe),
        soaking=_hosts_at(connection, IN_FLIGHT, heard),
        troubled=_hosts_at(connection, {Stage.TROUBLED}, sa.true()),
        rollouts={row.state: row.many for row in states},
        looked_at=int(looks.all),
        failing=int(looks.failing),
        exposed=int(looks.exposed),
    )


def _hosts_at(connection: sa.Connection, stages: Collection[Stage], which: sa.ColumnElement[bool]) -> int:
    """How many hosts stand at one of some stages, in any rollout."""
    wanted = (
        sa.select(sa.func.count(PARTS.c.host_id.distinct()))
        .select_from(PARTS.join(HOSTS, HOSTS.c.id == PARTS.c.host_id))
        .where(PARTS.c.stage.in_(sorted(stages)), which)
    )
    return int(connection.execute(wanted).scalar_one())


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


def hosts_running(connection: sa.Connection, livepatches: Iterable[Target]) -> int:
    """How many hosts run one of these livepatches now."""
    wanted = {(one.build_id, one.number) for one in livepatches}
    return sum(one.hosts for one in running_counts(connection) if (one.build_id, one.number) in wanted)


def stage_counts(connection: sa.Connection, rollout_ids: Sequence[str]) -> Sequence[StageCount]:
    """Where hosts stand in some rollouts."""
    what = (PARTS.c.rollout_id, PARTS.c.stage)
    wanted = sa.select(*what, sa.func.count().label("hosts")).where(PARTS.c.rollout_id.in_(rollout_ids))
    return [
        StageCount(rollout=row.rollout_id, stage=Stage(row.stage), hosts=row.hosts)
        for row in connection.execute(wanted.group_by(*what).order_by(*what))
    ]
