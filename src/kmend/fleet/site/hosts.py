"""Hosts: the list with its search, and one host with all that happened to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from kmend.fleet.acts import UnknownError
from kmend.fleet.api.call import Call, make_cursor
from kmend.fleet.api.hosts import check_cve
from kmend.fleet.checks import check_selector, check_words
from kmend.fleet.rollout import decide
from kmend.fleet.site.exposure import look_of_host
from kmend.fleet.store.hosts import called, find_host, hosts, reports
from kmend.fleet.store.livepatches import Standing, find_livepatch, standing
from kmend.fleet.store.log import events
from kmend.fleet.store.rollouts import rollouts_for, stages_of
from kmend.fleet.store.standing import SHOWN_STATES, in_state
from kmend.fleet.store.things import blocks_for, channels, find_channel
from kmend.kit.errors import InputError
from kmend.model.fleet import Channel, Host, HostReport, Offer
from kmend.model.rollout import Situation, Stage

_PAGE = 50
_HISTORY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One thing in a host's history."""

    at: datetime
    kind: str
    text: str
    rollout: str = ""


def host_list(connection: sa.Connection, call: Call) -> dict[str, object]:
    """A page of the hosts that a search finds."""
    asked = {name: call.text(name).strip() for name in ("named", "selector", "channel", "state", "cve")}
    check_words(asked["named"], what="the name", empty=True)
    check_selector(asked["selector"])
    if asked["state"] and asked["state"] not in SHOWN_STATES:
        raise InputError(f"{asked['state'][:30]!r} is no state.", hint=f"One of {', '.join(SHOWN_STATES)}.")
    cursor = call.cursor()
    found = hosts(
        connection,
        selector=asked["selector"],
        after=cursor[0] if cursor else "",
        most=_PAGE + 1,
        filters={"channel": asked["channel"]} if asked["channel"] else None,
        which=_which(connection, asked, call),
    )
    return {
        "hosts": [
            {"host": one, "silent": _silent(one, call), "quarantined": _quarantined(one)} for one in found[:_PAGE]
        ],
        "asked": asked,
        "states": SHOWN_STATES,
        "channels": channels(connection),
        "next": make_cursor(found[_PAGE - 1].id) if len(found) > _PAGE else "",
    }


def host(connection: sa.Connection, call: Call) -> dict[str, object]:
    """One host: how it stands, what it would be told now, and its history."""
    found = find_host(connection, call.path["host"])
    if found is None:
        raise UnknownError(f"There is no host {call.path['host'][:40]}.", hint="See the list of hosts.")
    report = found.report
    running = None
    if report is not None and report.running is not None:
        running = find_livepatch(connection, report.kernel.build_id, report.running)
    return {
        "host": found,
        "silent": _silent(found, call),
        "running": running,
        "offer": _offer(connection, found, report, call.now) if report is not None else None,
        "seen": look_of_host(connection, found.id),
        "moments": _timeline(connection, found.id),
    }


def _which(connection: sa.Connection, asked: dict[str, str], call: Call) -> sa.ColumnElement[bool]:
    conditions: list[sa.ColumnElement[bool]] = []
    if asked["state"]:
        conditions.append(in_state(connection, asked["state"], call.hearing))
    if asked["cve"]:
        asked["cve"] = check_cve(asked["cve"])
        conditions.append(standing(asked["cve"], Standing.OPEN))
    if asked["named"]:
        conditions.append(called(asked["named"]))
    return sa.and_(sa.true(), *conditions)


def _silent(found: Host, call: Call) -> bool:
    return found.seen is None or found.seen < call.hearing.silent_before


def _quarantined(found: Host) -> bool:
    report = found.report
    return report is not None and any(one.build_id == report.kernel.build_id for one in report.quarantined)


def _offer(connection: sa.Connection, found: Host, report: HostReport, now: datetime) -> Offer:
    """What the host would be told if it reported the same now; nothing is offered by looking."""
    rollouts = rollouts_for(connection, channel=found.channel, build_id=report.kernel.build_id)
    stages = stages_of(connection, [found.id])[found.id]
    situations = [
        Situation(rollout=one, health=one.health, stage=stages.get(one.id, Stage.WAITING)) for one in rollouts
    ]
    channel = find_channel(connection, found.channel) or Channel(name=found.channel)
    blocks = blocks_for(connection, report.kernel.build_id)
    return decide(found, report, situations, channel=channel, blocks=blocks, now=now)


def _timeline(connection: sa.Connection, host_id: str) -> list[Moment]:
    """Events and changes between reports, the newest first."""
    moments = [
        Moment(at=one.at, kind=one.kind.value, text=one.text, rollout=one.rollout)
        for one in events(connection, host=host_id, most=_HISTORY)
    ]
    history = reports(connection, host_id, most=_HISTORY)
    moments += _changes(history)
    return sorted(moments, key=lambda one: one.at, reverse=True)[:_HISTORY]


def _changes(history: Sequence[tuple[datetime, HostReport]]) -> Iterator[Moment]:
    """What the reports tell that is no event of its own."""
    for (taken, report), (_, before) in pairwise(history):
        if words := "; ".join(_differences(before, report)):
            yield Moment(at=taken, kind="check-in", text=words)


def _differences(before: HostReport, now: HostReport) -> Iterator[str]:
    plain: dict[str, Any] = {"phase": "phase", "agent": "agent", "note": "note", "held": "held back"}
    for name, words in plain.items():
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            yield (
                f"{words}: {new or 'no more'}"
                if name in {"note", "held"}
                else f"{words}: {old or '?'} → {new or '?'}"
            )
    if before.boot_id != now.boot_id and not now.unexpected_reboot:
        yield "rebooted in order"
    if before.quarantined and len(now.quarantined) < len(before.quarantined):
        yield "a quarantine was lifted"
