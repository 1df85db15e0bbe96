"""HTTP/1.1 over connections that stay open, or a new one for each request; to addresses of this machine only."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import socket
import ssl
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

import httptools

from kmend.kit.errors import InputError, SourceError

_ANSWER_IN = 60.0
_CHUNK = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server on this machine."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    fingerprint: str = ""
    """SHA-256 of the certificate that it has to show; empty for any that the authorities vouch for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    retry_after: float | None
    """Seconds, when the server named them."""
    content: bytes


def local_server(address: str, *, ca_file: str | None = None, fingerprint: str | None = None) -> Server:
    """The server at an address, which must be one of this machine's loopback.

    Raises:
        InputError: It is no address, or leads to another machine.
    """
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InputError(f"{address} is no address of a server.", hint="Give http(s)://localhost:PORT.")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise InputError(f"{parts.hostname} is not known: {error.strerror}.") from None
    far = sorted(one for one in found if not ipaddress.ip_address(one).is_loopback)
    if far:
        raise InputError(
            f"{parts.hostname} is {far[0]}, which is not this machine's loopback.",
            hint="Simulated hosts are for a server on this machine: give http(s)://localhost:PORT.",
        )
    tls = _context(ca_file, fingerprint) if parts.scheme == "https" else None
    return Server(host=parts.hostname, port=port, tls=tls, fingerprint=(fingerprint or "").lower())


def _context(ca_file: str | None, fingerprint: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    if fingerprint:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Connection:
    """One connection, opened when it is needed."""

    def __init__(self, server: Server, *, fresh: bool = False) -> None:
        """Make one; ``fresh`` ends it after each answer, as hosts do that ask every five minutes."""
        self._server = server
        self._fresh = fresh
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, *, bearer: str, body: bytes) -> Answer:
        """Ask once.

        Raises:
            SourceError: No answer came.
        """
        head = (
            f"POST /api/v1{path} HTTP/1.1\r\nHost: {self._server.host}\r\nAuthorization: Bearer {bearer}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(_ANSWER_IN):
                reader, writer = await self._open()
                writer.write(head.encode() + body)
                return await self._read(reader)
        except (OSError, TimeoutError, EOFError, httptools.HttpParserError) as error:
            self.close()
            raise SourceError(f"The server does not answer: {error or type(error).__name__}.") from None
        finally:
            if self._fresh:
                self.close()

    def close(self) -> None:
        """End it."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and self._streams[0].at_eof():
            self.close()  # the server ends connections that say nothing for a while
        if self._streams is None:
            server = self._server
            self._streams = await asyncio.open_connection(server.host, server.port, ssl=server.tls)
            self._check(self._streams[1])
        return self._streams

    def _check(self, writer: asyncio.StreamWriter) -> None:
        if not self._server.fingerprint:
            return
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""
        if not hmac.compare_digest(hashlib.sha256(shown).hexdigest(), self._server.fingerprint):
            raise ConnectionError("it shows another certificate than the one with that fingerprint")

    async def _read(self, reader: asyncio.StreamReader) -> Answer:
        heard = _Heard()
        parser = httptools.HttpResponseParser(heard)
        while not heard.complete:
            data = await reader.read(_CHUNK)
            if not data:
                raise EOFError("the connection ended")
            parser.feed_data(data)
        status = parser.get_status_code()
        if heard.last:  # the parser itself has forgotten it once the answer is complete
            self.close()
        return Answer(status=status, retry_after=heard.retry_after, content=b"".join(heard.parts))


@dataclass(slots=True)
class _Heard:
    """What the parser tells."""

    parts: list[bytes] = field(default_factory=list)
    retry_after: float | None = None
    complete: bool = False
    last: bool = False
    """Whether the server ends the connection after this answer."""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after" and value.isdigit():
            self.retry_after = float(value)
        elif name.lower() == b"connection" and value.lower() == b"close":
            self.last = True

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)

    def on_message_complete(self) -> None:
        self.complete = True


def is_delay(answer: Answer) -> bool:
    """Whether the server asks to come again later."""
    return answer.status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}
