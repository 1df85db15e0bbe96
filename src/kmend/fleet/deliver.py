"""Sends the notices that wait for webhooks: signed, without following redirects, and never for long."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from kmend import __version__
from kmend.fleet.store.database import Database
from kmend.fleet.store.webhooks import Claimed, anything_due, claim, forget_old, settle
from kmend.kit.errors import InputError
from kmend.model import wire

TIMESTAMP = "Kmend-Timestamp"
SIGNATURE = "Kmend-Signature"
_AT_ONCE = 8
_PATIENCE = 10.0
"""Seconds to connect, and for each piece of the answer."""
_AT_MOST = 15.0
"""Seconds for all of it."""
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
        status = _post(one.url, body, headers)
    except (http.client.HTTPException, OSError, ValueError) as error:
        return _Outcome(status=None, error=f"no answer: {error}"[:_LONGEST_ERROR])
    return _Outcome(status=status, error="" if status in _OK else f"it answered {status}")


def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of the answer. Its body is not read: nobody needs it, and it may be endless.

    Raises:
        TimeoutError: There was no answer in time, however busily the other side sends.
    """
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(host, parts.port)
    ends = time.monotonic() + _AT_MOST
    line = _connect(host, connection.port, ends)
    # Of its own, for TLS takes the line over: a handshake can be drawn out, too.
    handle = line.dup()
    late = threading.Event()

    def end() -> None:
        late.set()
        with suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, ends - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    try:
        connection.sock = ssl.create_default_context().wrap_socket(line, server_hostname=host) if secure else line
        path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        connection.request("POST", path, body=body, headers=headers)
        status = connection.getresponse().status
    except (http.client.HTTPException, OSError):
        if not late.is_set():
            raise
        status = 0
    finally:
        timer.cancel()
        for one in (connection, line, handle):
            one.close()
    if late.is_set():
        raise _too_late()
    return status


def _connect(host: str, port: int, ends: float) -> socket.socket:
    """A connection to the first of a host's addresses that takes it; all of them together have one end."""
    failed: OSError | None = None
    for address in _addresses(host, port, ends):
        left = ends - time.monotonic()
        if left <= 0:
            raise _too_late()
        try:
            line = socket.create_connection((address, port), timeout=min(_PATIENCE, left))
        except OSError as error:
            failed = error
        else:
            line.settimeout(_PATIENCE)
            return line
    raise failed or OSError(f"{host} has no address")


def _addresses(host: str, port: int, ends: float) -> list[str]:
    """A host's addresses. The resolver has no limit of its own, so it is left alone when it takes too long."""
    found: list[str] = []
    failed: list[OSError] = []

    def ask() -> None:
        try:
            found.extend(
                str(address[0]) for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except OSError as error:
            failed.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(max(0.0, ends - time.monotonic()))
    if asking.is_alive():
        raise _too_late()
    if failed:
        raise failed[0]
    return found


def _too_late() -> TimeoutError:
    return TimeoutError(f"none in {_AT_MOST:g} s")
