"""Webhooks, and the notices on their way: written down in the transaction that they tell of, so none gets lost."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from kmend.fleet.store.tables import DELIVERIES, WEBHOOKS
from kmend.model import wire
from kmend.model.webhook import Delivery, DeliveryState, Happening, Notice, Webhook

_log = logging.getLogger(__name__)
MOST_WAITING = 1000
"""Notices that wait for one webhook; what comes on top is only an event."""
CLAIM = timedelta(seconds=60)
"""A server that took a notice and did not say what came of it has died; another one takes it then."""
_WAITS = (10, 60, 300, 1800, 7200, 21600, 43200)
"""Seconds before the second and each further attempt: a day in all."""
_AT_A_TIME = 2
"""Notices for one webhook that are sent at the same moment: a slow receiver does not hold up the others."""
_KEPT = timedelta(days=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A notice that this server is to send now, and nobody else."""

    id: int
    url: str
    secret: str
    notice: Notice
    tries: int
    """Before this one."""


def add_webhook(connection: sa.Connection, webhook: Webhook) -> str:
    """Keep a new webhook; its secret, which is the key of the signatures."""
    secret = secrets.token_hex(32)
    connection.execute(
        sa.insert(WEBHOOKS).values(
            id=webhook.id,
            name=webhook.name,
            url=webhook.url,
            secret=secret,
            happenings=wire.dump(webhook.happenings),
            created=webhook.created,
        )
    )
    return secret


def webhooks(connection: sa.Connection) -> Sequence[Webhook]:
    """All webhooks, the newest first."""
    wanted = sa.select(WEBHOOKS).order_by(WEBHOOKS.c.created.desc(), WEBHOOKS.c.id)
    return [_webhook(row) for row in connection.execute(wanted)]


def find_webhook(connection: sa.Connection, webhook_id: str) -> Webhook | None:
    """The webhook with an id."""
    row = connection.execute(sa.select(WEBHOOKS).where(WEBHOOKS.c.id == webhook_id)).first()
    return _webhook(row) if row else None


def remove_webhook(connection: sa.Connection, webhook_id: str) -> bool:
    """Forget a webhook and what waits for it; whether there was one."""
    return bool(connection.execute(sa.delete(WEBHOOKS).where(WEBHOOKS.c.id == webhook_id)).rowcount)


def add_notice(
    connection: sa.Connection, happening: Happening, text: str, *, now: datetime, host: str = "", rollout: str = ""
) -> None:
    """Tell every webhook that wants to know; it is sent after the transaction."""
    for one in webhooks(connection):
        if not one.happenings or happening in one.happenings:
            notice = Notice(
                id=f"n{secrets.token_hex(8)}", happening=happening, at=now, text=text, host=host, rollout=rollout
            )
            queue(connection, one, notice)


def queue(connection: sa.Connection, webhook: Webhook, notice: Notice) -> Delivery | None:
    """Let a notice wait for its webhook; None when too many do."""
    waiting = sa.select(sa.func.count()).where(
        DELIVERIES.c.webhook_id == webhook.id, DELIVERIES.c.state == DeliveryState.WAITING.value
    )
    if connection.execute(waiting).scalar_one() >= MOST_WAITING:
        _log.warning("webhook %s: %d notices wait, so %s is not sent", webhook.id, MOST_WAITING, notice.happening)
        return None
    values: dict[str, Any] = {"state": DeliveryState.WAITING.value, "tries": 0, "due": notice.at, "error": ""}
    done = connection.execute(
        sa.insert(DELIVERIES).values(webhook_id=webhook.id, notice=wire.dump(notice), **values)
    )
    [number] = done.inserted_primary_key or (0,)
    return find_delivery(connection, number)


def find_delivery(connection: sa.Connection, number: int) -> Delivery | None:
    """The delivery with an id."""
    row = connection.execute(sa.select(DELIVERIES).where(DELIVERIES.c.id == number)).first()
    return _delivery(row) if row else None


