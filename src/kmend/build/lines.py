"""Keeps line numbers: ``#line`` after each changed function, so that ``__LINE__`` further down stays the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kmend.kit.errors import ProgramError
from kmend.kit.run import run

_HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_ENDS = {"}", "};"}
_DIFFER = 1


def keep_lines(original: Path, fixed: Path) -> str:
    """The fixed text with ``#line`` wherever lines have moved, at the next end of a function or definition.

    A line that is just ``}`` in the first column never stands within a macro, a call or a comment of kernel
    code, so a directive after it is safe.
    """
    lines = fixed.read_text(errors="surrogateescape").splitlines(keepends=True)
    for after, number in sorted(_marks(original, fixed, lines).items(), reverse=True):
        lines.insert(after, f"#line {number}\n")
    return "".join(lines)


def _marks(original: Path, fixed: Path, lines: list[str]) -> dict[int, int]:
    """Line index in the fixed text after which a directive goes, to the original's number of the next line."""
    marks = {}
    ends = [index + 1 for index, line in enumerate(lines) if line.rstrip() in _ENDS]
    hunks = list(_hunks(original, fixed))
    for place, (last, moved) in enumerate(hunks):
        until = hunks[place + 1][0] if place + 1 < len(hunks) else len(lines) + 1
        end = next((one for one in ends if one >= last), None)
        if moved and end is not None and end < min(until, len(lines)):
            marks[end] = end + 1 - moved
    return marks


def _hunks(original: Path, fixed: Path) -> Iterator[tuple[int, int]]:
    """Last line of each hunk in the fixed text, and by how many lines the rest has moved after it."""
    for (old_start, old_count), (start, count) in hunks_between(original, fixed):
        old_next = old_start + old_count + (old_count == 0)
        new_next = start + count + (count == 0)
        yield new_next - 1, new_next - old_next


def hunks_between(original: Path, fixed: Path) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """GNU diff's hunks without context: first line and number of lines, as in a hunk's header, on both sides."""
    done = run(["diff", "-a", "-U0", original, fixed], check=False)
    if done.code > _DIFFER:
        raise ProgramError(f"diff failed on {original}", code=done.code, output=done.stderr.decode())
    for line in done.stdout.decode(errors="surrogateescape").splitlines():
        match = _HUNK.match(line)
        if match:
            old_start, old_count, start, count = (int(one) if one is not None else 1 for one in match.groups())
            yield (old_start, old_count), (start, count)
