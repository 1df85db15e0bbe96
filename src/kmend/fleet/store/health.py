"""How the hosts of a rollout are doing, counted in the database; and the judgement that follows, kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from kmend.fleet.rollout import judge
from kmend.fleet.store.choose import below_target, count_each, heard_since, in_open_waves, taking_part
from kmend.fleet.store.log import add_event
from kmend.fleet.store.rollouts import save_rollout
from kmend.fleet.store.tables import BLOCKS, HOSTS, PARTS, TARGETS
from kmend.fleet.store.webhooks import add_notice
from kmend.model.fleet import EventKind
from kmend.model.rollout import IN_FLIGHT, Health, Rollout, RolloutState, Stage, Tally
from kmend.model.webhook import Happening

_IN_FLIGHT = [stage.value for stage in IN_FLIGHT]
_TOLD_AS = {RolloutState.STOPPED: Happening.STOPPED, RolloutState.FINISHED: Happening.FINISHED}
_TROUBLES = {"failed": HOSTS.c.failed, "quarantined": HOSTS.c.quarantined, "rebooted": HOSTS.c.rebooted}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grace:
    """Time to report: after an outage, or when the clock was set, nobody falls silent for a while."""

    silent_before: datetime
    """Who was heard last before this moment was silent already."""
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """The moment of counting, and how long a host may say nothing before it counts as silent."""

    now: datetime
    silence: timedelta
    grace: Grace | None = None

    @property
    def silent_before(self) -> datetime:
        """A host that was heard last before this moment is silent."""
        usual = self.now - self.silence
        if self.grace is None or self.now >= self.grace.until:
            return usual
        return min(usual, self.grace.silent_before)


def count_in_flight(connection: sa.Connection, rollout_id: str, hearing: Hearing) -> int:
    """How many hosts are loading or watching; silent ones do not count."""
    wanted = (
        sa.select(sa.func.count())
        .select_from(PARTS.join(HOSTS, HOSTS.c.id == PARTS.c.host_id))
        .where(PARTS.c.rollout_id == rollout_id, PARTS.c.stage.in_(_IN_FLIGHT), heard_since(hearing.silent_before))
    )
    return int(connection.execute(wanted).scalar_one())


def count_health(connection: sa.Connection, rollout: Rollout, hearing: Hearing) -> Health:
    """How the hosts of a rollout are doing now."""
    last = sa.func.max(PARTS.c.changed, type_=PARTS.c.changed.type).label("last")
    mine = (PARTS.c.rollout_id == rollout.id, PARTS.c.stage == Stage.DONE.value)
    done = connection.execute(sa.select(sa.func.count().label("hosts"), last).where(*mine)).one()
    return Health(
        updated=_updated(connection, rollout, hearing),
        waiting=_waiting(connection, rollout, hearing),
        in_flight=count_in_flight(connection, rollout.id, hearing),
        pending=_pending(connection, rollout, hearing),
        done=done.hosts,
        settled=done.last,
    )


def judge_now(connection: sa.Connection, rollout: Rollout, hearing: Hearing) -> Rollout:
    """Count, judge and keep the judgement; the caller has locked the rollout."""
    return keep_judgement(connection, rollout, count_health(connection, rollout, hearing), hearing)


def keep_judgement(connection: sa.Connection, rollout: Rollout, health: Health, hearing: Hearing) -> Rollout:
    """Judge by what was counted, and keep it; the caller has locked the rollout."""
    now = hearing.now
    judged = judge(rollout, health, now=now)
    after = replace(
        rollout,
        health=health,
        judged=now,
        state=judged.state,
        wave=judged.wave,
        reason=judged.because,
        wave_opened=now if judged.wave != rollout.wave else rollout.wave_opened,
    )
    save_rollout(connection, after)
    if (after.state, after.wave) != (rollout.state, rollout.wave):
        text = f"rollout “{rollout.plan.name}”: {judged.because}"
        add_event(connection, EventKind.ROLLOUT, text, now=now, rollout=rollout.id)
        add_notice(connection, _TOLD_AS.get(after.state, Happening.WAVE), text, now=now, rollout=rollout.id)
    return after


def _updated(connection: sa.Connection, rollout: Rollout, hearing: Hearing) -> Tally:
    """Hosts that were offered the livepatch, with their troubles since."""
    since = rollout.counted_from
    troubles = {
        name: sa.and_(column >= since, column >= PARTS.c.offered, column.is_not(None))
        for name, column in _TROUBLES.items()
    }
    together = PARTS.join(HOSTS, HOSTS.c.id == PARTS.c.host_id)
    mine = (PARTS.c.rollout_id == rollout.id, PARTS.c.offered.is_not(None))
    return _tally(connection, _counts(troubles, rollout, hearing).select_from(together).where(*mine))


def _waiting(connection: sa.Connection, rollout: Rollout, hearing: Hearing) -> Tally:
    """Hosts that take part and were not offered the livepatch yet, with their troubles since the rollout began."""
    offered = sa.exists().where(
        PARTS.c.rollout_id == rollout.id, PARTS.c.host_id == HOSTS.c.id, PARTS.c.offered.is_not(None)
    )
    troubles = {name: column >= rollout.counted_from for name, column in _TROUBLES.items()}
    wanted = _counts(troubles, rollout, hearing).select_from(HOSTS)
    return _tally(connection, wanted.where(taking_part(rollout.plan), ~offered))


def _pending(connection: sa.Connection, rollout: Rollout, hearing: Hearing) -> int:
    """Hosts of the open waves that have not settled."""
    mine = sa.and_(PARTS.c.host_id == HOSTS.c.id, PARTS.c.rollout_id == rollout.id)
    stage = sa.func.coalesce(PARTS.c.stage, Stage.WAITING.value)
    waits = sa.and_(
        stage == Stage.WAITING.value, below_target(rollout.plan), in_open_waves(rollout), ~_blocked(rollout)
    )
    wanted = (
        sa.select(sa.func.count())
        .select_from(HOSTS.outerjoin(PARTS, mine))
        .where(taking_part(rollout.plan), heard_since(hearing.silent_before))
        .where(sa.or_(stage.in_(_IN_FLIGHT), waits))
    )
    return int(connection.execute(wanted).scalar_one())


def _blocked(rollout: Rollout) -> sa.ColumnElement[bool]:
    """Hosts whose kernel is not to have the livepatch, because it is blocked: they do not wait for it."""
    target = sa.and_(TARGETS.c.build_id == BLOCKS.c.build_id, TARGETS.c.number == BLOCKS.c.number)
    return sa.exists().where(TARGETS.c.rollout_id == rollout.id, target, BLOCKS.c.build_id == HOSTS.c.build_id)


def _counts(troubles: Mapping[str, sa.ColumnElement[bool]], rollout: Rollout, hearing: Hearing) -> sa.Select[Any]:
    """Counts of hosts; one that was silent before counting began does not count as fallen silent."""
    at_first = rollout.counted_from - hearing.silence
    silent = sa.and_(HOSTS.c.seen < hearing.silent_before, HOSTS.c.seen >= at_first)
    sums = {**troubles, "silent": silent}
    return count_each({"hosts": sa.true(), **sums})


def _tally(connection: sa.Connection, wanted: sa.Select[Any]) -> Tally:
    row = connection.execute(wanted).one()
    return Tally(
        hosts=int(row.hosts),
        failed=int(row.failed),
        quarantined=int(row.quarantined),
        rebooted=int(row.rebooted),
        silent=int(row.silent),
    )
