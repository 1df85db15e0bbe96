"""How things are written on the command line: livepatches, waves, labels, lengths of time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from kmend.kit.errors import InputError
from kmend.kit.printable import printable
from kmend.model import wire
from kmend.model.livepatch import Livepatch
from kmend.model.rollout import Target, Wave

_LENGTH = re.compile(r"(\d{1,9})(s|m|h|d|)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_CELL = 1000
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%\s*(.*)")


def seconds(text: str) -> int:
    """A length of time such as 90, 90s, 30m, 2h, 1d.

    Raises:
        InputError: It is none.
    """
    found = _LENGTH.fullmatch(text.strip())
    if not found:
        raise InputError(f"{text!r} is no length of time.", hint="Write 90s, 30m, 2h or 1d.")
    return int(found[1]) * _SECONDS[found[2]]


def wave(text: str, *, soak: int) -> Wave:
    """A wave such as ``1%``, ``role=canary``, ``10% zone=a:2h``; ``soak`` holds where it says none.

    Raises:
        InputError: It is none.
    """
    who, colon, length = text.partition(":")
    found = _PERCENT.fullmatch(who.strip())
    percent, selector = (float(found[1]), found[2]) if found else (100.0, who.strip())
    if not found and not selector:
        raise InputError(f"{text!r} is no wave.", hint="Write e.g. 1%, role=canary, or '10% zone=a:2h'.")
    return Wave(percent=percent, selector=selector, soak=seconds(length) if colon else soak)


def target(text: str) -> Target:
    """A livepatch: BUILD_ID=NUMBER, a livepatch.json, or a folder that has one.

    Raises:
        InputError: It is none.
    """
    build_id, equals, number = text.partition("=")
    if equals and number.isdecimal():
        return Target(build_id=build_id, number=int(number))
    path = Path(text)
    path = path / "livepatch.json" if path.is_dir() else path
    try:
        livepatch = wire.load(Livepatch, path.read_bytes(), what=str(path))
    except OSError as error:
        raise InputError(
            f"{text!r} is no livepatch: {error.strerror}.",
            hint="Give BUILD_ID=NUMBER or what `kmend build` left.",
        ) from None
    return Target(build_id=livepatch.kernel.build_id, number=livepatch.number)


def labels(pairs: tuple[str, ...]) -> dict[str, str]:
    """Labels from KEY=VALUE.

    Raises:
        InputError: One is not written so.
    """
    split = [pair.partition("=") for pair in pairs]
    if wrong := [key for key, equals, _ in split if not key or not equals]:
        raise InputError(f"{wrong[0]!r} is no label.", hint="Write KEY=VALUE.")
    return {key: value for key, _, value in split}


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago something was, in one unit."""
    if moment is None:
        return "never"
    passed = max(0, int((now - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if passed >= size:
            return f"{passed // size} {unit} ago"
    return f"{passed} s ago"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, empty: str) -> str:
    """Columns that line up, each row on a line of its own; ``empty`` where there are no rows."""
    if not rows:
        return empty
    rows = [tuple(printable(cell, most=_CELL) for cell in row) for row in rows]
    widths = [max(len(row[index]) for row in (head, *rows)) for index in range(len(head))]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (head, *rows))
    return "\n".join("  ".join(cells).rstrip() for cells in padded)
