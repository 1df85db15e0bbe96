"""Fixes derived from two versions of a distribution's source, and the catalogue that says how."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kmend.build import functions as extents
from kmend.build import unified
from kmend.build.fixes import check_keys
from kmend.build.functions import Function
from kmend.kit.errors import BugError, InputError
from kmend.kit.run import failed, run
from kmend.model.fix import Fix

log = logging.getLogger(__name__)

_REQUIRED = ("cves", "title", "files", "functions", "adds", "reasoning")
_OPTIONAL = ("upstream",)
_FORM = "docs/reference/fix-folder.md describes derive.toml."


def derive(
    *,
    name: str,
    cves: tuple[str, ...],
    title: str,
    old: Path,
    new: Path,
    files: tuple[str, ...],
    functions: tuple[str, ...] | None = None,
    origin: str,
    reasoning: str = "",
    probe: str = "",
) -> Fix:
    """A Fix that takes files, or only the named functions in them, over from a newer source tree to an older one.

    Args:
        name: The fix's name.
        cves: CVE ids that it closes.
        title: One line for people.
        old: Source tree that the fix is for; it is only read.
        new: Source tree that has the fix.
        files: Paths in both trees.
        functions: Take over these functions whole, and nothing else of the files; functions that only the new tree
            has are put where they stand there. Without it, all differences of the files are taken.
        origin: Where the trees come from, e.g. ``Debian linux 6.1.170-3 to 6.1.192-2``.
        reasoning: Why the fix is right.
        probe: C source of the fix's probe.

    Raises:
        InputError: A file or function is missing, or nothing differs.
    """
    missing = set(functions or ())
    diffs = []
    for path in files:
        before, after = source_lines(old, path), source_lines(new, path)
        wanted = after
        if functions is not None:
            here = missing & {function.name for function in extents.scan(after)}
            missing -= here
            wanted = _taken_over(path, before, after, tuple(name for name in functions if name in here))
        diffs.append(file_diff(old, path, before, wanted))
    if missing:
        raise InputError(
            f"{', '.join(sorted(missing))} is not defined in {', '.join(files)} of the newer source.",
            hint="The function was renamed or moved; bring the fix's functions up to date.",
        )
    if not any(diffs):
        raise InputError(f"Nothing of {', '.join(functions or files)} differs between the two sources.")
    return Fix(
        name=name,
        cves=cves,
        title=title,
        diff="".join(diffs),
        origin=origin,
        reasoning=reasoning,
        probe=probe,
    )


def source_lines(tree: Path, path: str) -> list[str]:
    """The lines of a file of a source tree, with their newlines.

    Raises:
        InputError: There is no such file, or it is not UTF-8 text.
    """
    place = tree / path
    if not place.is_file():
        raise InputError(f"There is no {path} in {tree}.", hint="The file was renamed or moved, or is newer.")
    try:
        return unified.split_lines(place.read_bytes().decode())
    except UnicodeDecodeError:
        raise InputError(f"{place} is not UTF-8 text.", hint="Write this fix by hand.") from None


def _taken_over(path: str, old: list[str], new: list[str], names: Sequence[str]) -> list[str]:
    """The old file with the named functions as they stand in the new one."""
    old_all, new_all = extents.scan(old), extents.scan(new)
    pieces: list[tuple[int, int, list[str]]] = []
    for name in names:
        mine = [one for one in old_all if one.name == name]
        theirs = [one for one in new_all if one.name == name]
        if mine and len(mine) != len(theirs):
            raise InputError(f"{path} defines {name} {len(mine)} times in one source, {len(theirs)} in the other.")
        pieces += [(a.start, a.end, new[b.start : b.end]) for a, b in zip(mine, theirs, strict=False)]
    pieces += _additions(path, old, new, names)
    result = list(old)
    # From the end, and what is inserted at one place in its order, so that earlier line numbers stay true.
    for start, end, lines in sorted(pieces, key=lambda piece: piece[:2], reverse=True):
        result[start:end] = lines
    return result


def _additions(
    path: str, old: list[str], new: list[str], names: Sequence[str]
) -> list[tuple[int, int, list[str]]]:
    """Insertions for the named functions that only the new file has; neighbours are put in together."""
    known = {one.name: one for one in extents.scan(old)}
    new_all = extents.scan(new)
    places: dict[int, list[str]] = {}
    for index, function in enumerate(new_all):
        if function.name in names and function.name not in known:
            at, text = _insertion(path, old, new, index=index, known=known, new_all=new_all)
            places.setdefault(at, []).extend(text)
    return [(at, at, text) for at, text in places.items()]


def _insertion(
    path: str,
    old: list[str],
    new: list[str],
    *,
    index: int,
    known: dict[str, Function],
    new_all: tuple[Function, ...],
) -> tuple[int, list[str]]:
    """Old line before which a new function goes, and its lines: next to a function that both files have.

    No preprocessor line may stand between the two, or the function could end up inside another #ifdef.
    """
    function = new_all[index]
    text = new[extents.with_comment(new, function) : function.end]
    for other in reversed(new_all[:index]):
        if other.name in known and not _has_directive(new[other.end : function.start]):
            return known[other.name].end, ["\n", *text]
    for other in new_all[index + 1 :]:
        if other.name in known and not _has_directive(new[function.end : other.start]):
            return extents.with_comment(old, known[other.name]), [*text, "\n"]
    raise InputError(
        f"{function.name} is new in {path}, and no function next to it is in both sources.",
        hint="Write this fix by hand: docs/howto/write-a-fix.md.",
    )


def _has_directive(lines: Sequence[str]) -> bool:
    return any(line.startswith("#") for line in lines)


def file_diff(tree: Path, path: str, old: list[str], wanted: list[str]) -> str:
    """GNU diff's unified diff, proven to lead from the one to the other; nothing when they are equal."""
    if old == wanted:
        return ""
    labels = ("--label", f"a/{path}", "--label", f"b/{path}")
    done = run(
        ("diff", "-U3", "-p", *labels, tree / path, "-"), stdin="".join(wanted).encode(), check=False, timeout=60
    )
    if done.code != 1:
        raise failed(done)
    diff = done.stdout.decode()
    (file,) = unified.parse(diff, what=f"The derived diff of {path}")
    edits, offsets = unified.place(file, old, what=f"The derived diff of {path}")
    if any(offsets) or unified.edited(old, edits) != wanted:
        raise BugError(f"The derived diff of {path} does not lead to the intended text.")
    return diff


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One catalogue entry: how to derive a fix from any two versions of which only the newer one has it."""

    name: str
    cves: tuple[str, ...]
    title: str
    files: tuple[str, ...]
    functions: tuple[str, ...]
    adds: tuple[str, ...]
    """Text that the functions have with the fix and lack without it; white space counts as one blank."""
    reasoning: str
    upstream: str
    probe: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """Why an entry gives no fix for two source versions."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a catalogue gives for two source versions: fixes in the catalogue's order, and why not the others."""

    fixes: tuple[Fix, ...]
    misfits: tuple[Misfit, ...]


