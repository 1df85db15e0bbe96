"""Hosts, what they reported, and the fleet at a glance."""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from kmend.fleet.acts import UnknownError
from kmend.fleet.api.call import Call, make_cursor
from kmend.fleet.api.endpoint import CURSOR, LIMIT, Endpoint, Query
from kmend.fleet.checks import check_selector, check_words
from kmend.fleet.store import hosts as store
from kmend.fleet.store.livepatches import Standing, standing
from kmend.fleet.store.log import add_audit, add_event
from kmend.fleet.store.standing import SHOWN_STATES, in_state
from kmend.fleet.store.summary import summary
from kmend.fleet.store.things import find_channel, find_group
from kmend.kit.errors import InputError
from kmend.model import wire
from kmend.model.fix import CVE_ID
from kmend.model.fleet import EventKind, Host, Role
from kmend.model.labels import check_labels
from kmend.model.protocol import FleetSummary, HostChange, HostPage, KeptReport, ReportList

_LONGEST_CVE = 32
_FILTERS = ("channel", "name", "build_id")


def _hosts(call: Call) -> HostPage:
    filters: dict[str, object] = {name: value for name in _FILTERS if (value := call.text(name))}
    if call.text("running"):
        filters["running"] = call.number("running", default=0, lowest=1, highest=1_000_000)
    cursor = call.cursor()
    if len(cursor) > 1:
        raise UnknownError("The cursor is of another list.", hint="Use `next` of the page before.")
    with call.database.reading() as connection:
        selector = call.text("selector")
        check_selector(selector)
        if name := call.text("group"):
            group = find_group(connection, name)
            if group is None:
                raise UnknownError(f"There is no group {name}.")
            selector = joined(group.selector, selector)
        found = store.hosts(
            connection,
            selector=selector,
            after=cursor[0] if cursor else "",
            most=call.limit + 1,
            silent_before=call.hearing.silent_before if call.flag("silent") else None,
            filters=filters,
            which=_which(connection, call),
        )
    page = tuple(found[: call.limit])
    return HostPage(items=page, next=make_cursor(page[-1].id) if len(found) > call.limit else None)


def _which(connection: sa.Connection, call: Call) -> sa.ColumnElement[bool] | None:
    """What is asked of hosts beside their own columns."""
    asked = []
    if cve := call.text("open_to"):
        asked.append(standing(check_cve(cve), Standing.OPEN))
    if state := call.text("in_state"):
        if state not in SHOWN_STATES:
            raise InputError(f"{state[:30]!r} is no state.", hint=f"One of {', '.join(SHOWN_STATES)}.")
        asked.append(in_state(connection, state, call.hearing))
    return sa.and_(*asked) if asked else None


def check_cve(text: str) -> str:
    """A CVE's id, in capitals.

    Raises:
        InputError: It is none.
    """
    cve = text.upper()
    if not cve.isascii() or len(cve) > _LONGEST_CVE or not CVE_ID.fullmatch(cve):
        raise InputError(f"{text[:30]!r} is no CVE id.", hint="E.g. CVE-2026-53249.")
    return cve


def joined(*selectors: str) -> str:
    """One selector that chooses what all of them choose."""
    return ",".join(selector for selector in selectors if selector.strip())


def _host(call: Call) -> Host:
    with call.database.reading() as connection:
        return _known(store.find_host(connection, call.path["host"]), call)


def _change(call: Call) -> Host:
    change = call.read(HostChange)
    if change.name is not None:
        check_words(change.name, what="the host's name")
    if change.labels is not None:
        check_labels(change.labels)
    wanted = {name: getattr(change, name) for name in ("name", "channel", "labels")}
    with call.database.writing() as connection:
        host = _known(store.find_host(connection, call.path["host"], lock=True), call)
        if change.channel is not None and find_channel(connection, change.channel) is None:
            raise UnknownError(f"There is no channel {change.channel}.")
        changed = replace(host, **{name: value for name, value in wanted.items() if value is not None})
        store.change_host(connection, changed)
        add_audit(
            connection, "host-change", host.id, actor=call.actor.name, now=call.now, detail=wire.dump(change)
        )
    return changed


def _remove(call: Call) -> None:
    with call.database.writing() as connection:
        host = _known(store.find_host(connection, call.path["host"], lock=True), call)
        store.remove_host(connection, host.id)
        add_event(connection, EventKind.REMOVED, f"{host.name} was removed", now=call.now, host=host.id)
        add_audit(connection, "host-remove", host.id, actor=call.actor.name, now=call.now, detail=host.name)


def _reports(call: Call) -> ReportList:
    with call.database.reading() as connection:
        host = _known(store.find_host(connection, call.path["host"]), call)
        found = store.reports(connection, host.id, most=call.limit)
    return ReportList(items=tuple(KeptReport(taken=taken, report=report) for taken, report in found))


def _summary(call: Call) -> FleetSummary:
    with call.database.reading() as connection:
        return summary(connection, call.hearing)


def _known(host: Host | None, call: Call) -> Host:
    if host is None:
        raise UnknownError(f"There is no host {call.path['host']}.")
    return host


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/summary",
        about="The fleet at a glance.",
        needs=Role.VIEWER,
        does=_summary,
        answer=FleetSummary,
    ),
    Endpoint(
        method="GET",
        path="/hosts",
        about="Hosts by label selector, group and more; all conditions have to hold.",
        needs=Role.VIEWER,
        does=_hosts,
        answer=HostPage,
        query=(
            Query(name="selector", about="A label selector, e.g. `env=prod,zone in (a,b)`."),
            Query(name="group", about="Name of a group."),
            Query(name="channel", about="The channel that they follow."),
            Query(name="name", about="Their name, in full."),
            Query(name="build_id", about="Of the kernel that they run."),
            Query(name="running", about="Number of the livepatch that they run.", kind=int),
            Query(name="silent", about="Only those that are silent.", kind=bool),
            Query(name="in_state", about=f"In which they are: one of {', '.join(SHOWN_STATES)}."),
            Query(name="open_to", about="A CVE that a livepatch for their kernel closes, but not on them yet."),
            LIMIT,
            CURSOR,
        ),
        refuses=(404,),
    ),
    Endpoint(
        method="GET",
        path="/hosts/{host}",
        about="One host with its last report.",
        needs=Role.VIEWER,
        does=_host,
        answer=Host,
    ),
    Endpoint(
        method="PATCH",
        path="/hosts/{host}",
        about="Change a host's name, channel or labels.",
        needs=Role.OPERATOR,
        does=_change,
        body=HostChange,
        answer=Host,
    ),
    Endpoint(
        method="DELETE",
        path="/hosts/{host}",
        about="Forget a host and its credential. Its agent has to enrol again to come back.",
        needs=Role.OPERATOR,
        does=_remove,
        answer=None,
        status=204,
    ),
    Endpoint(
        method="GET",
        path="/hosts/{host}/reports",
        about="The history of a host: its reports that differ from the one before.",
        needs=Role.VIEWER,
        does=_reports,
        answer=ReportList,
        query=(LIMIT,),
    ),
)
