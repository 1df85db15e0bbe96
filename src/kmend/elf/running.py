"""The code that a host really runs: the linked kernel or one of its modules, addressed by symbol.

A place is a pair (space, address): for the kernel space 0 and the linked virtual address, for a module the
section's index and the offset in it.
"""

from __future__ import annotations

import bisect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from kmend.elf import constants as c
from kmend.elf.objects import Content, ObjectCode, Piece
from kmend.elf.reader import ElfFile, Section, Symbol

VMLINUX = "vmlinux"
Place = tuple[int, int]

# Names that scripts/kallsyms leaves out of the kernel's own table (is_ignored_symbol, Linux 6.1).
_NOT_IN_KALLSYMS = ("$", ".L", "__efistub_", "__crc_", "__kstrtab_", "__kstrtabns_")


_NOWHERE = {c.SHN_UNDEF, c.SHN_ABS}
"""A number that an assembler file gave a name is no place, and the kernel's own table leaves it out."""


class Foreign(NamedTuple):
    """A place in another object: so many bytes into its symbol."""

    name: str
    delta: int


class Literal(NamedTuple):
    """A place in a literal that has not been linked yet: so many bytes into it."""

    content: Content
    delta: int


class Block(NamedTuple):
    """The local symbols of one source file within a linked object.

    Names that stand there more than once are in ``ambiguous`` only: nobody could tell which is meant.
    """

    file_name: str
    symbols: Mapping[str, Symbol]
    ambiguous: AbstractSet[str]


class RunningSymbols(ABC):
    """The symbols of the linked kernel or of a module."""

    name: str
    """``vmlinux``, or the module's name as the kernel writes it."""

    @property
    @abstractmethod
    def symbols(self) -> Sequence[Symbol]:
        """All of them, in file order."""

    @cached_property
    def _globals(self) -> dict[str, Symbol]:
        return {one.name: one for one in self.symbols if not one.is_local and one.is_defined}

    @cached_property
    def _blocks(self) -> dict[str, list[Block]]:
        """FILE symbols stand before the local symbols of their object (System V ABI, symbol table)."""
        found: dict[str, list[Block]] = {}
        current: dict[str, Symbol] = {}
        twice: set[str] = set()
        for symbol in self.symbols:
            if symbol.type == c.STT_FILE:
                current, twice = {}, set()
                found.setdefault(symbol.name, []).append(Block(symbol.name, current, twice))
            elif symbol.is_local and symbol.section not in _NOWHERE and symbol.type != c.STT_SECTION:
                if symbol.name in current or symbol.name in twice:
                    current.pop(symbol.name, None)
                    twice.add(symbol.name)
                else:
                    current[symbol.name] = symbol
        return found

    def blocks_like(self, part: ObjectCode) -> list[Block]:
        """The blocks that may stem from an object: same file name, and as many common locals as any other.

        One entry when it is certain, none when the object is not linked in, several when it is ambiguous.
        """
        wanted = {(one.name, one.size) for one in part.file_locals() if one.type == c.STT_FUNC}
        candidates = self._blocks.get(part.file_name(), [])
        if not wanted:
            return candidates
        names = {name for name, _ in wanted}
        candidates = [block for block in candidates if names <= block.symbols.keys() | block.ambiguous]
        shares = [len(wanted & {(one.name, one.size) for one in block.symbols.values()}) for block in candidates]
        best = max(shares, default=0)
        return [block for block, share in zip(candidates, shares, strict=True) if share == best]

    def find(self, name: str, block: Block | None) -> Symbol | None:
        """The symbol that ``name`` means within a block: its own local first, else a global one."""
        if block is not None and name in block.symbols:
            return block.symbols[name]
        return self._globals.get(name)

    def find_piece(self, piece: Piece, block: Block | None) -> Symbol | None:
        """The symbol of a piece of the block's own file; a static one is never taken for a global namesake."""
        if not piece.is_local:
            return self._globals.get(piece.name)
        names = (piece.name, *piece.aliases) if block is not None else ()
        return next((block.symbols[name] for name in names if block and name in block.symbols), None)

    @abstractmethod
    def in_kallsyms(self, name: str) -> Sequence[Place]:
        """Where every symbol of that name lies, in the order in which the running kernel finds them."""

    def position(self, symbol: Symbol) -> int | None:
        """Klp position of a symbol: 0 when its name is unique, else its number from 1; None when hidden."""
        places = self.in_kallsyms(symbol.name)
        place = self.place(symbol)
        if place not in places:
            return None
        return 0 if len(places) == 1 else places.index(place) + 1

    @abstractmethod
    def place(self, symbol: Symbol) -> Place:
        """Where a symbol lies."""


class Running(RunningSymbols):
    """What the kernel or a module looks like once it is linked: symbols and code."""

    def __init__(self, elf: ElfFile) -> None:
        self.elf = elf

    @property
    def symbols(self) -> Sequence[Symbol]:
        """See RunningSymbols."""
        return self.elf.symbols

    @abstractmethod
    def code(self, symbol: Symbol) -> bytes:
        """A function's bytes, as many as the symbol says."""

    @abstractmethod
    def destination(
        self, symbol: Symbol, at: int, width: int, end: int | None
    ) -> Place | Foreign | Literal | None:
        """Where the field of ``width`` bytes at ``at`` bytes into a function points to.

        ``end`` is the offset of the next instruction for a PC-relative field, None for an absolute one.
        """

    @abstractmethod
    def bytes_at(self, place: Place, size: int) -> bytes:
        """Memory as it was linked."""


