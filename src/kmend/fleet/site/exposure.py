"""Exposure and audit over the fleet: which CVEs containers reach, and what is set up wrong on most hosts."""

from __future__ import annotations

import sqlalchemy as sa

from kmend.fleet.api.call import Call
from kmend.fleet.api.hosts import check_cve
from kmend.fleet.api.looks import fleet_check, title_of
from kmend.fleet.store.looks import containers_reaching, failed_checks, find_look, reached_cves
from kmend.fleet.store.summary import summary

_CVES, _CHECKS, _HOSTS = 50, 50, 100
_OF_HOST = 20


def exposure(connection: sa.Connection, call: Call) -> dict[str, object]:
    """The worst checks and the CVEs with containers that reach them; for one CVE, who that is."""
    asked = call.text("cve").strip()
    values: dict[str, object] = {
        "asked": asked,
        "counts": summary(connection, call.hearing),
        "cves": reached_cves(connection, most=_CVES),
        "checks": [fleet_check(one) for one in failed_checks(connection, most=_CHECKS)],
    }
    if not asked:
        return values
    cve = check_cve(asked)
    found = [one for _, one in containers_reaching(connection, cve, most=_HOSTS + 1)]
    return {**values, "asked": cve, "reaching": found[:_HOSTS], "more": len(found) > _HOSTS}


def look_of_host(connection: sa.Connection, host_id: str) -> dict[str, object] | None:
    """What a host's page says of its newest look; None when there is none."""
    kept = find_look(connection, host_id)
    if kept is None:
        return None
    audit, found = kept.look.audit, kept.look.exposure
    reached = [
        one for group in (found.groups if found else ()) if group.reach == "reachable" for one in group.cves
    ]
    reached.sort(key=lambda one: (not one.exploited, -one.score, one.cve))
    return {
        "look": kept.look,
        "score": next((one.percent for one in audit.scores if one.area == "all"), None) if audit else None,
        "failed": [{"check": one, "title": title_of(one.check)} for one in audit.failed[:_OF_HOST]]
        if audit
        else [],
        "more_failed": max(0, len(audit.failed) - _OF_HOST) if audit else 0,
        "reached": reached[:_OF_HOST],
        "more_reached": max(0, (found.reachable if found else 0) - len(reached[:_OF_HOST])),
    }
