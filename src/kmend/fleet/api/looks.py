"""Looks: what agents say of their hosts' exposure and audit, and what the fleet comes to."""

from __future__ import annotations

from functools import cache

from kmend.audit.registry import CHECKS
from kmend.fleet.acts import UnknownError
from kmend.fleet.api.call import Call, cursor_number, make_cursor
from kmend.fleet.api.endpoint import CURSOR, LIMIT, Bearer, Endpoint, Query
from kmend.fleet.api.hosts import check_cve
from kmend.fleet.checks import check_look
from kmend.fleet.store.looks import (
    CheckCount,
    containers_reaching,
    failed_checks,
    find_look,
    keep_look,
    reached_cves,
)
from kmend.kit.errors import InputError
from kmend.model.fleet import Role
from kmend.model.look import Look, Told
from kmend.model.protocol import (
    FleetCheck,
    FleetCheckList,
    HostContainersPage,
    KeptLook,
    ReachedCveList,
)

_WORDS = 2


def _keep(call: Call) -> None:
    look = call.read(Look)
    check_look(look)
    with call.database.writing() as connection:
        keep_look(connection, call.host_id, look, now=call.now)


def _look(call: Call) -> KeptLook:
    with call.database.reading() as connection:
        found = find_look(connection, call.path["host"])
    if found is None:
        raise UnknownError(
            f"There is no look of a host {call.path['host'][:40]}.",
            hint="Agents send one a day, as docs/reference/agent-config.md says.",
        )
    return found


def _containers(call: Call) -> HostContainersPage:
    cve = check_cve(call.path["cve"])
    wanted = call.text("reach")
    if wanted not in {"", *Told}:
        raise InputError(f"reach has to be one of {', '.join(Told)}, not {wanted[:30]!r}.")
    cursor = call.cursor()
    after = None
    if cursor:
        if len(cursor) != _WORDS:
            raise UnknownError("The cursor is of another list.", hint="Use `next` of the page before.")
        after = (cursor[0], cursor_number(cursor[1:]) or 0)
    with call.database.reading() as connection:
        found = containers_reaching(
            connection, cve, reach=Told(wanted) if wanted else None, after=after, most=call.limit + 1
        )
    page = found[: call.limit]
    more = len(found) > call.limit
    return HostContainersPage(
        items=tuple(one for _, one in page),
        next=make_cursor(page[-1][1].host, str(page[-1][0])) if more else None,
    )


def _cves(call: Call) -> ReachedCveList:
    with call.database.reading() as connection:
        return ReachedCveList(items=tuple(reached_cves(connection, most=call.limit)))


def _checks(call: Call) -> FleetCheckList:
    with call.database.reading() as connection:
        found = failed_checks(connection, most=call.limit)
    return FleetCheckList(items=tuple(fleet_check(one) for one in found))


def fleet_check(one: CheckCount) -> FleetCheck:
    """A counted check with its title."""
    return FleetCheck(
        check=one.check, severity=one.severity, title=title_of(one.check), hosts=one.hosts, subjects=one.subjects
    )


def title_of(check: str) -> str:
    """The title of a check; empty when this kmend does not know it, which a newer agent may."""
    return _titles().get(check, "")


@cache
def _titles() -> dict[str, str]:
    return {one.rule.id: one.rule.title for one in CHECKS}


ENDPOINTS = (
    Endpoint(
        method="PUT",
        path="/agent/look",
        about="Keep what the agent saw when it looked at its host: audit and exposure, cut short.",
        needs=Bearer.HOST,
        does=_keep,
        body=Look,
        answer=None,
        status=204,
    ),
    Endpoint(
        method="GET",
        path="/hosts/{host}/look",
        about="The newest look at a host: its audit, and which open CVEs its containers reach.",
        needs=Role.VIEWER,
        does=_look,
        answer=KeptLook,
    ),
    Endpoint(
        method="GET",
        path="/cves",
        about="CVEs that are open on some hosts and that containers there can reach, the most urgent first.",
        needs=Role.VIEWER,
        does=_cves,
        answer=ReachedCveList,
        query=(LIMIT,),
    ),
    Endpoint(
        method="GET",
        path="/cves/{cve}/containers",
        about="Which containers of the fleet can reach a CVE, and of which that could not be told; by hosts.",
        needs=Role.VIEWER,
        does=_containers,
        answer=HostContainersPage,
        query=(Query(name="reach", about="Only `reachable`, or only `could-not-tell`."), LIMIT, CURSOR),
    ),
    Endpoint(
        method="GET",
        path="/checks",
        about="Checks of the audit that failed on some hosts, the worst first.",
        needs=Role.VIEWER,
        does=_checks,
        answer=FleetCheckList,
        query=(LIMIT,),
    ),
)
