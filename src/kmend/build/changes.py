"""What differs between two versions of a source file, cut into the smallest parts that can be taken over alone."""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from kmend.build import items
from kmend.build.items import Item, Kind
from kmend.build.lines import hunks_between
from kmend.build.unified import split_lines

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+([<"])([^">\n]+)[">]', re.MULTILINE)
"""A line that includes a file: the mark before its name, the name."""
_ACCESSED = re.compile(r"(?:->|\.)\s*([A-Za-z_]\w*)")
# The first argument of a macro in a list of such calls, by which trace headers define constants.
_LISTED = re.compile(r"\b[A-Z_]+\(\s*(\w+)\s*,")
# What include/linux/cleanup.h makes by the name that is given to it, and how it is used.
_CLEANED_UP = re.compile(r"\b(?:(__free)|CLASS|guard|scoped_guard|scoped_cond_guard)\s*\(\s*(\w+)")
_CLEANER = re.compile(r"\s*(?:(DEFINE_FREE)|DEFINE_(?:CLASS|GUARD|LOCK_GUARD_[01])\w*)\s*\(\s*(\w+)")
_IS_ENUM = re.compile(r"\benum\b[^;{]*\{")
_BRACES = re.compile(r"\{.*\}", re.DOTALL)

Key = tuple[Kind, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunk:
    """Old lines ``start`` to ``end`` (0-based, end excluded) become ``lines``."""

    start: int
    end: int
    lines: tuple[str, ...]
    at: int = 0
    """Where they stand in the new file: the order of those that are put in at one place."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Change:
    """Hunks of one file that belong together: of one item, or all of what belongs to none."""

    path: str
    hunks: tuple[Hunk, ...]
    names: frozenset[str]
    """Items that it touches; empty for includes, conditionals and comments between the items."""
    added: frozenset[str]
    """Identifiers in the lines that it brings."""
    removed: frozenset[str]
    """Identifiers in the lines that it takes away."""
    accessed: frozenset[str]
    """Those of ``added`` that stand after an arrow or a dot."""
    no_more_accessed: frozenset[str]
    """The same of ``removed``."""
    gives: frozenset[str]
    """Identifiers that it defines and that were not there before: items and constants."""
    members: frozenset[str]
    """What may be a new member of a structure."""
    lost_members: frozenset[str]
    """What may have been one."""
    exported: frozenset[str]
    """Those of ``gives`` that other files can call when this is no header."""
    gone: frozenset[str]
    """Identifiers that it takes away for good."""
    interfaces: frozenset[str]
    """Functions and macros that are called otherwise than before."""
    includes: frozenset[str]
    """Files that it newly includes, as they stand between the quotes."""
    types: frozenset[str]
    """Those of ``names`` that are types."""
    is_surrounding: bool = False
    """Whether it is what stands between the items; everything else of the file counts on it."""
    creates: bool = False
    """Whether the file is new."""

    @property
    def place(self) -> str:
        """File and lines, old and new, at which it begins: no other change of an update has the same."""
        return f"{self.path}:{self.hunks[0].start}:{self.hunks[0].at}"

    @property
    def speaks_of(self) -> frozenset[str]:
        """All that it defines, defines otherwise, or takes away."""
        return self.names | self.gives | self.members | self.gone | self.lost_members


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    lines: list[str]
    masked: list[str]
    items: dict[Key, Item]


def changes(path: str, *, old: Path, new: Path) -> tuple[Change, ...]:
    """The changes that lead from the old tree's file to the new tree's; nothing when either is no text.

    Args:
        path: In both trees; a file that only the new one has is one change.
        old: Source tree.
        new: Source tree.
    """
    try:
        after = _side(new / path)
        before = _side(old / path) if (old / path).is_file() else None
    except (UnicodeDecodeError, FileNotFoundError):
        return ()
    if before is None:
        return (_created(path, after),)
    pieces = [piece for hunk in _hunks(old / path, new / path) for piece in _cut(hunk, before, after)]
    found = []
    for keys, spans in _apart(_grouped(pieces, before, after), before, after):
        if keys:
            found.append(_change(path, spans, keys, before, after))
            continue
        including, loose = _including_new(path, spans, after, old)
        found += [_change(path, [span], keys, before, after) for span in including]
        if loose:
            found.append(replace(_change(path, loose, keys, before, after), is_surrounding=True))
    return tuple(found)


def _side(path: Path) -> _Side:
    lines = split_lines(path.read_bytes().decode())
    masked = items.plain("".join(lines)).splitlines(keepends=True)
    found: dict[Key, Item] = {}
    for item in items.split(lines):
        number = 0
        while (item.kind, item.name, number) in found:
            number += 1
        found[item.kind, item.name, number] = item
    return _Side(lines=lines, masked=masked, items=found)


def _created(path: str, side: _Side) -> Change:
    everything = _Span(old=(0, 0), new=(0, len(side.lines)))
    nothing = _Side(lines=[], masked=[], items={})
    return replace(_change(path, [everything], set(side.items), nothing, side), creates=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """A hunk by its lines on both sides."""

    old: tuple[int, int]
    new: tuple[int, int]


def _hunks(old: Path, new: Path) -> Iterator[_Span]:
    for (old_start, old_count), (new_start, new_count) in hunks_between(old, new):
        before = old_start - (old_count > 0)
        after = new_start - (new_count > 0)
        yield _Span(old=(before, before + old_count), new=(after, after + new_count))


def _cut(span: _Span, before: _Side, after: _Side) -> list[_Span]:
    """What only adds or only takes away, cut where items begin, so that each can be taken alone."""
    if span.old[0] == span.old[1]:
        edges = _edges(span.new, after)
        return [_Span(old=span.old, new=pair) for pair in itertools.pairwise(edges)]
    if span.new[0] == span.new[1]:
        edges = _edges(span.old, before)
        return [_Span(old=pair, new=span.new) for pair in itertools.pairwise(edges)]
    return [span]


def _edges(span: tuple[int, int], side: _Side) -> list[int]:
    inside = {item.end for item in side.items.values() if span[0] < item.end < span[1]}
    return sorted({*span, *inside})


def _touched(span: tuple[int, int], side: _Side) -> set[Key]:
    start, end = span
    if start == end:
        return {key for key, item in side.items.items() if item.start < start < item.end}
    return {key for key, item in side.items.items() if item.start < end and start < item.end}


def _grouped(spans: list[_Span], before: _Side, after: _Side) -> list[tuple[set[Key], list[_Span]]]:
    """Spans joined where they touch the same items; those that touch none are one group."""
    groups: list[tuple[set[Key], list[_Span]]] = []
    loose: list[_Span] = []
    for span in spans:
        keys = _touched(span.old, before) | _touched(span.new, after)
        if not keys:
            loose.append(span)
            continue
        joined = [group for group in groups if group[0] & keys]
        groups = [group for group in groups if not group[0] & keys]
        groups.append(
            (keys.union(*(group[0] for group in joined)), [*(one for group in joined for one in group[1]), span])
        )
    return [*groups, *([(set[Key](), loose)] if loose else [])]


def _apart(
    groups: list[tuple[set[Key], list[_Span]]], before: _Side, after: _Side
) -> Iterator[tuple[set[Key], list[_Span]]]:
    """Where items stand in the place of quite other ones, those that go and those that come, each for itself."""
    for keys, spans in groups:
        gone, come = keys - after.items.keys(), keys - before.items.keys()
        if not gone or not come or gone | come != keys:
            yield keys, spans
            continue
        old = _range([span.old for span in spans], [before.items[key] for key in gone])
        new = _range([span.new for span in spans], [after.items[key] for key in come])
        pieces = _cut(_Span(old=old, new=(new[0], new[0])), before, after)
        pieces += _cut(_Span(old=(old[1], old[1]), new=new), before, after)
        yield from _grouped(pieces, before, after)


def _range(spans: Sequence[tuple[int, int]], inside: Sequence[Item]) -> tuple[int, int]:
    starts = [*(start for start, _ in spans), *(item.start for item in inside)]
    ends = [*(end for _, end in spans), *(item.end for item in inside)]
    return min(starts), max(ends)


def _including_new(path: str, spans: Sequence[_Span], after: _Side, old: Path) -> tuple[list[_Span], list[_Span]]:
    """The lines that include a file which the old tree does not have, and all other spans."""
    including: list[_Span] = []
    others: list[_Span] = []
    for span in spans:
        lines = range(*span.new) if span.old[0] == span.old[1] else ()
        mine = [number for number in lines if _is_new_include(after.lines[number], path, old)]
        including += [_Span(old=span.old, new=(number, number + 1)) for number in mine]
        edges = [span.new[0], *(edge for number in mine for edge in (number, number + 1)), span.new[1]]
        rest = [(edges[at], edges[at + 1]) for at in range(0, len(edges), 2)] if mine else [span.new]
        others += [_Span(old=span.old, new=pair) for pair in rest if not mine or pair[0] < pair[1]]
    return including, others


def _is_new_include(line: str, path: str, old: Path) -> bool:
    match = INCLUDE.match(line)
    if match is None:
        return False
    return not any((old / one).is_file() for one in included_as(match[2], quoted=match[1] == '"', file=path))


SEARCHED = ("include", "arch/x86/include", "include/uapi", "arch/x86/include/uapi")


def included_as(name: str, *, quoted: bool, file: str) -> tuple[str, ...]:
    """The paths that a name in an ``#include`` line of a file may mean, in the order of the compiler's search."""
    folder = posixpath.dirname(file)
    beside = (posixpath.normpath(posixpath.join(folder, name)),) if quoted else ()
    above = [folder, *(str(one) for one in PurePosixPath(folder).parents if str(one) != ".")]
    # What Makefiles add with -I is the folder of a subsystem, or its ``include``.
    added = (f"{one}/{part}" for one in above for part in (name, f"include/{name}"))
    return (*beside, *(f"{base}/{name}" for base in SEARCHED), *map(posixpath.normpath, added))


def _change(path: str, spans: list[_Span], keys: set[Key], before: _Side, after: _Side) -> Change:
    new_text = "".join(line for span in spans for line in after.masked[slice(*span.new)])
    old_text = "".join(line for span in spans for line in before.masked[slice(*span.old)])
    pairs = [(key, before.items.get(key), after.items.get(key)) for key in keys]
    raw = "".join(line for span in spans for line in after.lines[slice(*span.new)])
    return Change(
        path=path,
        hunks=tuple(
            Hunk(start=span.old[0], end=span.old[1], lines=tuple(after.lines[slice(*span.new)]), at=span.new[0])
            for span in spans
        ),
        names=frozenset(name for _, name, _ in keys),
        added=items.words(new_text) | _cleaned_up(_CLEANED_UP, new_text),
        removed=items.words(old_text) | _cleaned_up(_CLEANED_UP, old_text),
        accessed=frozenset(_ACCESSED.findall(new_text)),
        no_more_accessed=frozenset(_ACCESSED.findall(old_text)),
        gives=_union(_gives(old, new) for _, old, new in pairs),
        members=_union(_members(old, new) for _, old, new in pairs),
        lost_members=_union(_members(new, old) for _, old, new in pairs),
        exported=frozenset(
            key[1] for key, old, new in pairs if new is not None and old is None and _is_global(key[0], new)
        ),
        gone=_union(_gives(new, old) for _, old, new in pairs),
        interfaces=frozenset(key[1] for key, old, new in pairs if old and new and old.head != new.head),
        includes=frozenset(name for _, name in INCLUDE.findall(raw)),
        types=frozenset(name for kind, name, _ in keys if kind is Kind.TYPE),
    )


def _union(parts: Iterable[Iterable[str]]) -> frozenset[str]:
    return frozenset(word for part in parts for word in part)


def _gives(old: Item | None, new: Item | None) -> set[str]:
    """What an item defines that it did not define before: its name, or constants."""
    if new is None:
        return set()
    found = {new.name} if old is None else set()
    if new.kind is Kind.TYPE and _IS_ENUM.search(new.text):
        found |= _inside(new) - _inside(old)
    if new.kind is Kind.MACRO:
        found |= _listed(new) - _listed(old)
    if new.kind is Kind.INVOKED and old is None:  # TRACE_EVENT(foo and DEFINE_EVENT(class, foo define trace_foo
        found |= {f"trace_{word}" for word in items.words(",".join(new.text.split(",")[:2]))}
        found |= _cleaned_up(_CLEANER, new.text)
    return found


def _cleaned_up(pattern: re.Pattern[str], text: str) -> set[str]:
    """The names ``__free_NAME`` and ``class_NAME``, by which who makes and who uses them find each other."""
    return {f"{'__free' if free else 'class'}_{name}" for free, name in pattern.findall(text)}


def _listed(macro: Item | None) -> set[str]:
    """The constants that a macro's body lists."""
    if macro is None:
        return set()
    body = macro.text.split("define", 1)[1].strip().removeprefix(macro.name).removeprefix(macro.head)
    return set(_LISTED.findall(body)) - items.words(macro.head)


def _members(old: Item | None, new: Item | None) -> set[str]:
    if new is None or new.kind is not Kind.TYPE or _IS_ENUM.search(new.text):
        return set()
    return _inside(new) - _inside(old)


def _inside(item: Item | None) -> set[str]:
    match = _BRACES.search(item.text) if item is not None else None
    return set(items.words(match[0])) if match else set()


def _is_global(kind: Kind, item: Item) -> bool:
    return kind in {Kind.FUNCTION, Kind.VARIABLE} and not item.is_local


def applied(lines: Sequence[str], chosen: Sequence[Change]) -> list[str]:
    """The old file's lines with the chosen changes made."""
    result = list(lines)
    hunks = [hunk for change in chosen for hunk in change.hunks]
    # From the end, and what is put in at one place in its order, so that earlier line numbers stay true.
    for hunk in sorted(hunks, key=lambda one: (one.start, one.end, one.at), reverse=True):
        result[hunk.start : hunk.end] = hunk.lines
    return result
