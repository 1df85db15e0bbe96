"""Livepatches with what proves them, and CVEs with the hosts that are still open to them."""

from __future__ import annotations

import sqlalchemy as sa

from kmend.fleet.acts import UnknownError
from kmend.fleet.api.call import Call
from kmend.fleet.api.hosts import check_cve
from kmend.fleet.api.livepatches import livepatch_of
from kmend.fleet.store.hosts import hosts
from kmend.fleet.store.livepatches import (
    Standing,
    count_standing,
    cve_counts,
    find_livepatch,
    livepatches,
    standing,
)
from kmend.fleet.store.rollouts import rollouts_of
from kmend.fleet.store.summary import running_counts
from kmend.fleet.store.things import blocks_for

_CVES = 200
_HOSTS = 20


def livepatch_list(connection: sa.Connection, _: Call) -> dict[str, object]:
    """All that are known, with how many hosts run them."""
    running = {(one.build_id, one.number): one.hosts for one in running_counts(connection)}
    known = livepatches(connection)
    names = {one.key for one in known}
    return {
        "livepatches": [{"known": one, "hosts": running.get(one.key, 0)} for one in known],
        "unknown": [
            {"build_id": build_id, "number": number, "hosts": hosts}
            for (build_id, number), hosts in sorted(
                running.items(), key=lambda pair: (pair[0][0], pair[0][1] or 0)
            )
            if number is not None and (build_id, number) not in names
        ],
    }


def livepatch(connection: sa.Connection, call: Call) -> dict[str, object]:
    """One livepatch: manifest, lab report, hosts, rollouts."""
    build_id, number = livepatch_of(call)
    known = find_livepatch(connection, build_id, number)
    if known is None:
        raise UnknownError(
            "The server knows no manifest of this livepatch.",
            hint="It reads them from --repository within a minute.",
        )
    running = [one for one in running_counts(connection) if (one.build_id, one.number) == known.key]
    blocks = [one for one in blocks_for(connection, build_id) if one.number == number]
    return {
        "known": known,
        "livepatch": known.manifest,
        "report": known.report,
        "hosts": sum(one.hosts for one in running),
        "block": blocks[0] if blocks else None,
        "rollouts": rollouts_of(connection, build_id=build_id, number=number),
    }


def cves(connection: sa.Connection, call: Call) -> dict[str, object]:
    """Which hosts are still open to a CVE; and all CVEs that livepatches for the fleet close."""
    asked = call.text("cve").strip()
    counts = cve_counts(connection)
    values: dict[str, object] = {"asked": asked, "counts": counts[:_CVES], "more": max(0, len(counts) - _CVES)}
    if not asked:
        return values
    cve = check_cve(asked)
    found = hosts(connection, most=_HOSTS + 1, which=standing(cve, Standing.OPEN))
    return {
        **values,
        "asked": cve,
        "standing": {one.value: count for one, count in count_standing(connection, cve).items()},
        "hosts": found[:_HOSTS],
        "more_hosts": len(found) > _HOSTS,
    }
