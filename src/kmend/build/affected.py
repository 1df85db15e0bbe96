"""Which source files compile to something else when headers change: those that speak of what changes in them.

A header is read by hundreds of files, but its change matters only to those that name a changed item, or that name
an item of a header which names one, and so on. This gives candidates; the compiler's preprocessed text decides.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kmend.build.changes import Change, changes
from kmend.build.includes import includes
from kmend.build.items import Item, Kind, split, words
from kmend.build.lines import hunks_between
from kmend.exposure.units import Units
from kmend.kit.run import failed, run
from kmend.model.fix import Objection, ObjectionCode

MOST = 400
"""More candidates than this are refused: such a change is a new kernel rather than a fix."""
_ROUNDS = 6
_NOT_HERE = ("Documentation", "tools", "scripts", "samples", "rust", "usr", "LICENSES")
_CONDITIONAL = re.compile(r"\s*#\s*(if|ifdef|ifndef|elif|else|endif)\b(.*)")
# What a header may hold that every file which includes it gets a copy of.
_CODE_OF_ITS_OWN = frozenset((Kind.FUNCTION, Kind.VARIABLE, Kind.INVOKED))
_ARGUMENTS = re.compile(r"\s*\w+\s*\(\s*(\w+)\s*[,)](?:\s*(\w+)\s*[,)])?")
_NOTHING_FOUND = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """Source files that are compiled by themselves and that may change, sorted."""

    sources: tuple[str, ...]
    objections: tuple[Objection, ...] = ()


def affected(files: Sequence[str], *, source: Path, overlay: Path, units: Units) -> Affected:
    """The built source files that read what changes in headers, or include changed .c files.

    Args:
        files: Changed files of which none is compiled by itself: headers, and .c files that others include.
        source: The kernel's source.
        overlay: Folder with the changed text of each.
        units: What the kernel was built from.
    """
    found: set[str] = set()
    objections: list[Objection] = []
    for file in files:
        if file.endswith(".c"):
            found |= set(units.included.get(file, ()))
        elif not _same_conditions(source / file, overlay / file):
            readers = _built(includes(source).reach(file), units)
            found |= readers
            if len(readers) > MOST:
                objections.append(_conditions(file))
        else:
            readers = _readers(file, source=source, overlay=overlay, units=units)
            found |= readers
            if len(readers) > MOST:
                objections.append(_too_many(file, len(readers)))
    return Affected(sources=tuple(sorted(found)), objections=tuple(objections))


def _readers(header: str, *, source: Path, overlay: Path, units: Units) -> set[str]:
    """The built files that one changed header may matter to."""
    kinds = [{item.name: item.kind for item in _items(tree / header)} for tree in (source, overlay)]
    reach = includes(source).reach(header)
    names: set[str] = set()
    for change in changes(header, old=source, new=overlay):
        touched = {(name, kind.get(name)) for name in change.names for kind in kinds}
        if any(kind in _CODE_OF_ITS_OWN for _, kind in touched) and not _is_inline(change, overlay / header):
            return _built(reach, units)
        names |= change.gives | change.gone
        # A type is refused when it changes, but for new constants.
        names |= {name for name, kind in touched if kind not in {None, Kind.TYPE}}
    return _mentioning(names, source, units, reach)


def _is_inline(change: Change, header: Path) -> bool:
    """Whether all functions in a change are made where they are called."""
    functions = [one for one in _items(header) if one.name in change.names and one.kind in _CODE_OF_ITS_OWN]
    return all(re.search(r"\b\w*inline\w*\b|\bextern\b", one.text.split("{", 1)[0]) for one in functions)


def _built(files: Iterable[str], units: Units) -> set[str]:
    """The files that are compiled by themselves, and those that include the others."""
    return {
        root for file in files for root in ((file,) if file in units.objects else units.included.get(file, ()))
    }


@lru_cache(maxsize=4000)
def _items(header: Path) -> tuple[Item, ...]:
    if not header.is_file():
        return ()
    return split(header.read_text(errors="surrogateescape").splitlines(keepends=True))


def _mentioning(names: Collection[str], source: Path, units: Units, reach: frozenset[str]) -> set[str]:
    """Built files within reach that name one of some names, or something in a header that names one."""
    found: set[str] = set()
    known: set[str] = set()
    waiting = set(names)
    for _ in range(_ROUNDS):
        if not waiting or len(found) > MOST:
            break
        known |= waiting
        files = [file for file in _files_with(waiting, source) if file in reach]
        found |= _built(files, units)
        following = [_passing_on(source / file, waiting) for file in files if file.endswith(".h")]
        waiting = set[str]().union(*following) - known
    return found


def _files_with(names: Collection[str], source: Path) -> list[str]:
    """Source files with one of some words in them."""
    others = [f"--exclude-dir={name}" for name in (*_NOT_HERE, *_other_machines(source))]
    done = run(
        ["grep", "-rlwF", "--include=*.c", "--include=*.h", *others, "-f", "-", "."],
        cwd=source,
        stdin="\n".join(sorted(names)).encode(),
        check=False,
    )
    if done.code > _NOTHING_FOUND:
        raise failed(done)
    return [posixpath.normpath(line) for line in done.text.splitlines()]


def _other_machines(source: Path) -> list[str]:
    folder = source / "arch"
    return [one.name for one in folder.iterdir() if one.is_dir() and one.name != "x86"] if folder.is_dir() else []


def _passing_on(header: Path, names: set[str]) -> set[str]:
    """Items of a header whose code has one of some names in it: who uses those uses these."""
    found: set[str] = set()
    for item in _items(header):
        if item.name not in names and _carries(item) and words(item.text) & names:
            found |= _given(item)
    return found


def _carries(item: Item) -> bool:
    """Whether what stands in an item goes where its name goes; a prototype or a variable is only a name."""
    return item.kind in {Kind.FUNCTION, Kind.MACRO, Kind.INVOKED}


def _given(item: Item) -> set[str]:
    if item.kind is not Kind.INVOKED:
        return {item.name}
    # TRACE_EVENT(foo, …) and DEFINE_EVENT(class, foo, …) make trace_foo; what else is made has the name in it.
    match = _ARGUMENTS.match(item.text)
    named = {word for word in match.groups() if word} if match else set()
    return named | {f"trace_{word}" for word in named}


def _same_conditions(old: Path, new: Path) -> bool:
    """Whether every line that stays is under the same ``#if`` as before."""
    if not old.is_file():
        return True
    before, after = _conditions_of(old), _conditions_of(new)
    moved = 0
    at = 0
    for (start, count), (new_start, new_count) in hunks_between(old, new):
        first = start - (count > 0)
        if before[at:first] != after[at + moved : first + moved]:
            return False
        at = first + count
        moved = new_start - (new_count > 0) + new_count - at
    return before[at:] == after[at + moved :]


