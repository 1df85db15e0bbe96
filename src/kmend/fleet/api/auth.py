"""Who asks: a person's or a program's token, or a host's credential; and who tried too often."""

from __future__ import annotations

import hmac
import re
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import NoReturn

from kmend.fleet.allowance import Allowance
from kmend.fleet.api.problems import RefusedError
from kmend.fleet.store.database import Database
from kmend.fleet.store.hosts import credentials_of, set_credentials
from kmend.fleet.store.tokens import fast_hash, locked_until, note_failure, note_use, token_for
from kmend.model.fleet import Role, Token

_HOST = re.compile(r"kmend-host\.([0-9a-z-]{1,40})\.([0-9a-f]{64})")
_RANKS = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)
_ADDRESS = 50
"""Characters of an address that count; a proxy may pass on anything."""
_NOTE_USE_EVERY = timedelta(minutes=1)


def bearer(header: str) -> str:
    """What stands in an Authorization header.

    Raises:
        RefusedError: Nothing of use does.
    """
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise RefusedError(
            HTTPStatus.UNAUTHORIZED, "This needs a token.", hint="Send the header `Authorization: Bearer TOKEN`."
        )
    return text.strip()


def token_of(database: Database, text: str, *, needs: Role, source: str, now: datetime) -> Token:
    """The token that a text is, if it holds and may do what is asked.

    Raises:
        RefusedError: It does not hold, may not, or its address has tried too often.
    """
    source = f"token {source[:_ADDRESS]}"
    with database.reading() as connection:
        _not_locked(locked_until(connection, source, now=now), now)
        token = token_for(connection, text, now=now)
    if token is None:
        _failed(database, source, now)
    if token.last_used is None or now - token.last_used >= _NOTE_USE_EVERY:
        with database.writing() as connection:
            note_use(connection, token.id, now=now)
    if not _may(token.role, needs):
        raise RefusedError(
            HTTPStatus.FORBIDDEN,
            f"This needs the role {needs}; the token “{token.name}” has {token.role}.",
            hint="Ask an admin for a token with that role.",
        )
    return token


def host_of(database: Database, text: str, *, source: str, now: datetime) -> tuple[str, str]:
    """Id of the host whose credential a text is, and the hash of its secret.

    A good credential is never locked out: its host may share an address with one that is not known any more.

    Raises:
        RefusedError: It is no host's (any more).
    """
    source = f"host {source[:_ADDRESS]}"
    host_id, digest = host_credential(text)
    with database.reading() as connection:
        known = credentials_of(connection, host_id)
        good = known is not None and any(hmac.compare_digest(digest, one) for one in known if one)
        if not good:
            _not_locked(locked_until(connection, source, now=now), now)
    if not good:
        _failed(database, source, now)
    if known and known[1] == digest:
        with database.writing() as connection:
            set_credentials(connection, host_id, credential=digest, next_credential=None)
    return host_id, digest


def host_credential(text: str) -> tuple[str, str]:
    """The host's id that a credential names, and the hash of its secret; both empty when it is no credential."""
    found = _HOST.fullmatch(text)
    return (found[1], fast_hash(found[2])) if found else ("", "")


def not_too_often(allowance: Allowance, token: Token) -> None:
    """Count a request of somebody whose token holds.

    Raises:
        RefusedError: There were too many of late.
    """
    if (later := allowance.take(token.id)) is not None:
        raise RefusedError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"Too many requests came with the token “{token.name}”.",
            hint="Wait as long as Retry-After says; a program of its own gets a token of its own.",
            retry=later,
        )


def _may(role: Role, needs: Role) -> bool:
    if Role.ENROL in {role, needs}:
        return role == needs
    return _RANKS.index(role) >= _RANKS.index(needs)


def _not_locked(until: datetime | None, now: datetime) -> None:
    if until is None:
        return
    seconds = max(1, int((until - now).total_seconds()) + 1)
    raise RefusedError(
        HTTPStatus.TOO_MANY_REQUESTS, "Too many wrong tokens came from this address.", hint="Wait.", retry=seconds
    )


def _failed(database: Database, source: str, now: datetime) -> NoReturn:
    with database.writing() as connection:
        note_failure(connection, source, now=now)
    raise RefusedError(
        HTTPStatus.UNAUTHORIZED,
        "The token is not known, has expired or was revoked.",
        hint="Ask an admin for a new one; a host enrols again.",
    )
