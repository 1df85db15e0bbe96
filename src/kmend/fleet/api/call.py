"""One request as a handler sees it: what was asked, by whom, and when."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from kmend.fleet.acts import Actor, UnknownError
from kmend.fleet.checks import check_plain, check_shape, known_part
from kmend.fleet.store.database import Database
from kmend.fleet.store.health import Hearing
from kmend.kit.errors import BugError, InputError
from kmend.model import wire
from kmend.model.fleet import Failure, HostReport, Token
from kmend.model.host import Quarantine
from kmend.model.kernel import Kernel
from kmend.model.look import AreaScore, AuditLook, ExposureLook, FailedCheck, Look, OpenCve, ReachGroup
from kmend.model.protocol import Enrolment

T = TypeVar("T")
PAGE = 100
LONGEST_PAGE = 1000
_SILENCE = 180
"""Seconds that every host may say nothing, however short the interval."""
_LOOK = (Look, AuditLook, AreaScore, FailedCheck, ExposureLook, ReachGroup, OpenCve)
LENIENT: frozenset[type[object]] = frozenset({HostReport, Kernel, Quarantine, Failure, Enrolment, *_LOOK})
"""What agents send may have fields that this server does not know: agents may be newer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the server is set up."""

    interval: int = 300
    """Seconds between two check-ins of a host."""
    silence: int = 900
    """Seconds without a check-in after which a host is silent."""
    body_limit: int = 256 * 1024
    """Bytes of a request's body."""
    body_seconds: float = 20
    """For a request's body to arrive."""
    keep_days: int = 90
    """Of events, hosts' histories and tokens that do not hold any more; 0: for ever."""
    repository: Path | None = None
    """Folder of the signed repository, if the server knows it."""
    most_waiting: int = 400
    """Requests of agents that may be under way at a time; more are asked to come back."""
    most_people: int = 100
    """The same for people and programs, who have a door of their own."""
    per_second: float = 50
    """Requests of one token in the long run."""
    at_once: int = 500
    """Requests of one token that did not ask for some time."""
    most_streams: int = 200
    """Readers of events as they happen."""
    heartbeat: float = 15
    """Seconds after which a stream in which nothing happens shows that it lives."""


def settings_for(interval: int, *, keep_days: int) -> Settings:
    """What goes with so many seconds between check-ins; while a livepatch is being loaded nothing is said."""
    return Settings(interval=interval, silence=max(3 * interval, _SILENCE), keep_days=keep_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request."""

    database: Database
    settings: Settings
    now: datetime
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes = b""
    authorization: str = ""
    """The header, as it came."""
    source: str = ""
    """The address that it came from."""
    last_event: str = ""
    """The header Last-Event-ID, as it came."""
    token: Token | None = None
    """Whose it is, if a person's or a program's."""
    host_id: str = ""
    """Whose it is, if a host's."""
    secret_hash: str = ""
    """Of the host's secret that it came with."""

    @property
    def actor(self) -> Actor:
        """Who acts, for the audit log."""
        if self.token is None:
            return Actor(name=f"host:{self.host_id}", now=self.now)
        return Actor(name=f"token:{self.token.id} {self.token.name}", now=self.now)

    @property
    def hearing(self) -> Hearing:
        """Now, and how long hosts may be silent."""
        return Hearing(now=self.now, silence=timedelta(seconds=self.settings.silence))

    def read(self, kind: type[T]) -> T:
        """The body as a noun.

        Raises:
            InputError: It is none.
        """
        try:
            value = json.loads(self.body.decode(), parse_float=_number, object_pairs_hook=_object)
        except (ValueError, RecursionError):
            raise InputError("The body is not JSON.", hint="Send JSON in UTF-8.") from None
        if kind in LENIENT:
            value = known_part(kind, value)
        check_plain(value)
        check_shape(kind, value, lenient=kind in LENIENT)
        try:
            return wire.take(kind, value, what="the body")
        except InputError as error:
            raise InputError(
                error.message, hint="The OpenAPI document at /api/v1/openapi.json says how."
            ) from None

    def text(self, name: str) -> str:
        """A query parameter; empty when it is not there."""
        value = self.query.get(name, "")
        check_plain(value)
        return value

    def number(self, name: str, *, default: int, lowest: int, highest: int) -> int:
        """A query parameter that is a whole number.

        Raises:
            InputError: It is none, or out of range.
        """
        text = self.query.get(name)
        if text is None:
            return default
        # Not int() alone, which takes " 1_0 " and digits of every script.
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1  # noqa: PLR2004
        if not lowest <= number <= highest:
            raise InputError(f"{name} has to be a number from {lowest} to {highest}, not {text[:30]!r}.")
        return number

    def flag(self, name: str) -> bool:
        """A query parameter that is true or false; false when it is not there.

        Raises:
            InputError: It is neither.
        """
        text = self.query.get(name, "false")
        if text not in {"true", "false"}:
            raise InputError(f"{name} has to be true or false, not {text[:30]!r}.")
        return text == "true"

    @property
    def limit(self) -> int:
        """How many things a page shall have."""
        return self.number("limit", default=PAGE, lowest=1, highest=LONGEST_PAGE)

    def cursor(self) -> list[str]:
        """Where the page begins: what `make_cursor` was given; empty at the beginning.

        Raises:
            UnknownError: It was not made by this server.
        """
        text = self.query.get("cursor", "")
        if not text:
            return []
        try:
            parts = json.loads(base64.urlsafe_b64decode(text.encode()))
        except (ValueError, binascii.Error, RecursionError):
            parts = None
        if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
            raise UnknownError("The cursor is none of this server's.", hint="Use `next` of the page before.")
        check_plain(parts)
        return parts


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; one that says the same thing twice could mean either.

    Raises:
        ValueError: It does.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _number(text: str) -> float:
    """A JSON number; 3.0 is a whole number, as JSON schema has it."""
    number = float(text)
    return int(number) if number.is_integer() else number


def make_cursor(*parts: str) -> str:
    """An opaque text for the place in a list; clients hand it back as it is."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def cursor_number(parts: list[str]) -> int | None:
    """A cursor that is one number; None at the beginning.

    Raises:
        UnknownError: It is something else.
    """
    if not parts:
        return None
    if len(parts) != 1 or not parts[0].isascii() or not parts[0].isdigit() or len(parts[0]) > 18:  # noqa: PLR2004
        raise UnknownError("The cursor is of another list.", hint="Use `next` of the page before.")
    return int(parts[0])


def need(value: T | None, what: str) -> T:
    """The value, which another check has made sure of.

    Raises:
        BugError: It is None.
    """
    if value is None:
        raise BugError(f"There is no {what} where there has to be one.")
    return value
