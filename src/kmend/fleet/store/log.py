"""Events and the audit log: only ever appended to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from kmend.fleet.store.tables import ACTOR_LENGTH, AUDIT, EVENTS
from kmend.model.fleet import AuditRecord, Event, EventKind

_ANY_TRANSACTION = timedelta(hours=1)
"""Longer than a transaction lasts."""


def add_event(
    connection: sa.Connection, kind: EventKind, text: str, *, now: datetime, host: str = "", rollout: str = ""
) -> None:
    """Write down what happened."""
    values = {"at": now, "kind": kind.value, "host": host, "rollout": rollout, "text": text}
    if not _counts_before_commit(connection):
        connection.execute(sa.insert(EVENTS).values(values))
        return
    # `_settled` needs both: this transaction has its number before the event has its id, and the row's own number,
    # which a savepoint gives it, is given after.
    connection.execute(sa.select(sa.func.pg_current_xact_id()))
    with connection.begin_nested():
        connection.execute(sa.insert(EVENTS).values(values))


def add_audit(
    connection: sa.Connection, action: str, subject: str, *, actor: str, now: datetime, detail: str = ""
) -> None:
    """Write down who changed what; in the same transaction as the change."""
    # A token's name may be as long as the column, and more stands before it.
    shown = actor[:ACTOR_LENGTH]
    connection.execute(sa.insert(AUDIT).values(at=now, actor=shown, action=action, subject=subject, detail=detail))


def events(
    connection: sa.Connection,
    *,
    host: str = "",
    rollout: str = "",
    after: int = 0,
    before: int | None = None,
    most: int = 100,
    oldest_first: bool = False,
    settled_by: datetime | None = None,
) -> Sequence[Event]:
    """Events, newest first; with ``after`` the ones that came later than that id, oldest first.

    With ``settled_by`` (now) only those that no event of a lower id can follow any more: who asks for the ones
    after the last that it was given misses none.
    """
    wanted = sa.select(EVENTS).limit(most)
    wanted = wanted.order_by(EVENTS.c.id) if after or oldest_first else wanted.order_by(EVENTS.c.id.desc())
    for column, value in ((EVENTS.c.host, host), (EVENTS.c.rollout, rollout)):
        wanted = wanted.where(column == value) if value else wanted
    if after:
        wanted = wanted.where(EVENTS.c.id > after)
    if before is not None:
        wanted = wanted.where(EVENTS.c.id < before)
    if settled_by is not None and _counts_before_commit(connection):
        wanted = wanted.where(_settled(settled_by))
    return [
        Event(id=row.id, at=row.at, kind=EventKind(row.kind), host=row.host, rollout=row.rollout, text=row.text)
        for row in connection.execute(wanted)
    ]


def _counts_before_commit(connection: sa.Connection) -> bool:
    """PostgreSQL gives ids while transactions are under way; they may be over in another order."""
    return connection.dialect.name == "postgresql"


def _settled(now: datetime) -> sa.ColumnElement[bool]:
    """No transaction is under way that has an older number than the row (PostgreSQL manual, pg_snapshot_xmin).

    One that has a lower id than the event's had its number before that id, so before the row had its own: it is
    over then. Rows' numbers have 32 bits, so that of old ones nothing can be told; those are over anyway.
    """
    oldest = sa.text(
        "age(events.xmin) > age((pg_snapshot_xmin(pg_current_snapshot())::text::bigint % 4294967296)::text::xid)"
    )
    return sa.or_(EVENTS.c.at < now - _ANY_TRANSACTION, oldest)


def newest_event(connection: sa.Connection, *, settled_by: datetime) -> int:
    """The id of the last event of which all before it can be seen, too; 0 when there is none."""
    found = events(connection, most=1, settled_by=settled_by)
    return found[0].id if found else 0


def audit(connection: sa.Connection, *, before: int | None = None, most: int = 100) -> Sequence[AuditRecord]:
    """Changes, newest first."""
    wanted = sa.select(AUDIT).order_by(AUDIT.c.id.desc()).limit(most)
    if before is not None:
        wanted = wanted.where(AUDIT.c.id < before)
    return [AuditRecord(**row._asdict()) for row in connection.execute(wanted)]
