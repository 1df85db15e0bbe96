"""Types that a compiler reads otherwise than before, from preprocessed text. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

_HEAD = re.compile(r"\b(struct|union|enum)\b([^;(){}=]*)\{")
_UNNAMED = "(unnamed)"
_NAME = re.compile(r"\w+")
_TYPEDEF = re.compile(r"^\s*typedef\b([^;{}]*?)\b(\w+)\s*((?:\[[^\]]*\]\s*)*);", re.MULTILINE)
_IGNORED = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
_SPACE = re.compile(r"\s+")
_SIGN = re.compile(r"\s*([^\w\s])\s*")
# The names of last constants that say how many there are.
_NUMBER_OF = re.compile(r"(?i)(^|_)(max|num|nr|count|last|end|size|number|n)(_|$)|^__")
_CONSTANT = re.compile(r"(\w+)[^=]*(?:=(.*))?$", re.DOTALL)


def changed_types(original: str, fixed: str) -> tuple[str, ...]:
    """Types that both preprocessed texts define, but not alike: ``struct foo``; white space does not count.

    Data of the old layout lives on when a livepatch is applied, so none of these can be passed over. Of an enum
    only the values count, not new constants; the last one may rise (``FOO_MAX``) where nothing is sized by it.
    """
    before, after = _parts(original), _parts(fixed)
    shared = before.keys() & after.keys()
    old = _definitions("".join(part for part in before if part not in shared))
    new = _definitions("".join(part for part in after if part not in shared))
    names = sorted(name for name in old.keys() & new.keys() if _differ(name, old[name], new[name]))
    return tuple(name for name in names if not _only_longer(name, old[name], new[name], fixed))


def _differ(name: str, old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether a type has other definitions; more types without a name, as from one more header, change none."""
    return bool(Counter(old) - Counter(new)) if name.endswith(_UNNAMED) else old != new


def _parts(text: str) -> Mapping[str, None]:
    """The text cut after each line that ends something in the first column."""
    found: dict[str, None] = {}
    part: list[str] = []
    for line in text.splitlines(keepends=True):
        part.append(line)
        if line.startswith("}"):
            found["".join(part)] = None
            part = []
    found["".join(part)] = None
    return found


def _plain(text: str) -> str:
    """Without comments and literals, which could hold braces."""
    return _IGNORED.sub(lambda match: " " if match[0][0] == "/" else match[0][0] * 2, text)


def _definitions(text: str) -> Mapping[str, list[str]]:
    text = _plain(text)
    found: dict[str, list[str]] = {}
    for name, body in _bodies(text):
        found.setdefault(name, []).append(_squeezed(body))
    for kind, name, size in _TYPEDEF.findall(text):
        found.setdefault(f"typedef {name}", []).append(_squeezed(f"{kind} {size}"))
    return found


def _squeezed(text: str) -> str:
    return _SIGN.sub(r"\1", _SPACE.sub(" ", text).strip())


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
        yield f"{head[1]} {words[-1] if words else _UNNAMED}", f"{head[2]} {text[head.end() : at]} {tail}"


def _only_longer(name: str, old: Sequence[str], new: Sequence[str], text: str) -> bool:
    """Whether an enum's constants all keep their values, but for a last one by which nothing is sized."""
    if not name.startswith("enum ") or (len(old), len(new)) != (1, 1):
        return False
    before, after = dict(_constants(old[0])), dict(_constants(new[0]))
    other = [constant for constant in before if constant in after and before[constant] != after[constant]]
    if not other:
        return True
    if other != list(before)[-1:] or not _NUMBER_OF.search(other[0]):
        return False
    return not re.search(rf"\[[^]\n]*\b{re.escape(other[0])}\b", text)


def _constants(body: str) -> Iterable[tuple[str, tuple[str, int]]]:
    """Each constant with the last value that was written out, and how many further it is."""
    written, further = "", 0
    for part in re.split(r",(?![^(]*\))", body.rpartition("}")[0]):
        match = _CONSTANT.match(part.strip())
        if match is None:
            continue
        written, further = (match[2], 0) if match[2] else (written, further + 1)
        yield match[1], (written, further)
