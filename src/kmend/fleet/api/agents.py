"""What agents ask: to be taken in, to check in, to change their secret."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TypeVar

import sqlalchemy as sa

from kmend.fleet.acts import Actor
from kmend.fleet.api.auth import bearer, host_credential, host_of, token_of
from kmend.fleet.api.call import Call, need
from kmend.fleet.api.endpoint import Bearer, Endpoint
from kmend.fleet.api.problems import RefusedError
from kmend.fleet.checks import check_report, check_words
from kmend.fleet.store.check_in import check_in, check_in_many
from kmend.fleet.store.hosts import KeptHost, add_host, host_with, lock_hosts, set_credentials
from kmend.fleet.store.log import add_audit, add_event
from kmend.fleet.store.tokens import fast_hash, use_up
from kmend.kit.errors import InputError, KmendError, MachineError
from kmend.model.fleet import EventKind, Host, HostReport, Offer, OfferAction, Role
from kmend.model.labels import check_labels
from kmend.model.protocol import CheckedIn, Enrolled, Enrolment, NewSecret

T = TypeVar("T")
_SECRET = re.compile(r"[0-9a-f]{64}")
_BUSY_INTERVAL = 60
"""Seconds until a host that was asked to change something says what came of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Newcomer:
    """A host that asks to be taken in, as its token and its words make it."""

    call: Call
    """With the token."""
    host: Host
    digest: str


def _enrol_together(calls: Sequence[Call]) -> Sequence[Enrolled | Exception]:
    """Take many hosts in."""
    return _together(calls, _enrol_in_one)


def _enrol_in_one(calls: Sequence[Call]) -> Sequence[Enrolled | Exception]:
    read = [_newcomer(call) for call in calls]
    with calls[0].database.writing() as connection:
        return [_take_in(connection, one) if isinstance(one, _Newcomer) else one for one in read]


def _newcomer(call: Call) -> _Newcomer | Exception:
    """Token and words of a call; the error when they do not hold."""
    try:
        text = bearer(call.authorization)
        token = token_of(call.database, text, needs=Role.ENROL, source=call.source, now=call.now)
        asked = call.read(Enrolment)
        check_words(asked.name, what="the host's name")
        labels = {**asked.labels, **token.labels}
        check_labels(labels)
        digest = fast_hash(_checked(asked.secret))
    except KmendError as error:
        return error
    host = Host(
        id=f"h{secrets.token_hex(8)}",
        name=asked.name,
        channel=token.channel or "stable",
        labels=labels,
        enrolled=call.now,
        seen=None,
        report=None,
    )
    return _Newcomer(call=replace(call, token=token), host=host, digest=digest)


def _take_in(connection: sa.Connection, one: _Newcomer) -> Enrolled | Exception:
    """Keep the host, or find the one that it is already."""
    call, host, token = one.call, host_with(connection, one.digest), need(one.call.token, "token")
    if host is None:
        if not use_up(connection, token.id, now=call.now):
            return RefusedError(HTTPStatus.FORBIDDEN, "The enrolment token is used up.", hint="Ask for a new one.")
        host = one.host
        add_host(connection, host, credential=one.digest, token_id=token.id)
        _tell(connection, host, call.actor)
    return Enrolled(host=host.id, channel=host.channel, labels=host.labels, interval=call.settings.interval)


def _together(
    calls: Sequence[Call], work: Callable[[Sequence[Call]], Sequence[T | Exception]]
) -> Sequence[T | Exception]:
    """Do calls in one transaction. One that makes it fail must not take the others with it."""
    try:
        return work(calls)
    except MachineError as error:
        return [error] * len(calls)
    except Exception as error:  # noqa: BLE001 - whatever it was, the others are done without it
        return [error] if len(calls) == 1 else [_together([call], work)[0] for call in calls]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrival:
    """A host's report, read, with the credential that it came with."""

    host_id: str
    digest: str
    report: HostReport


def _check_in_together(calls: Sequence[Call]) -> Sequence[CheckedIn | Exception]:
    """Check many hosts in."""
    return _together(calls, _in_one_transaction)


