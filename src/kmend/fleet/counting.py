"""Counts the fleet once an hour, for the pictures of the dashboard."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from kmend.fleet.store.database import Database
from kmend.fleet.store.livepatches import has_sample, keep_sample, sample
from kmend.kit.errors import BusyError


def count_hour(database: Database, *, now: datetime) -> bool:
    """Count this hour, unless somebody did already; whether it was counted.

    Raises:
        MachineError: The database does not answer.
    """
    with database.reading() as connection:
        if has_sample(connection, now=now):
            return False
        counted = sample(connection, now=now)
    with suppress(BusyError), database.writing() as connection:  # another server may have come first
        keep_sample(connection, counted)
        return True
    return False
