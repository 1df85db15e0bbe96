"""What a finished livepatch module tells the kernel to replace, read from the module itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kmend.elf import constants as c
from kmend.elf.reader import ElfFile, Relocation, Section, Symbol
from kmend.elf.running import VMLINUX
from kmend.kit.errors import BugError

STRUCTURES = ("klp_func", "klp_object")
"""Structures whose sizes are needed; their first members have long been the same (include/linux/livepatch.h)."""
_FUNCTIONS = 8  # offset of klp_object.funcs
_NEW = 8  # offset of klp_func.new_func
_POSITION = 16  # offset of klp_func.old_sympos


class Registered(NamedTuple):
    """One klp_func: the function to replace, and the symbol at which its new version begins."""

    object: str
    name: str
    position: int
    new: str


class _Place(NamedTuple):
    section: Section
    offset: int


def registered(elf: ElfFile, sizes: Mapping[str, int], *, objects: str) -> Iterator[Registered]:
    """Every function that the module registers, as the kernel will walk the tables.

    Args:
        elf: The finished module.
        sizes: Bytes of the structures of STRUCTURES.
        objects: Name of the array of klp_object.

    Raises:
        BugError: There is no such array.
    """
    table = next((one for one in elf.symbols if one.name == objects and one.type == c.STT_OBJECT), None)
    if table is None:
        raise BugError(f"{elf.path} has no array {objects} of what it replaces.")
    tables = _Tables(elf)
    at = _Place(elf.sections[table.section], table.value)
    while functions := tables.pointer(at, _FUNCTIONS):
        name = tables.text(at) or VMLINUX
        yield from tables.functions(name, functions, sizes["klp_func"])
        at = _Place(at.section, at.offset + sizes["klp_object"])


class _Tables:
    """Data with its relocations resolved."""

    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self._known: dict[int, dict[int, Relocation]] = {}

    def functions(self, owner: str, at: _Place, size: int) -> Iterator[Registered]:
        """The klp_func entries from a place on, up to the one without a name."""
        while name := self.text(at):
            position = int.from_bytes(self._elf.read(at.section, at.offset + _POSITION, 8), "little")
            yield Registered(owner, name, position, self._begins(self.pointer(at, _NEW)))
            at = _Place(at.section, at.offset + size)

    def pointer(self, at: _Place, offset: int = 0) -> _Place | None:
        """Where a pointer leads; None where there is none."""
        found = self._relocation(at.section, at.offset + offset)
        if found is None:
            return None
        symbol = self._elf.symbols[found.symbol]
        return _Place(self._elf.sections[symbol.section], symbol.value + found.addend)

    def text(self, at: _Place) -> str:
        """The string that a pointer leads to; empty where there is none."""
        place = self.pointer(at)
        if place is None:
            return ""
        content = self._elf.content(place.section)
        return content[place.offset : content.find(b"\0", place.offset)].decode("utf-8", "replace")

    def _begins(self, place: _Place | None) -> str:
        """The function that begins exactly there; empty when none does."""
        found: list[Symbol] = [
            one
            for one in self._elf.symbols
            if place
            and one.type == c.STT_FUNC
            and (one.section, one.value) == (place.section.number, place.offset)
        ]
        return found[0].name if found else ""

    def _relocation(self, section: Section, offset: int) -> Relocation | None:
        if section.number not in self._known:
            self._known[section.number] = {one.offset: one for one in self._elf.relocations(section)}
        return self._known[section.number].get(offset)
