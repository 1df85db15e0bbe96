"""Rollouts, and the hosts' parts in them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from kmend.fleet.store.choose import taking_part
from kmend.fleet.store.tables import HOSTS, PARTS, ROLLOUTS, TARGETS
from kmend.model import wire
from kmend.model.protocol import RolloutHost
from kmend.model.rollout import BackTo, Health, Rollout, RolloutPlan, RolloutState, Stage

OPEN = (RolloutState.RUNNING.value, RolloutState.PAUSED.value, RolloutState.STOPPED.value)
"""While a rollout is in one of these states, no other one can bring a livepatch to the same kernel and channel."""
_MOST_PER_KERNEL = 20


def add_rollout(connection: sa.Connection, rollout: Rollout) -> None:
    """Keep a new rollout."""
    connection.execute(
        sa.insert(ROLLOUTS).values(id=rollout.id, channel=rollout.plan.channel, **_columns(rollout))
    )
    connection.execute(
        sa.insert(TARGETS),
        [
            {"rollout_id": rollout.id, "build_id": target.build_id, "number": target.number}
            for target in rollout.plan.livepatches
        ],
    )


def save_rollout(connection: sa.Connection, rollout: Rollout) -> None:
    """Keep how far a rollout has come; the caller has locked it."""
    connection.execute(sa.update(ROLLOUTS).where(ROLLOUTS.c.id == rollout.id).values(**_columns(rollout)))


def find_rollout(connection: sa.Connection, rollout_id: str, *, lock: bool = False) -> Rollout | None:
    """The rollout with an id; with ``lock`` nobody else changes it until the transaction ends."""
    wanted = sa.select(ROLLOUTS).where(ROLLOUTS.c.id == rollout_id)
    row = connection.execute(wanted.with_for_update() if lock else wanted).first()
    return _rollout(row) if row else None


def rollouts(
    connection: sa.Connection, *, state: str = "", before: tuple[datetime, str] | None = None, most: int = 100
) -> Sequence[Rollout]:
    """Rollouts, the newest first; ``before`` is when one was created, and its id."""
    wanted = sa.select(ROLLOUTS).order_by(ROLLOUTS.c.created.desc(), ROLLOUTS.c.id.desc()).limit(most)
    if state:
        wanted = wanted.where(ROLLOUTS.c.state == state)
    if before:
        at, rollout_id = before
        same = sa.and_(ROLLOUTS.c.created == at, ROLLOUTS.c.id < rollout_id)
        wanted = wanted.where(sa.or_(ROLLOUTS.c.created < at, same))
    return [_rollout(row) for row in connection.execute(wanted)]


def rollouts_for(connection: sa.Connection, *, channel: str, build_id: str) -> Sequence[Rollout]:
    """The rollouts that matter to a host: of its channel, for its kernel, highest numbers first."""
    wanted = (
        sa.select(ROLLOUTS)
        .join(TARGETS, TARGETS.c.rollout_id == ROLLOUTS.c.id)
        .where(ROLLOUTS.c.channel == channel, TARGETS.c.build_id == build_id)
        .where(ROLLOUTS.c.state != RolloutState.ABORTED.value)
        .order_by(TARGETS.c.number.desc(), ROLLOUTS.c.created.desc())
        .limit(_MOST_PER_KERNEL)
    )
    return [_rollout(row) for row in connection.execute(wanted)]


def rollouts_of(connection: sa.Connection, *, build_id: str, number: int) -> Sequence[Rollout]:
    """The rollouts that bring a livepatch, the newest first."""
    wanted = (
        sa.select(ROLLOUTS)
        .join(TARGETS, TARGETS.c.rollout_id == ROLLOUTS.c.id)
        .where(TARGETS.c.build_id == build_id, TARGETS.c.number == number)
        .order_by(ROLLOUTS.c.created.desc())
        .limit(_MOST_PER_KERNEL)
    )
    return [_rollout(row) for row in connection.execute(wanted)]


def open_rollout_for(connection: sa.Connection, *, channel: str, build_ids: Sequence[str]) -> Rollout | None:
    """A rollout that is not over and brings a livepatch to one of the kernels."""
    wanted = (
        sa.select(ROLLOUTS)
        .join(TARGETS, TARGETS.c.rollout_id == ROLLOUTS.c.id)
        .where(ROLLOUTS.c.channel == channel, ROLLOUTS.c.state.in_(OPEN), TARGETS.c.build_id.in_(build_ids))
        .limit(1)
    )
    row = connection.execute(wanted).first()
    return _rollout(row) if row else None


def candidates(connection: sa.Connection, plan: RolloutPlan) -> Sequence[tuple[int, dict[str, str]]]:
    """Share and labels of every host that a plan is for now."""
    wanted = sa.select(HOSTS.c.share, HOSTS.c.labels).where(taking_part(plan))
    return [
        (row.share, wire.load(dict[str, str], row.labels, what="labels")) for row in connection.execute(wanted)
    ]


def parts(
    connection: sa.Connection, rollout_id: str, *, stage: str = "", after: str = "", most: int = 100
) -> Sequence[RolloutHost]:
    """Where hosts stand in a rollout, in the order of their ids, beginning after one."""
    wanted = (
        sa.select(HOSTS.c.id, HOSTS.c.name, PARTS.c.stage, PARTS.c.changed)
        .join(HOSTS, HOSTS.c.id == PARTS.c.host_id)
        .where(PARTS.c.rollout_id == rollout_id, PARTS.c.host_id > after)
        .order_by(PARTS.c.host_id)
        .limit(most)
    )
    wanted = wanted.where(PARTS.c.stage == stage) if stage else wanted
    return [
        RolloutHost(host=row.id, name=row.name, stage=Stage(row.stage), changed=row.changed)
        for row in connection.execute(wanted)
    ]


def stages_of(connection: sa.Connection, host_ids: Collection[str]) -> dict[str, dict[str, Stage]]:
    """Host id → rollout id → where the host stands in it."""
    wanted = sa.select(PARTS.c.host_id, PARTS.c.rollout_id, PARTS.c.stage)
    found: dict[str, dict[str, Stage]] = {host_id: {} for host_id in host_ids}
    for row in connection.execute(wanted.where(PARTS.c.host_id.in_(sorted(host_ids)))):
        found[row.host_id][row.rollout_id] = Stage(row.stage)
    return found


def set_stage(
    connection: sa.Connection, rollout_id: str, host_id: str, *, stage: Stage, now: datetime, offer: bool = False
) -> None:
    """Keep where a host stands; with ``offer`` this is also when it was offered the livepatch."""
    mine = (PARTS.c.rollout_id == rollout_id, PARTS.c.host_id == host_id)
    values: dict[str, Any] = {"stage": stage.value, "changed": now}
    if offer:
        values["offered"] = now
    done = connection.execute(sa.update(PARTS).where(*mine).values(**values))
    if not done.rowcount:
        connection.execute(sa.insert(PARTS).values(rollout_id=rollout_id, host_id=host_id, **values))


def _columns(rollout: Rollout) -> dict[str, Any]:
    return {
        "plan": wire.dump(rollout.plan),
        "cuts": wire.dump(rollout.cuts),
        "state": rollout.state.value,
        "reason": rollout.reason,
        "wave": rollout.wave,
        "wave_opened": rollout.wave_opened,
        "created": rollout.created,
        "counted_from": rollout.counted_from,
        "back_to": wire.dump(rollout.back_to),
        "health": wire.dump(rollout.health),
        "judged": rollout.judged,
    }


def _rollout(row: sa.Row[Any]) -> Rollout:
    what = f"rollout {row.id}"
    return Rollout(
        id=row.id,
        plan=wire.load(RolloutPlan, row.plan, what=what),
        cuts=wire.load(tuple[int, ...], row.cuts, what=what),
        state=RolloutState(row.state),
        reason=row.reason,
        wave=row.wave,
        wave_opened=row.wave_opened,
        created=row.created,
        counted_from=row.counted_from,
        back_to=wire.load(tuple[BackTo, ...], row.back_to, what=what),
        health=wire.load(Health, row.health, what=what),
        judged=row.judged,
    )
