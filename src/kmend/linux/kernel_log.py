"""The kernel log, as /dev/kmsg gives it (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_RECORD = 8192
_FATAL = re.compile(
    r"\b(Oops\b|BUG:(?!.*soft lockup)|kernel BUG at|general protection fault|Kernel panic|unable to handle)"
)
_SERIOUS = re.compile(
    r"\b(WARNING: (CPU|possible|suspicious|\S+:\d+ at)|soft lockup|hard LOCKUP|blocked for more than"
    r"|detected stalls?|self-detected stall)"
)
_END = re.compile(r"---\[ end (trace|Kernel panic)")
# An entry that the unwinder vouches for; those with a question mark are leftovers on the stack.
_FRAME = re.compile(r"(?<!\? )\b([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[(\w+)\])?")
_TRACE_LINES = 120
_FACILITY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One record: its sequence number, which only rises, and its text."""

    number: int
    text: str


def read_kernel_log(root: Path = Path("/"), *, after: int = -1) -> tuple[LogLine, ...]:
    """The kernel's own records above a number that it still holds; empty when they may not be read."""
    try:
        descriptor = os.open(root / "dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ()
    try:
        return tuple(line for line in _records(descriptor) if line.number > after)
    finally:
        os.close(descriptor)


def can_read_kernel_log(root: Path = Path("/")) -> bool:
    """Whether the log may be read at all."""
    try:
        os.close(os.open(root / "dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def newest_record(root: Path = Path("/")) -> int:
    """The number of the newest record; -1 when there is none."""
    return max((line.number for line in read_kernel_log(root)), default=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTrouble:
    """One oops, BUG, WARN, hung task, lockup or stall, with what its trace names."""

    text: str
    fatal: bool
    """An oops or a BUG: whatever ran there was cut short."""
    functions: frozenset[str]
    """Functions in the trace, without the suffixes that the compiler gives parts and copies."""
    modules: frozenset[str]
    """Modules in the trace."""


def troubles_in(lines: Sequence[LogLine]) -> tuple[KernelTrouble, ...]:
    """What went wrong in the kernel, each with its own trace; in order."""
    heads = [place for place, line in enumerate(lines) if _head(line.text)]
    ends = [*heads[1:], len(lines)]
    return tuple(_trouble(lines[begin:end]) for begin, end in zip(heads, ends, strict=False))


def _head(text: str) -> bool:
    return bool(_FATAL.search(text) or _SERIOUS.search(text))


def _trouble(lines: Sequence[LogLine]) -> KernelTrouble:
    trace = []
    for line in lines[:_TRACE_LINES]:
        if _END.search(line.text):
            break
        trace += _FRAME.findall(line.text)
    return KernelTrouble(
        text=lines[0].text,
        fatal=bool(_FATAL.search(lines[0].text)),
        functions=frozenset(name.split(".")[0] for name, _ in trace),
        modules=frozenset(module for _, module in trace if module),
    )


def _records(descriptor: int) -> list[LogLine]:
    found = []
    while chunk := _next(descriptor):
        for line in chunk.decode(errors="replace").splitlines():
            head, _, text = line.partition(";")
            fields = head.split(",")
            if len(fields) > 2 and fields[1].isdigit() and _by_kernel(fields[0]):  # noqa: PLR2004 - level, number, time
                found.append(LogLine(number=int(fields[1]), text=text))
    return found


def _by_kernel(level: str) -> bool:
    """Whether the kernel itself wrote a record; programs can write to the log too, under another facility."""
    return level.isdigit() and int(level) >> _FACILITY == 0


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