def kernel_order(symbols: Iterable[Symbol]) -> dict[str, list[Place]]:
    """Where vmlinux' symbols of each name lie, as its kallsyms has them.

    It is sorted by address; a symbol table that is already sorted keeps its order.
    """
    found: dict[str, list[Place]] = {}
    visible = [
        one
        for one in symbols
        if one.is_defined and one.section != c.SHN_ABS and one.type not in {c.STT_FILE, c.STT_SECTION}
        if not one.name.startswith(_NOT_IN_KALLSYMS)
    ]
    for symbol in sorted(visible, key=lambda one: one.value):
        found.setdefault(symbol.name, []).append((0, symbol.value))
    return found


class RunningKernel(Running):
    """vmlinux with its symbols.

    Raises:
        InputError: The file is damaged.
    """

    name = VMLINUX

    def __init__(self, vmlinux: Path) -> None:
        super().__init__(ElfFile(vmlinux))
        mapped = [one for one in self.elf.sections if one.flags & c.SHF_ALLOC and one.address]
        self._mapped = sorted(mapped, key=lambda section: section.address)
        self._starts = [section.address for section in self._mapped]

    @cached_property
    def _by_name(self) -> dict[str, list[Place]]:
        return kernel_order(self.symbols)

    def in_kallsyms(self, name: str) -> Sequence[Place]:
        """See Running."""
        return self._by_name.get(name, ())

    def place(self, symbol: Symbol) -> Place:
        """See Running."""
        return 0, symbol.value

    def code(self, symbol: Symbol) -> bytes:
        """See Running."""
        return self.bytes_at((0, symbol.value), symbol.size)

    def destination(
        self, symbol: Symbol, at: int, width: int, end: int | None
    ) -> Place | Foreign | Literal | None:
        """See Running."""
        value = int.from_bytes(self.bytes_at((0, symbol.value + at), width), "little", signed=True)
        base = 0 if end is None else symbol.value + end
        return 0, (base + value) % (1 << 64)

    def bytes_at(self, place: Place, size: int) -> bytes:
        """See Running."""
        address = place[1]
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0:
            return b""
        section = self._mapped[index]
        return self.elf.read(section, address - section.address, size)


class RunningModule(Running):
    """A module: its unstripped object for the code, the one that hosts load for the order of symbols.

    Raises:
        InputError: A file is damaged.
    """

    def __init__(self, name: str, debug: Path, loaded: ElfFile) -> None:
        self.name = name
        self._code = ObjectCode(debug)
        super().__init__(self._code.elf)
        self._loaded = loaded

    @cached_property
    def _by_name(self) -> dict[str, list[tuple[Place, bool]]]:
        """Places with whether they stay once the module is up.

        The kernel walks the symbol table in file order and skips what is undefined; once the module has
        started, init code and what takes no memory is gone from the table (kernel/module/kallsyms.c).
        """
        sections = {section.name: section.number for section in self.elf.sections}
        found: dict[str, list[tuple[Place, bool]]] = {}
        for symbol in self._loaded.symbols:
            if symbol.is_defined and symbol.section < len(self._loaded.sections) and symbol.name:
                section = self._loaded.sections[symbol.section]
                stays = bool(section.flags & c.SHF_ALLOC) and not section.name.startswith(".init")
                place = sections.get(section.name, -1), symbol.value
                found.setdefault(symbol.name, []).append((place, stays))
        return found

    def in_kallsyms(self, name: str) -> Sequence[Place]:
        """See Running. Empty where the order is another once the module has started."""
        places = self._by_name.get(name, ())
        return [place for place, _ in places] if all(stays for _, stays in places) else ()

    def place(self, symbol: Symbol) -> Place:
        """See Running."""
        return symbol.section, symbol.value

    def code(self, symbol: Symbol) -> bytes:
        """See Running."""
        return self._piece(symbol).code[: symbol.size]

    def destination(
        self, symbol: Symbol, at: int, width: int, end: int | None
    ) -> Place | Foreign | Literal | None:
        """See Running."""
        piece = self._piece(symbol)
        for reference in piece.references:
            if reference.offset == at:
                target = reference.target
                if isinstance(target, Piece):
                    return target.section.number, target.offset + reference.delta
                if isinstance(target, Content):
                    return Literal(target, reference.delta)
                return Foreign(target.name, reference.delta)
        if end is None:
            return None
        value = int.from_bytes(piece.code[at : at + width], "little", signed=True)
        return symbol.section, symbol.value + end + value

    def _piece(self, symbol: Symbol) -> Piece:
        return self._code.piece_at(self.elf.sections[symbol.section], symbol.value)

    def bytes_at(self, place: Place, size: int) -> bytes:
        """See Running."""
        section: Section = self.elf.sections[place[0]]
        return self.elf.read(section, place[1], size)
