"""Livepatches that are published for the fleet, with their proof, and which hosts are still open to a CVE."""

from __future__ import annotations

from kmend.fleet.acts import UnknownError
from kmend.fleet.api.call import Call
from kmend.fleet.api.endpoint import LIMIT, Endpoint
from kmend.fleet.api.hosts import check_cve
from kmend.fleet.store.livepatches import Standing, count_standing, cve_counts, find_livepatch, livepatches
from kmend.fleet.store.rollouts import rollouts_of
from kmend.fleet.store.summary import hosts_running, running_counts
from kmend.fleet.store.things import blocks_for
from kmend.model.fleet import Role
from kmend.model.protocol import (
    CveStanding,
    FleetCve,
    FleetCveList,
    FleetLivepatch,
    FleetLivepatchList,
    LivepatchProof,
)
from kmend.model.rollout import Target


def _livepatches(call: Call) -> FleetLivepatchList:
    with call.database.reading() as connection:
        running = {(one.build_id, one.number): one.hosts for one in running_counts(connection)}
        known = livepatches(connection, most=call.limit)
    return FleetLivepatchList(
        items=tuple(
            FleetLivepatch(
                kernel=one.manifest.kernel,
                number=one.manifest.number,
                cves=one.manifest.cves,
                channels=one.channels,
                published=one.published,
                hosts=running.get(one.key, 0),
            )
            for one in known
        )
    )


def _livepatch(call: Call) -> LivepatchProof:
    build_id, number = livepatch_of(call)
    with call.database.reading() as connection:
        known = find_livepatch(connection, build_id, number)
        if known is None:
            raise UnknownError(
                "The server knows no manifest of this livepatch.",
                hint="It reads them from --repository within a minute.",
            )
        block = next((one for one in blocks_for(connection, build_id) if one.number == number), None)
        return LivepatchProof(
            livepatch=known.manifest,
            report=known.report,
            channels=known.channels,
            published=known.published,
            hosts=hosts_running(connection, [Target(build_id=build_id, number=number)]),
            blocked=(block.reason or "blocked") if block else "",
            rollouts=tuple(one.id for one in rollouts_of(connection, build_id=build_id, number=number)),
        )


def livepatch_of(call: Call) -> tuple[str, int]:
    """Build id and number that a path names; number 0 when it is none."""
    text = call.path["number"]
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0  # noqa: PLR2004
    return call.path["build_id"], number


def _cves(call: Call) -> FleetCveList:
    with call.database.reading() as connection:
        counts = cve_counts(connection)[: call.limit]
    return FleetCveList(items=tuple(FleetCve(cve=one.cve, open=one.open, closed=one.closed) for one in counts))


def _cve(call: Call) -> CveStanding:
    cve = check_cve(call.path["cve"])
    with call.database.reading() as connection:
        counts = count_standing(connection, cve)
    return CveStanding(
        cve=cve,
        open=counts[Standing.OPEN],
        closed=counts[Standing.CLOSED],
        unknown=counts[Standing.UNKNOWN],
    )


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/livepatches",
        about="Livepatches that are published for the fleet's kernels, and how many hosts run them.",
        needs=Role.VIEWER,
        does=_livepatches,
        answer=FleetLivepatchList,
        query=(LIMIT,),
    ),
    Endpoint(
        method="GET",
        path="/livepatches/{build_id}/{number}",
        about="One livepatch with its proof: replaced functions, bytes found equal, the lab's report.",
        needs=Role.VIEWER,
        does=_livepatch,
        answer=LivepatchProof,
    ),
    Endpoint(
        method="GET",
        path="/open-cves",
        about="CVEs that livepatches for the fleet's kernels close, those that are open on most hosts first.",
        needs=Role.VIEWER,
        does=_cves,
        answer=FleetCveList,
        query=(LIMIT,),
    ),
    Endpoint(
        method="GET",
        path="/open-cves/{cve}",
        about="How many hosts stand how with a CVE; `open_to` in the list of hosts names those that are open.",
        needs=Role.VIEWER,
        does=_cve,
        answer=CveStanding,
    ),
)
