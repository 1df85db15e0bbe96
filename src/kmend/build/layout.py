"""Types that a C file defines, as text: enough to see that a fix changes one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_HEAD = re.compile(r"\b(struct|union|enum)\b([^;(){}=]*)\{")
_NAME = re.compile(r"\w+")
_TYPEDEF = re.compile(r"^\s*typedef\b([^;{}]*?)\b(\w+)\s*((?:\[[^\]]*\]\s*)*);", re.MULTILINE)
_MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)(.*(?:\\\n.*)*)", re.MULTILINE)
_IGNORED = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
_SPACE = re.compile(r"\s+")


def changed_types(original: str, fixed: str) -> tuple[str, ...]:
    """Types that both texts define, but not alike: ``struct foo``; comments and white space do not count.

    A macro counts with the types that use it: ``#define SLOTS 8`` with ``struct foo { int slot[SLOTS]; }``.
    Data of the old layout lives on when a livepatch is applied, so none of these can be passed over.
    """
    old, new = _definitions(_plain(original)), _definitions(_plain(fixed))
    return tuple(sorted(name for name in old.keys() & new.keys() if old[name] != new[name]))


def _plain(text: str) -> str:
    """Without comments and literals, which could hold braces."""
    return _IGNORED.sub(lambda match: " " if match[0][0] == "/" else match[0][0] * 2, text)


def _definitions(text: str) -> Mapping[str, list[str]]:
    macros = {name: _SPACE.sub(" ", value).strip() for name, value in _MACRO.findall(text)}
    found: dict[str, list[str]] = {}
    for name, body in _bodies(text):
        found.setdefault(name, []).append(_SPACE.sub(" ", body).strip() + _used(body, macros))
    for kind, name, size in _TYPEDEF.findall(text):
        found.setdefault(f"typedef {name}", []).append(
            _SPACE.sub(" ", f"{kind} {size}").strip() + _used(size, macros)
        )
    return found


def _bodies(text: str) -> Iterator[tuple[str, str]]:
    """Each type with a body: name, and all up to what ends or initializes the declaration."""
    for head in _HEAD.finditer(text):
        words = _NAME.findall(head[2])
        depth, at = 1, head.end()
        while depth and at < len(text):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        end = re.compile(r"[;={]|$").search(text, at)
        tail = text[at : end.start()] if end else ""
        yield f"{head[1]} {words[-1] if words else '(unnamed)'}", f"{head[2]} {text[head.end() : at]} {tail}"


def _used(body: str, macros: Mapping[str, str]) -> str:
    """The macros that a body uses, and those that these use, with their values."""
    seen: dict[str, str] = {}
    waiting = _NAME.findall(body)
    while waiting:
        name = waiting.pop()
        if name in macros and name not in seen:
            seen[name] = macros[name]
            waiting += _NAME.findall(macros[name])
    return "".join(f" [{name} {value}]" for name, value in sorted(seen.items()))