def _conditions_of(path: Path) -> list[tuple[str, ...]]:
    """For each line the conditions around it, the outermost first."""
    stack: list[str] = []
    found: list[tuple[str, ...]] = []
    for line in path.read_text(errors="surrogateescape").splitlines():
        match = _CONDITIONAL.match(line)
        word = match[1] if match else ""
        if match and word.startswith("if"):
            stack.append(f"{word} {' '.join(match[2].split())}")
        elif match and word == "endif":
            del stack[-1:]
        elif match and stack:
            stack[-1] += f" {word} {' '.join(match[2].split())}"
        # What stands in such lines themselves holds no code.
        found.append(tuple(stack) if not match else ())
    return found


def _conditions(file: str) -> Objection:
    return Objection(
        code=ObjectionCode.UNSUPPORTED_FILE,
        place=file,
        reason=f"The fix puts what {file} holds already under other conditions (#if), so which files change "
        "cannot be told by name.",
        advice="Leave the conditions as they are; put new ones around new lines only.",
    )


def _too_many(header: str, number: int) -> Objection:
    return Objection(
        code=ObjectionCode.UNSUPPORTED_FILE,
        place=header,
        reason=f"{number} source files of this kernel may use what changes in {header}; at most {MOST} "
        "are compared.",
        advice="Give what is new another name, and use it only where the fix needs it.",
    )
