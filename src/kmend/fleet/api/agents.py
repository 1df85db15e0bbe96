"""What agents ask: to be taken in, to check in, to change their secret."""

from __future__ import annotations

import re
import secrets
from http import HTTPStatus

import sqlalchemy as sa

from kmend.fleet.acts import Actor
from kmend.fleet.api.call import Call, need
from kmend.fleet.api.endpoint import Bearer, Endpoint
from kmend.fleet.api.problems import RefusedError
from kmend.fleet.checks import check_report, check_words
from kmend.fleet.store.check_in import check_in
from kmend.fleet.store.hosts import add_host, host_with, set_credentials
from kmend.fleet.store.log import add_audit, add_event
from kmend.fleet.store.tokens import fast_hash, use_up
from kmend.kit.errors import InputError
from kmend.model.fleet import EventKind, Host, HostReport, OfferAction, Role
from kmend.model.labels import check_labels
from kmend.model.protocol import CheckedIn, Enrolled, Enrolment, NewSecret

_SECRET = re.compile(r"[0-9a-f]{64}")
_BUSY_INTERVAL = 60
"""Seconds until a host that was asked to change something says what came of it."""


def _enrol(call: Call) -> Enrolled:
    asked = call.read(Enrolment)
    check_words(asked.name, what="the host's name")
    token = need(call.token, "token")
    labels = {**asked.labels, **token.labels}
    check_labels(labels)
    digest = fast_hash(_checked(asked.secret))
    with call.database.writing() as connection:
        host = host_with(connection, digest)
        if host is None:
            if not use_up(connection, token.id, now=call.now):
                raise RefusedError(
                    HTTPStatus.FORBIDDEN, "The enrolment token is used up.", hint="Ask for a new one."
                )
            host = Host(
                id=f"h{secrets.token_hex(8)}",
                name=asked.name,
                channel=token.channel or "stable",
                labels=labels,
                enrolled=call.now,
                seen=None,
                report=None,
            )
            add_host(connection, host, credential=digest, token_id=token.id)
            _tell(connection, host, call.actor)
    return Enrolled(host=host.id, channel=host.channel, labels=host.labels, interval=call.settings.interval)


def _check_in(call: Call) -> CheckedIn:
    report = call.read(HostReport)
    check_report(report)
    with call.database.writing() as connection:
        offer = check_in(connection, call.host_id, report, call.hearing)
    if offer is None:
        raise RefusedError(HTTPStatus.UNAUTHORIZED, "This host was removed.", hint="Enrol it again.")
    busy = offer.action != OfferAction.STAY or report.phase.value not in {"idle", "applied"}
    interval = call.settings.interval
    return CheckedIn(offer=offer, interval=min(interval, _BUSY_INTERVAL) if busy else interval)


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
        does=_enrol,
        body=Enrolment,
        answer=Enrolled,
        status=201,
    ),
    Endpoint(
        method="POST",
        path="/check-in",
        about="Report what the agent saw, and hear what the host should run and why.",
        needs=Bearer.HOST,
        does=_check_in,
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
