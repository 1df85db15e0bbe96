"""What of an update is taken for a fix, and what is left out because the builder objected to it. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from kmend.build.changes import Change
from kmend.build.closure import Update
from kmend.build.items import words
from kmend.exposure.records import CveRecord
from kmend.model.fix import Objection, ObjectionCode

_QUOTED = re.compile(r"[\u2018'`](?:struct |union |enum )?([A-Za-z_]\w*)")
_IN_FUNCTION = re.compile(r"In function [\u2018'`](\w+)")
_TWICE = re.compile(r"redefinition|redefined|redeclar|conflicting types|follows (?:non-)?static")
_AS_CODE = re.compile(r"\b(\w+)\(\)|->([A-Za-z_]\w*)|\b([A-Za-z]\w*_\w+)")
_FEW = 3
_HALF_A_CONDITION = re.compile(r"unterminated #|#\w+ without #if")
_FILE_LIMIT = 60
_NOT_TAKEN_APART = frozenset((ObjectionCode.NO_CHANGE, ObjectionCode.AMBIGUOUS_SYMBOL))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeftOut:
    """A change that is not taken, and the Objection to it."""

    change: Change
    objection: Objection


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taking:
    """Changes to be taken over as one fix."""

    seeds: frozenset[Change]
    """The changes of the CVEs' own files."""
    grown: frozenset[Change]
    """What a compiler said is needed too."""
    left_out: tuple[LeftOut, ...]
    changes: frozenset[Change]
    """What is taken: seeds and what they need, without what was left out and what needs that."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it changes, sorted."""
        return tuple(sorted({change.path for change in self.changes}))

    @property
    def missing(self) -> frozenset[Change]:
        """Seeds that are not taken."""
        return self.seeds - self.changes


def begun(update: Update, files: Sequence[str]) -> Taking:
    """The changes of a fix's files with all that they need.

    Of a header only that counts which its .c files have to do with, or all when they have to do with none of it.
    """
    code = update.of(file for file in files if not file.endswith(".h"))
    seeds = set(code)
    for header in (file for file in files if file.endswith(".h")):
        seeds |= _concerned(update.of((header,)), code)
    return _taken(
        update, Taking(seeds=frozenset(seeds), grown=frozenset(), left_out=(), changes=frozenset()), files
    )


def begun_with(update: Update, files: Sequence[str], names: Collection[str]) -> Taking:
    """Only the changes of some names in a fix's files, with all that they need."""
    seeds = frozenset(one for one in update.of(files) if one.names & set(names) and not one.is_surrounding)
    return _taken(update, Taking(seeds=seeds, grown=frozenset(), left_out=(), changes=frozenset()), files)


def _concerned(header: frozenset[Change], code: frozenset[Change]) -> frozenset[Change]:
    spoken_of = frozenset[str]().union(*(one.added | one.removed for one in code))
    touched = frozenset(one for one in header if one.speaks_of & spoken_of and not one.is_surrounding)
    return touched or header


def _taken(update: Update, taking: Taking, files: Sequence[str]) -> Taking:
    held = [one.change for one in taking.left_out]
    found = update.closed(taking.seeds | taking.grown, without=held)
    # What only stood between the items of files that nothing else is taken of.
    real = {change.path for change in found if not change.is_surrounding} | set(files)
    return replace(taking, changes=frozenset(change for change in found if change.path in real))


def again(update: Update, taking: Taking, objections: Sequence[Objection], files: Sequence[str]) -> Taking | None:
    """What to try after the builder objected: more, where names were missing; less, where it cannot be.

    None when there is nothing sensible left to try.
    """
    if any(one.code in _NOT_TAKEN_APART for one in objections):
        return None
    grown: set[Change] = set()
    left_out = list(taking.left_out)
    known = {one.change for one in left_out}
    for objection in objections:
        more = wanted(update, taking.changes, objection) - known
        if more:
            grown |= more
            continue
        for change in _objected(taking, objection) - known:
            known.add(change)
            left_out.append(LeftOut(change=change, objection=objection))
    if not grown and len(left_out) == len(taking.left_out):
        return None
    found = _taken(update, replace(taking, grown=taking.grown | grown, left_out=tuple(left_out)), files)
    if found.changes == taking.changes or len(found.files) > _FILE_LIMIT:
        return None
    return found if any(not one.is_surrounding for one in found.changes & found.seeds) else None


