"""Speaks to the fleet's server: four requests, bounded in size and time. Nothing that it says is trusted here.

docs/reference/fleet-protocol.md describes what goes over the wire.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import urllib3

from kmend import __version__
from kmend.kit.errors import InputError, KmendError, SourceError
from kmend.model import wire
from kmend.model.fleet import HostReport
from kmend.model.look import Look
from kmend.model.protocol import CheckedIn, Enrolled, Enrolment, NewSecret, Problem
from kmend.trust.download import proxy_for

T = TypeVar("T")
_TIMEOUT = urllib3.Timeout(connect=5, read=20)
_TOTAL = 30.0
"""Seconds for one answer, however steadily it drips."""
_MOST = 1 << 20
_CHUNK = 1 << 16
_LONGEST_WAIT = 3600
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_HEX = 64
_SELF = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


class ServerError(SourceError):
    """The server refused, or did not answer.

    ``status`` is its HTTP status, 0 when there was none; ``retry_after`` the seconds that it asks to wait, if any.
    """

    def __init__(self, message: str, *, hint: str = "", status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where the server is, and how it is known to be the right one."""

    address: str
    ca: str = ""
    """Certificates (PEM) that may vouch for the server; empty: those of this machine."""
    fingerprint: str = ""
    """SHA-256 of the server's certificate: only that very certificate is taken then."""
    proxy: str = ""
    """Instead of what the environment says; empty: what the environment says."""

    def enrol(self, enrolment: Enrolment, *, token: str) -> Enrolled:
        """Ask to be taken in; asking again with the same secret gives the same answer.

        Raises:
            InputError: The token does not hold.
            ServerError: The server does not take the host in, is away, or nobody vouches for it.
        """
        return self._answer(Enrolled, self._ask("POST", "/enrol", bearer=token, body=enrolment))

    def check_in(self, report: HostReport, *, credential: str) -> CheckedIn:
        """Report; what comes back was said when the report was on the server's disk.

        Raises:
            ServerError: The server refuses, is away, or nobody vouches for it.
        """
        return self._answer(CheckedIn, self._ask("POST", "/check-in", bearer=credential, body=report))

    def change_secret(self, secret: str, *, credential: str) -> None:
        """Ask for another secret; the old one holds until the new one was used.

        Raises:
            ServerError: The server refuses, is away, or nobody vouches for it.
        """
        self._ask("PUT", "/agent/secret", bearer=credential, body=NewSecret(secret=secret))

    def tell_look(self, look: Look, *, credential: str) -> None:
        """Tell what a look at the host came to.

        Raises:
            ServerError: The server refuses, is away, nobody vouches for it, or it is older than looks are.
        """
        self._ask("PUT", "/agent/look", bearer=credential, body=look)

    def _answer(self, kind: type[T], content: bytes) -> T:
        try:
            return wire.load(kind, content, what=f"what {self.address} answered")
        except InputError as error:
            raise ServerError(error.message, hint="Is it a kmend server, and of a version that fits?") from None

    def _ask(self, method: str, path: str, *, bearer: str, body: object) -> bytes:
        url = f"{self.address}/api/v1{path}"
        headers = {
            "Authorization": f"Bearer {bearer}",
            "Content-Type": "application/json",
            "User-Agent": f"kmend-agent/{__version__}",
            "Accept-Encoding": "identity",
        }
        content = json.dumps(wire.plain(body)).encode()
        try:
            answer = self._pool().request(
                method, url, body=content, headers=headers, redirect=False, preload_content=False
            )
            told = self._read(answer)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise self._unreachable(error) from None
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._refusal(answer, told)
        return told

    def _pool(self) -> urllib3.PoolManager:
        checks: dict[str, Any] = {"cert_reqs": "CERT_REQUIRED", "ca_cert_data": self.ca or None}
        if self.fingerprint:  # the certificate is known by itself, so nobody has to vouch for it
            checks = {"cert_reqs": "CERT_NONE", "assert_fingerprint": self.fingerprint}
        proxy = self.proxy or proxy_for(self.address)
        if proxy:
            return urllib3.ProxyManager(proxy, timeout=_TIMEOUT, retries=False, **checks)
        return urllib3.PoolManager(timeout=_TIMEOUT, retries=False, **checks)

    def _read(self, answer: urllib3.BaseHTTPResponse) -> bytes:
        deadline, received = time.monotonic() + _TOTAL, bytearray()
        try:
            while chunk := answer.read1(_CHUNK):
                received += chunk
                if len(received) > _MOST or time.monotonic() > deadline:
                    raise ServerError(
                        f"{self.address} answers with more, or more slowly, than a kmend server does."
                    )
        finally:
            answer.close()
        return bytes(received)

    def _unreachable(self, error: Exception) -> ServerError:
        reason = getattr(error, "reason", None) or error
        text = str(reason).partition(": ")[2] if isinstance(reason, urllib3.exceptions.NewConnectionError) else ""
        text = text or str(reason)
        if isinstance(reason, urllib3.exceptions.SSLError) or isinstance(error, urllib3.exceptions.SSLError):
            return ServerError(
                f"{self.address} cannot be trusted: {text}",
                hint="Give --ca FILE, or --fingerprint as `kmend serve` printed it.",
            )
        return ServerError(
            f"{self.address} does not answer: {text}", hint="Is the server running, and its address right?"
        )

    def _refusal(self, answer: urllib3.BaseHTTPResponse, content: bytes) -> KmendError:
        """The error that a problem means on this side."""
        retry = _seconds(answer.headers.get("Retry-After", ""))
        try:
            told = wire.load(Problem, content, what="the answer")
        except InputError:
            return ServerError(
                f"{self.address} answers with status {answer.status} and no explanation.",
                hint="Is it the address of a kmend server?",
                status=answer.status,
                retry_after=retry,
            )
        return ServerError(
            f"{self.address} says: {told.detail}", hint=told.hint, status=answer.status, retry_after=retry
        )


def refused(error: ServerError) -> bool:
    """Whether the server does not know who asks."""
    return error.status in _SELF


def check_address(address: str) -> str:
    """The server's address without a slash at its end.

    Raises:
        InputError: It is none, or what is said would go over the network in the clear.
    """
    parts = urlsplit(address)
    host = _host_of(address)
    if parts.scheme not in {"https", "http"} or not host or parts.query or parts.fragment or parts.username:
        raise InputError(f"{address!r} is no address of a server.", hint="E.g. https://fleet.example.org:8443")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise InputError(
            f"{address} has no TLS, so everybody on the way could read this host's credential.",
            hint="Use https://; http:// is for a server on this very machine.",
        )
    return address.rstrip("/")


def check_fingerprint(text: str) -> str:
    """A certificate's SHA-256 as 64 lower-case hex digits; colons between them are left out.

    Raises:
        InputError: It is none.
    """
    found = text.replace(":", "").lower()
    if len(found) != _HEX or set(found) - set("0123456789abcdef"):
        raise InputError(
            f"{text!r} is no SHA-256 of a certificate.", hint="`kmend serve` prints it: 64 hex digits."
        )
    return found


def _host_of(address: str) -> str:
    """The host in an address; empty when there is none, or its port is no number."""
    parts = urlsplit(address)
    try:
        return parts.hostname or "" if parts.port is None or parts.port else ""
    except ValueError:
        return ""


def _seconds(text: str) -> float | None:
    """Seconds of a Retry-After header, at most an hour; a date is not used by kmend's server."""
    if not text.isascii() or not text.isdigit():
        return None
    return float(min(int(text[:9]), _LONGEST_WAIT))