def deliveries(
    connection: sa.Connection, webhook_id: str, *, before: int | None = None, most: int = 100
) -> Sequence[Delivery]:
    """What was sent to a webhook or waits for it, the newest first."""
    wanted = sa.select(DELIVERIES).where(DELIVERIES.c.webhook_id == webhook_id).order_by(DELIVERIES.c.id.desc())
    if before is not None:
        wanted = wanted.where(DELIVERIES.c.id < before)
    return [_delivery(row) for row in connection.execute(wanted.limit(most))]


def count_waiting(connection: sa.Connection) -> int:
    """How many notices wait, for all webhooks together."""
    mine = DELIVERIES.c.state == DeliveryState.WAITING.value
    return int(connection.execute(sa.select(sa.func.count()).where(mine)).scalar_one())


def anything_due(connection: sa.Connection, *, now: datetime) -> bool:
    """Whether a notice is to be sent."""
    return bool(connection.execute(sa.select(DELIVERIES.c.id).where(_due(now)).limit(1)).first())


def claim(connection: sa.Connection, *, now: datetime, most: int) -> Sequence[Claimed]:
    """Take notices that are to be sent now; no other server takes them while the claim holds."""
    turn = sa.func.row_number().over(partition_by=DELIVERIES.c.webhook_id, order_by=DELIVERIES.c.due)
    waiting = sa.select(DELIVERIES.c.id, turn.label("turn")).where(_due(now)).subquery()
    first = sa.select(waiting.c.id).where(waiting.c.turn <= _AT_A_TIME)
    # Asked for again under the lock: another server may have taken one meanwhile.
    wanted = (
        sa.select(DELIVERIES, WEBHOOKS.c.url, WEBHOOKS.c.secret)
        .join(WEBHOOKS, WEBHOOKS.c.id == DELIVERIES.c.webhook_id)
        .where(DELIVERIES.c.id.in_(first), _due(now))
        .order_by(DELIVERIES.c.due, DELIVERIES.c.id)
        .limit(most)
        .with_for_update(of=DELIVERIES, skip_locked=True)
    )
    rows = connection.execute(wanted).all()
    mine = [row.id for row in rows]
    connection.execute(sa.update(DELIVERIES).where(DELIVERIES.c.id.in_(mine)).values(claimed=now))
    return [
        Claimed(id=row.id, url=row.url, secret=row.secret, notice=_delivery(row).notice, tries=row.tries)
        for row in rows
    ]


def settle(
    connection: sa.Connection, claimed: Claimed, *, status: int | None, error: str, now: datetime
) -> DeliveryState:
    """Keep what came of an attempt; with an ``error`` it is made again, later each time, until the last."""
    tries = claimed.tries + 1
    state = DeliveryState.DONE
    due = now
    if error:
        state = DeliveryState.WAITING if tries <= len(_WAITS) else DeliveryState.FAILED
        due = now + timedelta(seconds=_WAITS[tries - 1]) if tries <= len(_WAITS) else now
    values = {"state": state.value, "tries": tries, "due": due, "claimed": None, "status": status, "error": error}
    connection.execute(sa.update(DELIVERIES).where(DELIVERIES.c.id == claimed.id).values(**values))
    return state


def forget_old(connection: sa.Connection, *, now: datetime) -> int:
    """Drop deliveries that were over two weeks ago; how many."""
    over = sa.and_(DELIVERIES.c.state != DeliveryState.WAITING.value, DELIVERIES.c.due < now - _KEPT)
    return connection.execute(sa.delete(DELIVERIES).where(over)).rowcount


def _due(now: datetime) -> sa.ColumnElement[bool]:
    free = sa.or_(DELIVERIES.c.claimed.is_(None), DELIVERIES.c.claimed < now - CLAIM)
    return sa.and_(DELIVERIES.c.state == DeliveryState.WAITING.value, DELIVERIES.c.due <= now, free)


def _webhook(row: sa.Row[Any]) -> Webhook:
    return Webhook(
        id=row.id,
        name=row.name,
        url=row.url,
        happenings=wire.load(tuple[Happening, ...], row.happenings, what=f"webhook {row.id}"),
        created=row.created,
    )


def _delivery(row: sa.Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        webhook=row.webhook_id,
        notice=wire.load(Notice, row.notice, what=f"delivery {row.id}"),
        state=DeliveryState(row.state),
        tries=row.tries,
        due=row.due,
        status=row.status,
        error=row.error,
    )
