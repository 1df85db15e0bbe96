"""Objections to types that change: looks at the debugging information of the objects that read them otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from kmend.build.layout import ReadOtherwise
from kmend.build.types import changed_layout, differences, outlives
from kmend.elf.dwarf import Dwarf
from kmend.elf.objects import ObjectCode, Piece, Undefined
from kmend.elf.reader import ElfFile
from kmend.elf.tables import NAMES
from kmend.elf.types import UNNAMED, Layout, TypeTable
from kmend.elf.uses import Role, Use, Uses, functions
from kmend.kit.errors import InputError
from kmend.kit.progress import Progress
from kmend.model.fix import Objection

_MOST = 40
"""Objects that are compiled once more for one fix, at most."""
_SILENT = re.compile(r"^\.(discard|eh_frame)")
_LASTING = ("struct ", "union ")

Pair = Callable[[str], tuple[Path, Path] | Objection]
"""Of a file: the original and the fixed object, with debugging information."""
Place = Callable[[str, str], str]
"""Of a type's name and a file that reads it: where an Objection stands."""


def with_debugging(words: Sequence[str]) -> list[str]:
    """A compiler's command line, so that the object gets debugging information; its code stays the same."""
    kept = ["-g" if word == "-g0" else word for word in words]
    return [*kept[:-1], "-g", "-gdwarf-4", "-gz=none", "-fno-var-tracking", kept[-1]]


def layout_objections(
    reads: Mapping[str, Sequence[ReadOtherwise]], *, pair: Pair, place: Place, progress: Progress
) -> list[Objection]:
    """Every Objection to types that files read otherwise than before.

    Args:
        reads: The types by file.
        pair: Compiles both versions of a file.
        place: Names the place of an Objection.
        progress: Told about the step.
    """
    if not reads:
        return []
    names = sorted({one.name for ones in reads.values() for one in ones})
    progress.step(f"Comparing the layout of {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}")  # noqa: PLR2004
    look = _Look(reads, pair, place)
    for name in names:
        look.at(name)
    return list(look.objections.values())


class _Look:
    """What was found so far."""

    def __init__(self, reads: Mapping[str, Sequence[ReadOtherwise]], pair: Pair, place: Place) -> None:
        self.objections: dict[str, Objection] = {}
        self._reads = {(file, one.name): one for file, ones in reads.items() for one in ones}
        self._pair = pair
        self._place = place
        self._both: dict[str, _Both | Objection] = {}

    def at(self, name: str) -> None:
        """Look at one type in the files that read it otherwise, those first that name it most."""
        found = [(file, one) for (file, known), one in self._reads.items() if known == name]
        alike: set[str] = set()
        passed: list[tuple[tuple[str, ...], str, _Both]] = []
        is_held = False
        for file, read in sorted(found, key=lambda item: -item[1].mentions):
            if read.key in alike:
                continue
            both = self._compiled(file)
            if isinstance(both, Objection):
                self.objections.setdefault(f"{both.code} {both.place}", both)
                return
            if UNNAMED in name:
                self._refuse_all(both.unnamed(name, read), file, both)
                continue
            changes = both.changes(read)
            if changes and not both.is_harmless(read):
                self._refuse(name, changes, file, both)
                return
            if changes:
                passed.append((changes, file, both))
                is_held = is_held or both.holds(name)
            elif both.uses_type(read):
                alike.add(read.key)
        if passed and not is_held:  # it comes from where nobody has looked
            changes, file, both = passed[0]
            self._refuse(name, changes, file, both)

    def _compiled(self, file: str) -> _Both | Objection:
        if file not in self._both:
            if len(self._both) >= _MOST:
                place = f"{file}: {len(self._reads)} types"
                return changed_layout(
                    place, "types", [f"more than {_MOST} files read them, which is more than are looked at"], ()
                )
            self._both[file] = self._read(file)
        return self._both[file]

    def _read(self, file: str) -> _Both | Objection:
        made = self._pair(file)
        try:
            return made if isinstance(made, Objection) else _Both(*made)
        except InputError as error:
            return changed_layout(f"{file}: types", "types", [f"how cannot be told. {error.message}"], ())

    def _refuse_all(self, found: Mapping[str, tuple[str, ...]], file: str, both: _Both) -> None:
        for name, changes in found.items():
            if (file, name) not in self._reads:
                self._refuse(name, changes, file, both)

    def _refuse(self, name: str, changes: Sequence[str], file: str, both: _Both) -> None:
        place = self._place(name, file)
        self.objections.setdefault(place, changed_layout(place, name, changes, both.users(name)))


