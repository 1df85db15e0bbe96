"""The first page: the fleet at a glance."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from kmend.fleet.api.call import Call
from kmend.fleet.site.chart import draw
from kmend.fleet.site.rollouts import waves_of
from kmend.fleet.store.livepatches import cve_counts, sample, samples
from kmend.fleet.store.log import events
from kmend.fleet.store.rollouts import OPEN, rollouts
from kmend.fleet.store.standing import glance

_ROLLOUTS = 5
_EVENTS = 15
_CVES = 8
_SHOWN = timedelta(days=30)


def home(connection: sa.Connection, call: Call) -> dict[str, object]:
    """Counts, pictures, open rollouts, open CVEs, what happened last."""
    found = rollouts(connection, most=_ROLLOUTS)
    now = sample(connection, now=call.now)
    points = [*samples(connection, since=call.now - _SHOWN)]
    cves = [one for one in cve_counts(connection) if one.open]
    return {
        "fleet": glance(connection, call.hearing),
        "sample": now,
        "cve_chart": draw([*((one.hour, one.open_cves) for one in points), (call.now, now.open_cves)]),
        "host_chart": draw([*((one.hour, one.open_hosts) for one in points), (call.now, now.open_hosts)]),
        "cves": cves[:_CVES],
        "more_cves": max(0, len(cves) - _CVES),
        "rollouts": [{"rollout": one, "waves": waves_of(one), "open": one.state.value in OPEN} for one in found],
        "events": events(connection, most=_EVENTS),
    }