def entries(catalogue: Path) -> tuple[Entry, ...]:
    """The catalogue's entries in the order of its ``order.txt``, which names each folder once.

    Raises:
        InputError: An entry or the order is not as docs/reference/fix-folder.md says.
    """
    order = catalogue / "order.txt"
    if not order.is_file():
        raise InputError(f"{catalogue} is no catalogue of fixes: it lacks order.txt.", hint=_FORM)
    names = [line.strip() for line in order.read_text().splitlines() if line.strip() and not line.startswith("#")]
    present = {path.parent.name for path in catalogue.glob("*/derive.toml")}
    if sorted(names) != sorted(present):
        odd = ", ".join(sorted(set(names) ^ present)) or "a folder twice"
        raise InputError(f"{order} and the folders beside it do not agree: {odd}.", hint=_FORM)
    return tuple(_entry(catalogue / name) for name in names)


def _entry(folder: Path) -> Entry:
    path = folder / "derive.toml"
    try:
        keys = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}", hint=_FORM) from None
    check_keys(keys, path, required=_REQUIRED, optional=_OPTIONAL)
    probe = folder / "probe.c"
    return Entry(
        name=folder.name,
        cves=tuple(keys["cves"]),
        title=keys["title"],
        files=tuple(keys["files"]),
        functions=tuple(keys["functions"]),
        adds=tuple(keys["adds"]),
        reasoning=keys["reasoning"],
        upstream=keys.get("upstream", ""),
        probe=probe.read_text() if probe.is_file() else "",
    )


def choose(catalogue: Path, *, old: Path, new: Path, origin: str) -> Choice:
    """Every fix of a catalogue that closes a hole of the older source as the newer one does.

    Args:
        catalogue: Folder with ``order.txt`` and one folder for each entry.
        old: Source tree of the kernel to be fixed.
        new: Source tree of a later version.
        origin: Where the trees come from, e.g. ``Debian linux 6.1.170-3 to 6.1.192-2``.

    Raises:
        InputError: The catalogue itself is faulty.
    """
    found: list[Fix] = []
    misfits: list[Misfit] = []
    for entry in entries(catalogue):
        try:
            reason = _unfit(entry, old, new)
            if not reason:
                found.append(_derived(entry, old, new, origin=origin))
        except InputError as error:
            reason = error.message
        if reason:
            misfits.append(Misfit(name=entry.name, reason=reason))
            log.info("%s does not fit: %s", entry.name, reason)
    return Choice(fixes=tuple(found), misfits=tuple(misfits))


def first_that_fits(catalogue: Path, *, old: Path, new: Path, origin: str) -> Fix:
    """The first fix of ``choose``.

    Raises:
        InputError: None fits; the message has the reason for each. Or the catalogue itself is faulty.
    """
    choice = choose(catalogue, old=old, new=new, origin=origin)
    if choice.fixes:
        return choice.fixes[0]
    reasons = "".join(f"\n  {misfit.name}: {misfit.reason}" for misfit in choice.misfits)
    raise InputError(
        f"No fix of the catalogue {catalogue} fits these two source versions:{reasons}",
        hint="Write a fix by hand and give its folder to `kmend build`: docs/howto/write-a-fix.md.",
    )


def _unfit(entry: Entry, old: Path, new: Path) -> str:
    """Why the entry is of no use here; empty when the newer source has the fix and the older one has not."""
    before = _bodies(entry, old)
    after = _bodies(entry, new)
    for text in entry.adds:
        if _squeezed(text) in before:
            return f"the older source has the fix already ({text})"
        if _squeezed(text) not in after:
            return f"the newer source does not have the fix, or has it in another form (no {text})"
    return ""


def _bodies(entry: Entry, tree: Path) -> str:
    parts = []
    for path in entry.files:
        lines = source_lines(tree, path)
        parts += [
            "".join(lines[one.start : one.end]) for one in extents.scan(lines) if one.name in entry.functions
        ]
    return _squeezed("".join(parts))


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _derived(entry: Entry, old: Path, new: Path, *, origin: str) -> Fix:
    return derive(
        name=entry.name,
        cves=entry.cves,
        title=entry.title,
        old=old,
        new=new,
        files=entry.files,
        functions=entry.functions,
        origin=f"{origin} (upstream: {entry.upstream})" if entry.upstream else origin,
        reasoning=entry.reasoning,
        probe=entry.probe,
    )