class _Side:
    """One object: its types, who uses them, its code."""

    def __init__(self, path: Path) -> None:
        elf = ElfFile(path)
        self.path = path
        self.table = TypeTable(Dwarf(elf))

    @cached_property
    def uses(self) -> Uses:
        return Uses(self.table)

    @cached_property
    def code(self) -> ObjectCode:
        return ObjectCode(self.path)

    def callers(self, function: str) -> frozenset[str] | None:
        """The functions that call one, as the source names them; None when its address is taken."""
        found = set()
        for piece in self.code.pieces():
            if piece.section.name in NAMES or _SILENT.match(piece.section.name):
                continue
            for one in piece.references:
                if isinstance(one.target, (Piece, Undefined)) and _plain(one.target.name) == function:
                    if not (one.is_branch and piece.is_function):
                        return None
                    found.add(_plain(piece.name))
        return frozenset(found - {function})

    def holder(self, use: Use) -> Piece | None:
        """The function whose stack holds a variable."""
        if use.place is None:
            return None
        return self.code.piece_at(self.code.elf.sections[use.place[0]], use.place[1])


class _Both:
    """Both versions of an object.

    Raises:
        InputError: One has no debugging information, or it is damaged.
    """

    def __init__(self, original: Path, fixed: Path) -> None:
        with ThreadPoolExecutor(2) as pool:
            self._old, self._new = pool.map(_Side, (original, fixed))

    def uses_type(self, read: ReadOtherwise) -> bool:
        """Whether the object uses a type in both versions."""
        return bool(self._old.table.named(read.name) and self._new.table.named(read.now))

    def holds(self, name: str) -> bool:
        """Whether a function has a variable of a type on its stack."""
        return any(use.role == Role.LOCAL for use in self._old.uses.of(name))

    def changes(self, read: ReadOtherwise) -> tuple[str, ...]:
        """What changes of a type, in words; empty when nothing does or only one version uses it."""
        old, new = self._old.table.layouts(read.name), self._new.table.layouts(read.now)
        return _layout_changes(old, new, read)

    def unnamed(self, name: str, read: ReadOtherwise) -> Mapping[str, tuple[str, ...]]:
        """What changes of types without a name, by what has them."""
        if name.startswith("enum"):
            after = self._new.table.loose_constants()
            before = self._old.table.loose_constants()
            layouts = [
                Layout(size=0, members=(), slots=(), constants=tuple(one.items())) for one in (before, after)
            ]
            found = {name: differences(layouts[0], layouts[1], may_rise=read.may_rise)}
        else:
            old, new = self._old.table.unnamed(), self._new.table.unnamed()
            found = {one: differences(old[one], new[one]) for one in old if one in new}
        return {one: changes for one, changes in found.items() if changes}

    def is_harmless(self, read: ReadOtherwise) -> bool:
        """Whether data of a type is on stacks only, of functions that change with it."""
        if not read.name.startswith(_LASTING) or read.may_be_anywhere:
            return False
        for side, name in ((self._old, read.name), (self._new, read.now)):
            found = side.uses.of(name)
            if any(use.name in read.allocated for use in found if use.name):
                return False
            if outlives(name, side.uses.of, callers=side.callers):
                return False
        return all(self._changes(use) for use in self._old.uses.of(read.name) if use.role == Role.LOCAL)

    def _changes(self, use: Use) -> bool:
        """Whether the code that holds a variable is other than before: else a task could be within it."""
        holder = self._old.holder(use)
        if holder is None:
            return True
        now = self._new.code.functions.get(holder.name)
        return now is not None and now.code != holder.code

    def users(self, name: str) -> tuple[str, ...]:
        """The functions that use a type."""
        return functions((*self._old.uses.of(name), *self._new.uses.of(name)))


def _layout_changes(old: Sequence[Layout], new: Sequence[Layout], read: ReadOtherwise) -> tuple[str, ...]:
    """The changes between the layouts that a name has; with several, each must be there on both sides."""
    if not old or not new:
        return ()
    if len(old) == len(new):
        found = [differences(a, b, may_rise=read.may_rise) for a, b in zip(old, new, strict=True)]
        return tuple(dict.fromkeys(text for texts in found for text in texts))
    return (f"{len(old)} different types of that name become {len(new)}",)


def _plain(name: str) -> str:
    """The function that a copy or part was made of."""
    return name.partition(".")[0]
