"""Removes what is older than the server is to keep, beside the check-ins and in small pieces."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from anyio import to_thread

from kmend.fleet.store.database import Database
from kmend.fleet.store.old import REMOVERS
from kmend.kit.errors import KmendError

_log = logging.getLogger(__name__)
EVERY = timedelta(hours=1)
_PIECE = 500
"""Rows of one transaction, which others may have to wait for."""
_SHARE = 10
"""Of the time at most one part in so many goes into it."""


def prune_some(database: Database, before: datetime) -> int:
    """Remove at most a piece of each kind of what is older; how many rows.

    Raises:
        MachineError: The database does not answer.
    """
    removed = 0
    for remove in REMOVERS:
        with database.writing() as connection:
            removed += remove(connection, before, _PIECE)
    return removed


async def keep_pruning(database: Database, clock: Callable[[], datetime], *, days: int) -> None:
    """Prune for as long as the server runs; with 0 days nothing is ever removed."""
    while days:
        begun = time.monotonic()
        removed = 0
        try:
            removed = await to_thread.run_sync(prune_some, database, clock() - timedelta(days=days))
        except KmendError as error:
            _log.warning("what is old cannot be removed now: %s", error.message)
        except Exception:  # noqa: BLE001 - must not end: the next time may well go
            _log.exception("what is old could not be removed")
        # There may be more while there was some.
        pause = _SHARE * (time.monotonic() - begun) if removed else EVERY.total_seconds()
        await asyncio.sleep(max(pause, 0.1))