def _in_one_transaction(calls: Sequence[Call]) -> Sequence[CheckedIn | Exception]:
    first = calls[0]
    read = [_read(call) for call in calls]
    arrivals = {index: one for index, one in enumerate(read) if isinstance(one, _Arrival)}
    offers: dict[int, Offer] = {}
    with first.database.writing() as connection:
        kept = lock_hosts(connection, {one.host_id for one in arrivals.values()})
        # A host that asks twice at once is answered in turn: the second time in a transaction of its own.
        once = {one.host_id: index for index, one in reversed(arrivals.items())}
        good = [
            (index, arrivals[index])
            for host_id, index in once.items()
            if host_id in kept and _is_its_own(connection, kept[host_id], arrivals[index].digest)
        ]
        pairs = [(kept[one.host_id].host, one.report) for _, one in good]
        made = check_in_many(connection, pairs, first.hearing) if pairs else []
        offers = {index: offer for (index, _), offer in zip(good, made, strict=True)}
    return [
        _answer(call, one.report, offers.get(index)) if isinstance(one, _Arrival) else one
        for index, (call, one) in enumerate(zip(calls, read, strict=True))
    ]


def _read(call: Call) -> _Arrival | Exception:
    """Credential and report of a call; the error when they cannot be."""
    try:
        host_id, digest = host_credential(bearer(call.authorization))
        if not host_id:
            host_of(call.database, bearer(call.authorization), source=call.source, now=call.now)
        report = call.read(HostReport)
        check_report(report)
    except KmendError as error:
        return error
    return _Arrival(host_id=host_id, digest=digest, report=report)


def _is_its_own(connection: sa.Connection, kept: KeptHost, digest: str) -> bool:
    """Whether a secret is the host's; the first use of a new one makes it the only one."""
    if hmac.compare_digest(digest, kept.credential):
        return True
    if kept.next_credential is None or not hmac.compare_digest(digest, kept.next_credential):
        return False
    set_credentials(connection, kept.host.id, credential=digest, next_credential=None)
    return True


def _answer(call: Call, report: HostReport, offer: Offer | None) -> CheckedIn | Exception:
    """The answer; without an offer the host was not known, or asks twice at once."""
    if offer is None:
        return _alone(call, report)
    busy = offer.action != OfferAction.STAY or report.phase.value not in {"idle", "applied"}
    interval = call.settings.interval
    return CheckedIn(offer=offer, interval=min(interval, _BUSY_INTERVAL) if busy else interval)


def _alone(call: Call, report: HostReport) -> CheckedIn | Exception:
    """One host's check-in by itself, with all that is said and counted when its credential does not hold."""
    try:
        host_id, _ = host_of(call.database, bearer(call.authorization), source=call.source, now=call.now)
        with call.database.writing() as connection:
            offer = check_in(connection, host_id, report, call.hearing)
    except KmendError as error:
        return error
    if offer is None:
        return RefusedError(HTTPStatus.UNAUTHORIZED, "This host was removed.", hint="Enrol it again.")
    return _answer(call, report, offer)


def _change_secret(call: Call) -> None:
    digest = fast_hash(_checked(call.read(NewSecret).secret))
    with call.database.writing() as connection:
        set_credentials(connection, call.host_id, credential=call.secret_hash, next_credential=digest)
        add_audit(connection, "host-secret", call.host_id, actor=call.actor.name, now=call.now)


def _tell(connection: sa.Connection, host: Host, actor: Actor) -> None:
    add_event(connection, EventKind.ENROLLED, f"{host.name} was enrolled", now=actor.now, host=host.id)
    add_audit(connection, "host-enrol", host.id, actor=actor.name, now=actor.now, detail=host.name)


def _checked(secret: str) -> str:
    if not _SECRET.fullmatch(secret):
        raise InputError("The secret has to be 64 lower-case hex digits, drawn at random.")
    return secret


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/enrol",
        about="Take a host in. Asking again with the same secret gives the same answer and uses nothing up.",
        needs=Role.ENROL,
        together=_enrol_together,
        body=Enrolment,
        answer=Enrolled,
        status=201,
    ),
    Endpoint(
        method="POST",
        path="/check-in",
        about="Report what the agent saw, and hear what the host should run and why.",
        needs=Bearer.HOST,
        together=_check_in_together,
        body=HostReport,
        answer=CheckedIn,
    ),
    Endpoint(
        method="PUT",
        path="/agent/secret",
        about="Change the host's secret. The old one holds until the new one was used.",
        needs=Bearer.HOST,
        does=_change_secret,
        body=NewSecret,
        answer=None,
        status=204,
    ),
)
