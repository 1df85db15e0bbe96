"""Speaks to the server; needs no library of the server's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import urllib3

from kmend.kit.errors import BusyError, InputError, KmendError, SourceError
from kmend.model import wire
from kmend.model.protocol import Problem

T = TypeVar("T")
_TIMEOUT = urllib3.Timeout(connect=10, read=60)
_PAGE = 500
_INPUT = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A server, and the token to speak to it with."""

    server: str
    token: str
    ca_file: str | None = None
    fingerprint: str | None = None
    """SHA-256 of the server's certificate; only that very certificate is taken then."""

    def get(self, kind: type[T], path: str, query: Mapping[str, Any] | None = None) -> T:
        """One thing.

        Raises:
            InputError: The server refuses.
            SourceError: It does not answer, or with something else.
        """
        return wire.load(kind, self._ask("GET", path, query=query), what="the server's answer")

    def pages(self, kind: type[T], path: str, query: Mapping[str, Any] | None = None) -> Iterator[T]:
        """All pages of a list, one after the other."""
        asked = {"limit": _PAGE, **(query or {})}
        while True:
            page = self.get(kind, path, asked)
            yield page
            cursor = getattr(page, "next", None)
            if not cursor:
                return
            asked["cursor"] = cursor

    def send(self, kind: type[T], method: str, path: str, body: object) -> T:
        """Ask for a change, or with no body just for something to be done; what came of it."""
        content = None if body is None else json.dumps(wire.plain(body)).encode()
        return wire.load(kind, self._ask(method, path, body=content), what="the server's answer")

    def remove(self, path: str) -> None:
        """Ask for something to be gone."""
        self._ask("DELETE", path)

    def _ask(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: bytes | None = None
    ) -> bytes:
        given = {name: value for name, value in (query or {}).items() if value not in {None, ""}}
        url = f"{self.server.rstrip('/')}/api/v1{path}{'?' + urlencode(given) if given else ''}"
        headers = {"Authorization": f"Bearer {self.token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            answer = self._pool().request(method, url, body=body, headers=headers, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise _refusal(answer.status, answer.data)
        return answer.data

    def _pool(self) -> urllib3.PoolManager:
        # With a fingerprint the certificate is known by itself, so nobody has to vouch for it.
        checks: dict[str, Any] = {"cert_reqs": "CERT_REQUIRED", "ca_certs": self.ca_file}
        if self.fingerprint:
            checks = {"cert_reqs": "CERT_NONE", "assert_fingerprint": self.fingerprint}
        return urllib3.PoolManager(timeout=_TIMEOUT, retries=False, **checks)

    def _unreachable(self, error: Exception) -> SourceError:
        hint = "Is the server running, and is --server right?"
        if isinstance(error, urllib3.exceptions.SSLError):
            hint = "Give --ca FILE, or --fingerprint as `kmend serve` printed it."
        return SourceError(f"{self.server} does not answer: {error}", hint=hint)


def part(text: str) -> str:
    """A text as one part of a path."""
    return quote(text, safe="")


def _refusal(status: int, content: bytes) -> KmendError:
    """The error that a problem means on this side."""
    try:
        told = wire.load(Problem, content, what="the server's answer")
    except InputError:
        return SourceError(f"The server answered with {status} and no explanation.", hint="Is it a kmend server?")
    if status == HTTPStatus.CONFLICT:
        return BusyError(told.detail, hint=told.hint)
    return (InputError if status in _INPUT else SourceError)(told.detail, hint=told.hint)