def wanted(update: Update, taken: frozenset[Change], objection: Objection) -> frozenset[Change]:
    """What a compiler misses beside the changes that are taken: what defines or redefines what it complains of."""
    if objection.code is not ObjectionCode.COMPILE_FAILED:
        return frozenset()
    found: set[Change] = set()
    for function, line in _complaints(objection):
        more = _missed(update, objection.place, line)
        # What calls something otherwise may say so in lines that name nothing of it.
        if not more - taken and "error:" in line:
            more |= update.of_name(function, objection.place)
        found |= more
    return frozenset(found) - taken


def _complaints(objection: Objection) -> Iterator[tuple[str, str]]:
    """Each line by which a compiler complains, and the function that it is in; empty outside of all."""
    function = ""
    for line in objection.evidence:
        if match := _IN_FUNCTION.search(line):
            function = match[1]
        if "error:" in line or "warning:" in line:
            yield function, line


def _missed(update: Update, place: str, line: str) -> set[Change]:
    """The changes of what one line of a compiler names, as far as they may be what it complains of."""
    found: set[Change] = set()
    for word in _QUOTED.findall(line):
        found |= update.givers(word, place) | update.members(word, place)
        found |= update.changed_interfaces(word, place) | update.of_name(word, place)
        if _TWICE.search(line):
            found |= update.takers(word, place)
        if "bit-field" in line:
            found |= update.retyped(word, place)
    if _HALF_A_CONDITION.search(line):
        found |= update.of((place,))
    return found


def _objected(taking: Taking, objection: Objection) -> frozenset[Change]:
    """The changes at an Objection's place; those that it may stem from when none is of just that name."""
    file, _, rest = objection.place.partition(":")
    stem = str(PurePosixPath(file.strip()).with_suffix(""))
    mine = [
        one
        for one in taking.changes
        if not one.is_surrounding and str(PurePosixPath(one.path).with_suffix("")) == stem
    ]
    if objection.code is ObjectionCode.NOT_BUILT:
        return frozenset(mine)
    if objection.code is ObjectionCode.COMPILE_FAILED:
        return _faulty(mine, objection)
    named = words(re.sub(r"\.(?:cold|isra|constprop|part)\b.*", "", rest))
    exact = _touching(mine, named) or _touching(taking.changes, named)
    return exact or frozenset(mine)


def _faulty(mine: Collection[Change], objection: Objection) -> frozenset[Change]:
    """The functions in which the compiler found errors; of an error elsewhere, what it names."""
    found: set[Change] = set()
    for function, line in _complaints(objection):
        if "error:" in line:
            found |= _touching(mine, {function}) or _touching(mine, _QUOTED.findall(line))
    return frozenset(found) or frozenset(mine)


def _touching(changes: Iterable[Change], names: Collection[str]) -> frozenset[Change]:
    return frozenset(one for one in changes if one.names & set(names) and not one.is_surrounding)


def named_in(record: CveRecord, changes: Iterable[Change]) -> tuple[str, ...]:
    """The items that differ and that a record speaks of, sorted.

    Those that its text names, and those whose lines change in which something stands that its title writes as
    code (``name()``, ``->member``, ``some_name``), as long as that is in few of them.
    """
    items = [change for change in changes if not change.is_surrounding]
    text = words(f"{record.title} {record.text}")
    found = {name for change in items for name in change.names & text}
    for word in {word for match in _AS_CODE.findall(record.title) for word in match if word}:
        touched = [change for change in items if word in change.added | change.removed]
        if len(touched) <= _FEW:
            found |= {name for change in touched for name in change.names}
    return tuple(sorted(found))


def closes(taking: Taking, files: Collection[str], named: Collection[str]) -> bool:
    """Whether a fix of which something was left out still closes a CVE.

    It does when nothing of the CVE's own files was left out, or when its record names functions that change and
    all of those were taken. Whether the commit has more than the record says nobody can tell.

    Args:
        taking: What was taken.
        files: The CVE's files that differ.
        named: What the CVE's record names in them.
    """
    missing = [change for change in taking.missing if change.path in files and change.names]
    if not missing:
        return True
    return bool(named) and not any(change.names & set(named) for change in missing)
