"""The line-based channel between kmend and the guest program (guest/guest.c is the other end)."""

from __future__ import annotations

import itertools
import logging
import socket
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kmend.kit.errors import BugError, MachineError

log = logging.getLogger(__name__)

TIMED_OUT = (124, 125)
"""Codes of a command that ran out of time: killed, or not even that helped."""


class LostGuest(MachineError):  # noqa: N818 - a noun of the lab, as its message is
    """The guest is gone or says nothing any more: panic, hang, or QEMU ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command in the guest left."""

    code: int
    """Exit code; 128+signal; 124 out of time; 125 out of time and not killable; 127 not startable."""
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="replace")

    @property
    def error_text(self) -> str:
        """Standard error as text, without blank ends."""
        return self.stderr.decode(errors="replace").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """A sign of life. ``uptime_ms`` counts from the guest's boot."""

    uptime_ms: int
    first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The answer to the command with this number."""

    number: int
    answer: Answer


def request_line(number: int, args: Sequence[str], *, uid: int, timeout: float, stdin: bytes) -> bytes:
    """One ``run`` request. ``timeout`` in seconds.

    Raises:
        BugError: No arguments, more than the guest takes, or a NUL in one.
    """
    if not 0 < len(args) < 255 or any("\0" in arg for arg in args):  # noqa: PLR2004 - as in guest.c
        raise BugError(f"Not a command for the guest: {args!r}")
    words = b"".join(arg.encode() + b"\0" for arg in args)
    return b"run %d %d %d %s %s\n" % (number, uid, int(timeout * 1000), b64encode(words), b64encode(stdin) or b"-")


def parse_line(line: bytes) -> Alive | Done | None:
    """What the guest said, or None for noise (a line cut by a crash, say)."""
    try:
        match line.split():
            case [b"hello" | b"alive" as word, uptime]:
                return Alive(uptime_ms=int(uptime), first=word == b"hello")
            case [b"done", number, code, stdout, stderr]:
                return Done(
                    number=int(number),
                    answer=Answer(code=int(code), stdout=_bytes(stdout), stderr=_bytes(stderr)),
                )
    except ValueError:
        pass
    return None


def _bytes(word: bytes) -> bytes:
    return b"" if word == b"-" else b64decode(word, validate=True)


class Channel:
    """Runs commands in the guest; several threads may do so at the same time.

    Args:
        line: Connected socket.
        obituary: Says why the guest is known to be gone (QEMU has ended, say), or an empty string.
        silence: Seconds without any sign of life after which the guest counts as hung.
    """

    def __init__(self, line: socket.socket, *, obituary: Callable[[], str], silence: float) -> None:
        self._socket = line
        self._obituary = obituary
        self._silence = silence
        self._numbers = itertools.count(1)
        self._answers: dict[int, Answer] = {}
        self._heard = threading.Condition()
        self._last_sign = time.monotonic()
        self._greeted = False
        self._closed = False
        self._sending = threading.Lock()
        threading.Thread(target=self._listen, name="lab-channel", daemon=True).start()

    def wait_up(self, *, timeout: float) -> None:
        """Wait for the guest's first sign of life.

        Raises:
            LostGuest: It did not come within ``timeout`` seconds, or the guest ended.
        """
        self._wait(lambda: self._greeted, timeout=timeout, what="the guest to come up", silent_is_lost=False)

    def run(self, args: Sequence[str], *, timeout: float = 60, uid: int = 0, stdin: bytes = b"") -> Answer:
        """Run a command in the guest as some user and return what it left.

        Args:
            args: Program and arguments.
            timeout: Seconds; then it is killed and the code is one of ``TIMED_OUT``.
            uid: User and group id.
            stdin: Bytes to feed.

        Raises:
            LostGuest: The guest died or fell silent.
        """
        number = next(self._numbers)
        log.debug("guest: %s", args)
        try:
            with self._sending:
                self._socket.sendall(request_line(number, args, uid=uid, timeout=timeout, stdin=stdin))
        except OSError as error:
            raise LostGuest(self._obituary() or f"The guest's channel broke: {error}") from None
        self._wait(lambda: number in self._answers, timeout=timeout + self._silence, what=" ".join(args)[:80])
        return self._answers.pop(number)

    def close(self) -> None:
        """End the channel."""
        self._closed = True
        self._socket.close()

    def _wait(self, ready: Callable[[], bool], *, timeout: float, what: str, silent_is_lost: bool = True) -> None:
        deadline = time.monotonic() + timeout
        with self._heard:
            self._last_sign = max(self._last_sign, time.monotonic() - self._silence / 2)
            while not ready():
                now = time.monotonic()
                if gone := self._obituary():
                    raise LostGuest(gone)
                if silent_is_lost and now - self._last_sign > self._silence:
                    raise LostGuest(f"The guest hangs: no sign of life for {self._silence:g} s (during: {what}).")
                if now > deadline:
                    raise LostGuest(f"The guest did not answer within {timeout:g} s: waiting for {what}.")
                self._heard.wait(0.25)

    def _listen(self) -> None:
        rest = b""
        while not self._closed:
            try:
                data = self._socket.recv(1 << 18)
            except OSError:
                return
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n") if b"\n" in data else (rest + data,)
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        said = parse_line(line)
        with self._heard:
            match said:
                case Alive():
                    self._last_sign = time.monotonic()
                    self._greeted = True
                case Done():
                    self._last_sign = time.monotonic()
                    self._answers[said.number] = said.answer
                case None:
                    log.debug("guest, unreadable: %r", line[:200])
            self._heard.notify_all()
