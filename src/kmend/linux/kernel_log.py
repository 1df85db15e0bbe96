"""The kernel log, as /dev/kmsg gives it (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

_RECORD = 8192
_TROUBLE = re.compile(
    r"\b(Oops\b|BUG:|WARNING: CPU|general protection fault|Kernel panic|soft lockup|hard LOCKUP"
    r"|blocked for more than|detected stall|unable to handle)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One record: its sequence number, which only rises, and its text."""

    number: int
    text: str


def read_kernel_log(root: Path = Path("/"), *, after: int = -1) -> tuple[LogLine, ...]:
    """The records that the kernel still holds with a number above ``after``; empty when it may not be read."""
    try:
        descriptor = os.open(root / "dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ()
    try:
        return tuple(line for line in _records(descriptor) if line.number > after)
    finally:
        os.close(descriptor)


def newest_record(root: Path = Path("/")) -> int:
    """The number of the newest record; -1 when there is none."""
    return max((line.number for line in read_kernel_log(root)), default=-1)


def trouble_in(lines: tuple[LogLine, ...]) -> tuple[str, ...]:
    """The texts that tell of an oops, a WARN, a BUG or a stall."""
    return tuple(line.text for line in lines if _TROUBLE.search(line.text))


def _records(descriptor: int) -> list[LogLine]:
    found = []
    while chunk := _next(descriptor):
        for line in chunk.decode(errors="replace").splitlines():
            head, _, text = line.partition(";")
            fields = head.split(",")
            if len(fields) > 2 and fields[1].isdigit():  # noqa: PLR2004 - priority, number, time
                found.append(LogLine(number=int(fields[1]), text=text))
    return found


def _next(descriptor: int) -> bytes:
    """The next record, or nothing when all were read."""
    while True:
        try:
            return os.read(descriptor, _RECORD)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno != errno.EPIPE:  # records were overwritten meanwhile: go on with the oldest left
                return b""
