"""What is old enough to go: events, hosts' histories, tokens that do not hold any more. The audit log never is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa

from kmend.fleet.store.looks import remove_unused_sets
from kmend.fleet.store.tables import EVENTS, LOCKOUTS, REPORTS, TOKENS
from kmend.model.fleet import Role


def remove_old_events(connection: sa.Connection, before: datetime, most: int) -> int:
    """Remove some events, the oldest first; how many."""
    return _remove_oldest(connection, EVENTS, before, most)


def remove_old_reports(connection: sa.Connection, before: datetime, most: int) -> int:
    """Remove some of hosts' histories, the oldest first; how many. A host's last report stands elsewhere."""
    return _remove_oldest(connection, REPORTS, before, most)


def remove_old_tokens(connection: sa.Connection, before: datetime, most: int) -> int:
    """Remove tokens that have not held since then, and forgotten lockouts; how many.

    Those of admins stay: as long as there is one, the server makes no first one.
    """
    over = sa.or_(TOKENS.c.revoked < before, TOKENS.c.expires < before)
    wanted = sa.select(TOKENS.c.id).where(over, TOKENS.c.role != Role.ADMIN.value).limit(most)
    gone = connection.execute(sa.delete(TOKENS).where(TOKENS.c.id.in_(wanted))).rowcount
    quiet = sa.and_(LOCKOUTS.c.since < before, sa.or_(LOCKOUTS.c.until.is_(None), LOCKOUTS.c.until < before))
    sources = sa.select(LOCKOUTS.c.source).where(quiet).limit(most)
    return gone + connection.execute(sa.delete(LOCKOUTS).where(LOCKOUTS.c.source.in_(sources))).rowcount


REMOVERS: tuple[Callable[[sa.Connection, datetime, int], int], ...] = (
    remove_old_events,
    remove_old_reports,
    remove_old_tokens,
    remove_unused_sets,
)


def _remove_oldest(connection: sa.Connection, table: sa.Table, before: datetime, most: int) -> int:
    """Remove what is old among the rows with the lowest ids: no index by time is needed, and no long search.

    The newest row stays, so that SQLite gives no id a second time: whoever follows the events goes by them.
    """
    oldest = connection.execute(sa.select(table.c.id, table.c.at).order_by(table.c.id).limit(most)).all()
    newest = connection.execute(sa.select(sa.func.max(table.c.id))).scalar_one()
    ids = [row.id for row in oldest if row.at < before and row.id != newest]
    if ids:
        connection.execute(sa.delete(table).where(table.c.id.in_(ids)))
    return len(ids)
