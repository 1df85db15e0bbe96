"""Whether anybody could have heard a host: none falls silent while no server listens, or because a clock was set.

The servers write down again and again that they listen. When that is long ago, there was an outage, or the
clock jumped ahead: who was not silent before has time to report. When it is in the future, the clock went back:
what lies in the future is taken as of this moment, or troubles would count as older than what they follow.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from kmend.fleet.store.health import Grace, Hearing
from kmend.fleet.store.tables import HOSTS, LISTENING, PARTS, ROLLOUTS

_log = logging.getLogger(__name__)
_WRITE_EVERY = timedelta(seconds=10)
_BACK = timedelta(minutes=1)
"""A clock that is behind by less was not set: servers differ a little, and requests wait."""
_LONGEST_WAIT = timedelta(hours=1)
"""Of an agent, between two tries (docs/reference/fleet-protocol.md)."""
_MOMENTS = {
    HOSTS: ("seen", "failed", "quarantined", "rebooted"),
    PARTS: ("offered", "changed"),
    ROLLOUTS: ("wave_opened", "counted_from", "judged"),
}


def listen(connection: sa.Connection, hearing: Hearing) -> Hearing:
    """Write down that somebody listens now; the hearing with the time that hosts are given, if they are."""
    row = connection.execute(sa.select(LISTENING)).one()
    if row.last is not None and -_BACK < hearing.now - row.last < _WRITE_EVERY:
        return replace(hearing, grace=_kept(row))
    row = connection.execute(sa.select(LISTENING).with_for_update()).one()
    grace = _kept(row)
    away = timedelta() if row.last is None else hearing.now - row.last
    if away < -_BACK:
        _log.warning("the clock is %s behind what it was: times in the future are taken as now", -away)
        _take_back(connection, hearing)
        grace = Grace(silent_before=hearing.silent_before, until=hearing.now + hearing.silence)
    # Hosts that were not heard for less come back before they count as silent.
    if away > hearing.silence / 3:
        _log.warning("nobody listened for %s: hosts have time to report before they count as silent", away)
        before = replace(hearing, now=row.last, grace=grace).silent_before
        grace = Grace(silent_before=before, until=hearing.now + hearing.silence + min(away, _LONGEST_WAIT))
    _keep(connection, hearing, grace)
    return replace(hearing, grace=grace)


def _kept(row: sa.Row[Any]) -> Grace | None:
    return None if row.grace_until is None else Grace(silent_before=row.silent_before, until=row.grace_until)


def _keep(connection: sa.Connection, hearing: Hearing, grace: Grace | None) -> None:
    values = {"silent_before": grace.silent_before, "grace_until": grace.until} if grace else {}
    connection.execute(sa.update(LISTENING).values(last=hearing.now, **values))


def _take_back(connection: sa.Connection, hearing: Hearing) -> None:
    """What happened in the future happens now."""
    for table, names in _MOMENTS.items():
        for name in names:
            column = table.c[name]
            connection.execute(sa.update(table).where(column > hearing.now).values({name: hearing.now}))
