"""Types that a compiler reads otherwise than before, from preprocessed text. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

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
# What is measured where something is allocated or copied, by its name.
_ALLOCATED = re.compile(r"\b\w*(?:alloc|dup)\w*\s*\([^;]*?\bsizeof\s*\(?[\s*]*\(?(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOtherwise:
    """A type that both texts of a file define, but not alike, and what the texts say about its use."""

    name: str
    """E.g. ``struct foo``."""
    now: str
    """Its name in the fixed text: another one when it seems to be renamed."""
    key: str
    """Both definitions; the same in every file that reads the same ones."""
    mentions: int
    """How often the fixed text names it."""
    may_be_anywhere: bool
    """Whether something is cast to it, measured by it or found by a member of it, or it has a second name."""
    allocated: frozenset[str]
    """Names of variables whose size is that of something that is allocated or copied."""
    may_rise: frozenset[str]
    """Last constants of an enum that say how many there are, and by which nothing is sized."""


def changed_types(original: str, fixed: str) -> tuple[str, ...]:
    """Types that both preprocessed texts define, but not alike: ``struct foo``; white space does not count.

    Data of the old layout lives on when a livepatch is applied, so none of these can be passed over. Of an enum
    only the values count, not new constants; the last one may rise (``FOO_MAX``) where nothing is sized by it.
    """
    return tuple(one.name for one in read_otherwise(original, fixed) if one.name == one.now)


def read_otherwise(original: str, fixed: str) -> tuple[ReadOtherwise, ...]:
    """The types that ``changed_types`` names, those that seem to be renamed, and what the texts say about them."""
    before, after = _parts(original), _parts(fixed)
    shared = before.keys() & after.keys()
    old = _definitions("".join(part for part in before if part not in shared))
    new = _definitions("".join(part for part in after if part not in shared))
    names = sorted(name for name in old.keys() & new.keys() if _differ(name, old[name], new[name]))
    pairs = [(name, name) for name in names if not _only_longer(name, old[name], new[name], fixed)]
    pairs += _renamed(old, new)
    texts = (_plain(original), _plain(fixed)) if pairs else ("", "")
    allocated = frozenset(name for text in texts for name in _ALLOCATED.findall(text))
    return tuple(
        ReadOtherwise(
            name=name,
            now=now,
            key=repr((old[name], new[now])),
            mentions=len(_mention(now).findall(texts[1])),
            may_be_anywhere=any(_anywhere(one).search(text) for one in {name, now} for text in texts),
            allocated=allocated,
            may_rise=frozenset(one for body in old[name] for one in _may_rise(body, texts[1])),
        )
        for name, now in pairs
    )


def _renamed(old: Mapping[str, list[str]], new: Mapping[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Structs and unions that one text has and the other has not, with more than half of their members alike."""
    came = [name for name in new.keys() - old.keys() if name.startswith(("struct ", "union "))]
    for name in sorted(old.keys() - new.keys()):
        before = _member_texts(name, old[name])
        for now in sorted(came):
            after = _member_texts(now, new[now])
            if before != after and 2 * len(before & after) > max(len(before), len(after)):
                yield name, now


def _member_texts(name: str, bodies: Sequence[str]) -> frozenset[str]:
    """The declarations of members, without the type's own name."""
    own = re.compile(rf"\b{re.escape(name.rsplit(maxsplit=1)[-1])}\b")
    return frozenset(text.strip() for body in bodies for text in own.sub("", body).split(";"))


def _mention(name: str) -> re.Pattern[str]:
    return re.compile(
        r"\b" + r"\s+".join(re.escape(word) for word in name.removeprefix("typedef ").split()) + r"\b"
    )


def _anywhere(name: str) -> re.Pattern[str]:
    """A cast to a type, its size, an offset in it, a typedef of it."""
    words = r"\s+".join(re.escape(word) for word in name.split())
    return re.compile(
        rf"(?:\b(?:sizeof|return|__\w+)\s*|^\s*|[^\w\s]\s*)\(\s*(?:const\s+|volatile\s+)*{words}\b\s*[*),]"
        rf"|\btypedef\s+(?:const\s+)?{words}\b",
        re.MULTILINE,
    )


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
    return other == list(_may_rise(old[0], text))


def _may_rise(body: str, text: str) -> Iterator[str]:
    """The last constant of an enum, if it only says how many there are and nothing is sized by it."""
    for last, _ in list(_constants(body))[-1:]:
        if _NUMBER_OF.search(last) and not re.search(rf"\[[^]\n]*\b{re.escape(last)}\b", text):
            yield last


def _constants(body: str) -> Iterable[tuple[str, tuple[str, int]]]:
    """Each constant with the last value that was written out, and how many further it is."""
    written, further = "", 0
    for part in re.split(r",(?![^(]*\))", body.rpartition("}")[0]):
        match = _CONSTANT.match(part.strip())
        if match is None:
            continue
        written, further = (match[2], 0) if match[2] else (written, further + 1)
        yield match[1], (written, further)
