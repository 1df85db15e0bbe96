"""The top-level items of a C file: functions, macros, types, declarations, by the kernel's coding style. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kmend.build.functions import name_in

_IGNORED = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
_DEFINE = re.compile(r"\s*#\s*define\s+(\w+)")
_TYPE = re.compile(r"^\s*(?:static\s+|const\s+)*(?:typedef\s+)?(?:struct|union|enum)\b[^;(){}=]*\{")
_TYPE_NAME = re.compile(r"\b(?:struct|union|enum)\s+(?:__\w+\s+)?(\w+)")
_TYPEDEF_NAME = re.compile(r"(\w+)\s*(?:\[[^]]*\]\s*)*;\s*$")
_INVOKED = re.compile(r"\s*([A-Z_][A-Z0-9_]*)\s*\(\s*(\w*)(?:\s*,\s*(\w+))?")
_VARIABLE = re.compile(r"(\w+)\s*(?:\[[^]]*\]\s*)*(?:__\w+(?:\([^)]*\))?\s*)*(?:=|;|$)")
_WORD = re.compile(r"[A-Za-z_]\w*")


class Kind(StrEnum):
    """What an item is."""

    FUNCTION = "function"
    MACRO = "macro"
    TYPE = "type"
    DECLARATION = "declaration"
    """Of a function; a variable is ``VARIABLE`` whether defined or declared."""
    VARIABLE = "variable"
    INVOKED = "invoked"
    """A macro with arguments that stands by itself, e.g. EXPORT_SYMBOL(foo) or TRACE_EVENT(bar, …)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Lines ``start`` to ``end`` (0-based, end excluded) and what they define."""

    kind: Kind
    name: str
    start: int
    end: int
    text: str
    """Without comments and the contents of literals."""

    @property
    def head(self) -> str:
        """How the item is used: a function's or macro's parameters; of all others nothing."""
        if self.kind is Kind.MACRO:
            match = re.match(r"\s*#\s*define\s+\w+(\([^)]*\))?", self.text)
            return _squeezed(match[1] or "") if match else ""
        if self.kind in {Kind.FUNCTION, Kind.DECLARATION}:
            before = re.split(r"[{;]", self.text, maxsplit=1)[0]
            return _squeezed(re.sub(r"\b(?:static|inline|extern|__always_inline|__maybe_unused)\b", "", before))
        return ""

    @property
    def is_local(self) -> bool:
        """Whether only its own file, or who includes it, sees a function or variable."""
        return bool(re.search(r"\bstatic\b", re.split(r"[{=;]", self.text, maxsplit=1)[0]))


def words(text: str) -> frozenset[str]:
    """The identifiers in a text."""
    return frozenset(_WORD.findall(text))


def plain(text: str) -> str:
    """A text of the same lines without comments and without what stands in literals."""
    return _IGNORED.sub(_blank, text)


def _blank(match: re.Match[str]) -> str:
    found = match[0]
    return "\n" * found.count("\n") if found[0] == "/" else found[0] * 2


def split(lines: Sequence[str]) -> tuple[Item, ...]:
    """The items of a file in its order; what belongs to none (includes, conditionals, blank lines) is left out.

    Args:
        lines: The file's lines, with their newlines.
    """
    return tuple(_items(plain("".join(lines)).splitlines(keepends=True)))


def _items(lines: list[str]) -> Iterator[Item]:
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
        elif line.lstrip().startswith("#"):
            end = _continued(lines, at)
            match = _DEFINE.match(line)
            if match:
                yield Item(kind=Kind.MACRO, name=match[1], start=at, end=end, text="".join(lines[at:end]))
            at = end
        else:
            end = _end(lines, at)
            text = "".join(one for one in lines[at:end] if not one.lstrip().startswith("#"))
            kind, name = _what(text)
            if name:
                yield Item(kind=kind, name=name, start=at, end=end, text=text)
            at = end


def _continued(lines: list[str], at: int) -> int:
    while at < len(lines) and lines[at].rstrip().endswith("\\"):
        at += 1
    return min(at + 1, len(lines))


def _end(lines: list[str], start: int) -> int:
    """Line after the item: a closing brace in the first column ends whatever conditionals left open."""
    depth = parens = 0
    body = False
    at = start
    while at < len(lines):
        line = lines[at]
        if line.lstrip().startswith("#"):
            at = _continued(lines, at)
            continue
        if line.startswith("}"):
            depth, parens = 1, 0
        for sign in line:
            if sign == "{":
                depth, body = depth + 1, True
            elif sign == "}":
                depth -= 1
            elif sign == "(" and not depth:
                parens += 1
            elif sign == ")" and not depth:
                parens -= 1
        at += 1
        if depth <= 0 and parens <= 0 and _is_over(lines, start, at, body=body):
            return at
    return at


def _is_over(lines: list[str], start: int, at: int, *, body: bool) -> bool:
    """Whether an item that began at ``start`` is complete before ``at``, where all brackets are closed."""
    if lines[at - 1].rstrip().endswith(";") or (body and _is_code(lines[start:at])):
        return True
    # DEFINE_FREE(…) and the like need no semicolon.
    following = "".join(lines[at : at + 1])
    return _INVOKED.match(lines[start]) is not None and (
        not following.strip() or _INVOKED.match(following) is not None
    )


def _is_code(lines: Sequence[str]) -> bool:
    """Whether what ends with a brace is a function, and no type or initializer that goes on to a semicolon."""
    head = "".join(lines).split("{", 1)[0]
    return "(" in head and "=" not in head.split("(", 1)[0]


def _what(text: str) -> tuple[Kind, str]:
    """Kind and name; no name for what cannot be told."""
    head = text.split("{", 1)[0]
    if _TYPE.match(text):
        return Kind.TYPE, _type_name(text)
    invoked = _INVOKED.match(text)
    if "{" in text and _is_code([text]):
        return Kind.FUNCTION, name_in(head)
    if invoked and "=" not in head.split("(", 1)[0]:
        return Kind.INVOKED, "_".join(one for one in invoked.groups() if one)
    before = head.split("=", 1)[0]
    if "(" in before and "(*" not in before:
        return Kind.DECLARATION, name_in(head)
    if head.lstrip().startswith("typedef"):
        return Kind.TYPE, _type_name(text)
    match = _VARIABLE.search(before.rstrip())
    return Kind.VARIABLE, match[1] if match else ""


def _type_name(text: str) -> str:
    typedef = _TYPEDEF_NAME.search(text.rstrip()) if "typedef" in text else None
    named = _TYPE_NAME.search(text.split("{", 1)[0])
    if typedef:
        return typedef[1]
    if named:
        return named[1]
    inner = _WORD.findall(text.split("{", 1)[-1])  # an unnamed enum goes by its first constant
    return inner[0] if inner else ""


def _squeezed(text: str) -> str:
    return " ".join(text.split())
