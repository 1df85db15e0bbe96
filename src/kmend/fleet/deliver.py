"""Sends the notices that wait for webhooks: signed, without following redirects, and never for long."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import urllib3

from kmend import __version__
from kmend.fleet.store.database import Database
from kmend.fleet.store.webhooks import Claimed, anything_due, claim, forget_old, settle
from kmend.kit.errors import InputError
from kmend.model import wire

TIMESTAMP = "Kmend-Timestamp"
SIGNATURE = "Kmend-Signature"
_AT_ONCE = 8
_TIMEOUT = urllib3.Timeout(connect=5, read=10, total=15)
_LONGEST = 2000
_LONGEST_ERROR = 300
_OK = range(200, 300)
_HOST = re.compile(r"[A-Za-z0-9.:_\[\]-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What came of an attempt."""

    status: int | None
    error: str


def check_url(url: str) -> None:
    """Check where notices shall go. Addresses of one's own network are welcome: the receiver may well be there.

    Raises:
        InputError: It is no address of a web server, or holds a password, which every admin would see.
    """
    parts = None
    with suppress(ValueError):
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises when it is none
    good = parts is not None and parts.scheme in {"http", "https"} and _HOST.fullmatch(parts.netloc)
    if not good or len(url) > _LONGEST or not url.isascii() or not url.isprintable() or " " in url or "#" in url:
        raise InputError(
            f"{url[:80]!r} is no address that notices can go to.",
            hint="Give https://HOST/PATH, without a password.",
        )


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What a receiver compares: HMAC-SHA256 with the webhook's secret over the timestamp, a dot and the body."""
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def deliver_due(database: Database, *, now: datetime) -> int:
    """Send what waits and is due, a few at a time; how many were sent, well or not.

    Raises:
        MachineError: The database does not answer.
    """
    with database.reading() as connection:
        if not anything_due(connection, now=now):
            return 0
    with database.writing() as connection:
        forget_old(connection, now=now)
        claimed = claim(connection, now=now, most=_AT_ONCE)
    if not claimed:
        return 0
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        outcomes = list(threads.map(lambda one: _send(one, now), claimed))
    _keep(database, claimed, outcomes, now)
    return len(claimed)


def deliver_all(database: Database, *, clock: Callable[[], datetime]) -> int:
    """Send until nothing is due; how many were sent."""
    sent = 0
    while many := deliver_due(database, now=clock()):
        sent += many
    return sent


def _keep(database: Database, claimed: Sequence[Claimed], outcomes: Sequence[_Outcome], now: datetime) -> None:
    with database.writing() as connection:
        for one, outcome in zip(claimed, outcomes, strict=True):
            settle(connection, one, status=outcome.status, error=outcome.error, now=now)


def _send(one: Claimed, now: datetime) -> _Outcome:
    body = json.dumps(wire.plain(one.notice), separators=(",", ":")).encode()
    timestamp = str(int(now.timestamp()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"kmend/{__version__}",
        "Kmend-Happening": one.notice.happening.value,
        "Kmend-Notice": one.notice.id,
        TIMESTAMP: timestamp,
        SIGNATURE: signature(one.secret, timestamp, body),
    }
    try:
        with urllib3.PoolManager(timeout=_TIMEOUT, retries=False) as pool:
            # The answer's body is not read: nobody needs it, and it may be endless.
            answer = pool.request(
                "POST", one.url, body=body, headers=headers, redirect=False, preload_content=False
            )
            answer.close()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        return _Outcome(status=None, error=f"no answer: {error}"[:_LONGEST_ERROR])
    status = int(answer.status)
    return _Outcome(status=status, error="" if status in _OK else f"it answered {status}")
