"""Where the functions of a C file begin and end, in the kernel's coding style (braces in the first column)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_CALL = re.compile(r"\b([A-Za-z_]\w*)\s*\(\s*(\w*)")
_MACRO = re.compile(r"[A-Z][A-Z0-9_]*")
_ATTRIBUTES = frozenset(
    (
        "__attribute__",
        "__acquires",
        "__releases",
        "__must_hold",
        "__printf",
        "__section",
        "__no_sanitize",
        "__aligned",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function definition: lines ``start`` to ``end`` (0-based, end excluded), without a comment above it."""

    name: str
    start: int
    end: int


def scan(lines: Sequence[str]) -> tuple[Function, ...]:
    """The function definitions of a file, in its order.

    What does not follow the style (a body on the line of the name, say) is not found. A function that a macro
    defines goes by the macro's first argument: ``SYSCALL_DEFINE3(mincore, …`` is ``mincore``.

    Args:
        lines: The file's lines, with or without newlines.
    """
    found = []
    at = 0
    while at < len(lines):
        if lines[at].rstrip() == "{":
            start = _header(lines, at)
            end = _end(lines, at)
            name = name_in("".join(lines[start:at]))
            if name:
                found.append(Function(name=name, start=start, end=end))
            at = end
        else:
            at += 1
    return tuple(found)


def _header(lines: Sequence[str], brace: int) -> int:
    """First line of the declaration that ends above the brace."""
    start = brace
    while start > 0 and not _ends_something(lines[start - 1]):
        start -= 1
    return start


def _ends_something(line: str) -> bool:
    text = line.rstrip()
    return not text or text.endswith((";", "*/", "\\")) or text.startswith(("}", "#", "//"))


def _end(lines: Sequence[str], brace: int) -> int:
    at = brace + 1
    while at < len(lines) and not lines[at].startswith("}"):
        at += 1
    return min(at + 1, len(lines))


def name_in(header: str) -> str:
    """The name of the function that a header declares, or nothing when it declares data."""
    if "=" in header.split("(", 1)[0]:
        return ""
    for match in _CALL.finditer(header):
        word, argument = match.groups()
        if word in _ATTRIBUTES:
            continue
        return argument if _MACRO.fullmatch(word) and argument else word
    return ""


def with_comment(lines: Sequence[str], function: Function) -> int:
    """Line where the function begins when the comment right above it counts too."""
    start = function.start
    if start == 0 or not lines[start - 1].rstrip().endswith("*/"):
        return start
    while start > 0 and not lines[start - 1].lstrip().startswith("/*"):
        start -= 1
    return start - 1
