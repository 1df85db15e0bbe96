"""Asking an engine over its socket: read-only GETs, each with an end in time and in size."""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from kmend.kit.errors import SourceError
from kmend.linux.facts.look import Look
from kmend.linux.facts.said import Said

_OK, _NOT_FOUND = 200, 404
_QUESTION = "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nUser-Agent: kmend\r\n\r\n"


class NoAnswerError(SourceError):
    """An engine did not answer as an engine does."""


class GoneError(NoAnswerError):
    """It does not know (any more) what was asked for."""


class _Timed(io.RawIOBase):
    """What comes from a socket until a moment: one who sends a byte now and then gains nothing."""

    def __init__(self, connection: socket.socket, end: float) -> None:
        self._connection = connection
        self._end = end

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes.

        Raises:
            TimeoutError: The moment has come.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Stream:
    """As much of a socket as an HTTPResponse needs."""

    def __init__(self, source: _Timed) -> None:
        self._source = source

    def makefile(self, _: str) -> io.BufferedReader:
        """The bytes to come."""
        return io.BufferedReader(self._source)


class Talk:
    """A connection to one engine; it is made anew when the engine ends it."""

    def __init__(self, look: Look, path: str, *, name: str) -> None:
        self._look = look
        self._path = path
        self._name = name
        self._connection: socket.socket | None = None
        self._end = time.monotonic() + look.limits.engine_seconds

    def close(self) -> None:
        """End the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def get(self, path: str) -> Said:
        """What the engine answers, as JSON.

        Raises:
            GoneError: It does not know what was asked for.
            NoAnswerError: It is silent, refuses, says too much, or what it says is no JSON.
        """
        now = time.monotonic()
        left = min(self._look.left, self._end - now)
        if left <= 0:
            raise NoAnswerError("the time for asking it was over")
        seconds = min(self._look.limits.answer_seconds, left)
        try:
            return Said(json.loads(self._answer(path, now + seconds)), self._look, self._name)
        except NoAnswerError:
            self.close()
            raise
        except TimeoutError:
            self.close()
            raise NoAnswerError(f"it did not answer in {seconds:.1f} s") from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswerError(f"it does not answer: {_reason(error)}") from None
        except (ValueError, RecursionError):
            self.close()
            raise NoAnswerError("what it answers is no JSON") from None

    def _answer(self, path: str, end: float) -> bytes:
        if self._connection is None:
            self._connection = self._connected(end)
        self._connection.settimeout(max(0.001, end - time.monotonic()))
        self._connection.sendall(_QUESTION.format(path=path).encode())
        stream = _Stream(_Timed(self._connection, end))
        response = http.client.HTTPResponse(cast("socket.socket", stream), method="GET")
        response.begin()
        content = self._content(response)
        if response.will_close:
            self.close()
        if response.status == _NOT_FOUND:
            raise GoneError("it does not know what was asked for")
        if response.status != _OK:
            raise NoAnswerError(f"it answers with status {response.status}")
        return content

    def _content(self, response: http.client.HTTPResponse) -> bytes:
        most = self._look.limits.answer_bytes
        if (response.length or 0) > most:
            raise NoAnswerError(f"it answers with {response.length} bytes; {most} is the most that is read")
        content = response.read(most + 1)
        if len(content) > most:
            raise NoAnswerError(f"it answers with more than {most} bytes")
        response.read(0)
        return content

    def _connected(self, end: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(max(0.001, end - time.monotonic()))
            with self._look.place(self._path) as place:
                connection.connect(place)
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def talk(look: Look, path: str, *, name: str) -> Iterator[Talk]:
    """A talk with the engine behind a socket; nothing is connected before the first question."""
    found = Talk(look, path, name=name)
    try:
        yield found
    finally:
        found.close()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
