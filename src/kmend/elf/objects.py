"""A relocatable kernel object taken apart: pieces (functions, data) and what each refers to.

Expects objects compiled with ``-ffunction-sections -fdata-sections``; functions that share a section all the
same (``.sched.text``, ``.init.text``) are cut at their symbols, and the branches between them, which the
assembler has resolved, are turned back into references.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kmend.elf import constants as c
from kmend.elf.code import Instruction, decode, is_short
from kmend.elf.names import is_cold_part, is_private_static
from kmend.elf.reader import ElfFile, Relocation, Section, Symbol
from kmend.kit.errors import InputError

_LARGEST_LITERALS = 64 << 20
"""Bytes of all literals of an object: many tails of one huge string would fill the memory."""


class Content(NamedTuple):
    """A literal that is known by what it holds: a string with its NUL, or a constant."""

    data: bytes
    section: str
    """Name of the section that it stands in."""


class Undefined(NamedTuple):
    """A symbol of another object."""

    name: str


@dataclass(slots=True, eq=False)
class Piece:
    """One function, one variable, a section without symbols, or one entry of ``OUT_OF_LINE``."""

    name: str
    section: Section
    offset: int
    """Where it begins in its section."""
    size: int
    bind: int
    is_function: bool
    aliases: tuple[str, ...]
    """Other names of the same place."""
    code: bytes = field(repr=False)
    """Its bytes, zero where relocations will be filled in."""
    references: list[Reference] = field(default_factory=list, repr=False)
    padding: int = 0
    """Bytes of no-operations before it, in which the kernel may put code at run time."""
    fixed_branches: tuple[tuple[str, int], ...] = ()
    """What it refers to in its own section in a way that is no reference: name, bytes into it."""
    holds_labels: bool = False
    """Data with addresses of places within functions (``&&label``): good for that very code only."""

    @property
    def is_anonymous(self) -> bool:
        """A section without symbols of its own."""
        return self.name == self.section.name

    @property
    def is_private(self) -> bool:
        """Data of one place in the code, of which every version of the code has its own."""
        if self.section.name == "__dyndbg" or (self.holds_labels and not self.is_writable):
            return True
        return not self.is_function and is_private_static(self.name, is_writable=self.is_writable)

    @property
    def is_local(self) -> bool:
        """Known in its own file only."""
        return self.bind == c.STB_LOCAL

    @property
    def is_writable(self) -> bool:
        """Data that may change while the kernel runs."""
        return bool(self.section.flags & c.SHF_WRITE)


class Reference(NamedTuple):
    """A relocation in terms of what it points to.

    ``offset`` counts within the piece; ``adjust`` is the distance from there to the address that a PC-relative
    value counts from (4 plus what follows in the instruction; 0 in data); ``delta`` counts bytes into the target
    (it may be negative, or lie beyond its end: ``table[i - 1]``, ``&table[size]``).
    """

    offset: int
    type: int
    adjust: int
    target: Piece | Undefined | Content
    delta: int
    is_branch: bool


class ObjectCode:
    """All pieces of one object.

    ``functions`` and ``data`` map names (and aliases) to pieces. ``tables`` are the sections without symbols.

    Raises:
        InputError: The file is damaged, not relocatable, or holds what no kernel object holds.
    """

    def __init__(self, path: Path) -> None:
        self.elf = ElfFile(path)
        if self.elf.type != c.ET_REL:
            raise InputError(f"{path} is not a relocatable object (.o or .ko).")
        self._pieces: dict[int, list[Piece]] = {}
        self._starts: dict[int, list[int]] = {}
        self._sorted: dict[int, list[Relocation]] = {}
        self._texts: dict[int, bytes] = {}
        self._literals: dict[tuple[int, int], Content] = {}
        self._literal_bytes = 0
        self._cut()
        for piece in self.pieces():
            piece.references = list(self._references(piece))
            piece.holds_labels = not piece.is_function and any(map(_is_label, piece.references))
        self.functions = {name: piece for piece in self.pieces() if piece.is_function for name in _names(piece)}
        self.data = {
            name: piece
            for piece in self.pieces()
            if not piece.is_function and not piece.is_anonymous
            for name in _names(piece)
        }

    def pieces(self) -> Iterator[Piece]:
        """Every piece once, in file order."""
        for pieces in self._pieces.values():
            yield from pieces

    def tables(self, name: str) -> list[Piece]:
        """The sections of that name that have no symbols (there may be several)."""
        return [piece for piece in self.pieces() if piece.section.name == name and piece.is_anonymous]

    def file_name(self) -> str:
        """Name of the source file without folders, as its FILE symbol has it; empty when there is none."""
        names = [symbol.name for symbol in self.elf.symbols if symbol.type == c.STT_FILE]
        return names[0] if names else ""

    def file_locals(self) -> list[Symbol]:
        """Local functions and variables in symbol table order."""
        kinds = {c.STT_FUNC, c.STT_OBJECT}
        return [
            symbol
            for symbol in self.elf.symbols
            if symbol.is_local and symbol.type in kinds and not symbol.name.startswith(_PADDING)
        ]

    def _cut(self) -> None:
        labels: dict[int, list[Symbol]] = {}
        for symbol in self.elf.symbols:
            if symbol.section == c.SHN_COMMON:
                raise InputError(f"{self.elf.path}: common symbol {symbol.name}; compile with -fno-common.")
            if symbol.type not in {c.STT_SECTION, c.STT_FILE} and not symbol.name.startswith(".L"):
                self._check_place(symbol)
                labels.setdefault(symbol.section, []).append(symbol)
        for section in self.elf.sections:
            if section.flags & c.SHF_ALLOC and not section.is_strings:
                self._pieces[section.number] = _pieces_of(self.elf, section, labels.get(section.number, []))
                self._starts[section.number] = [one.offset - one.padding for one in self._pieces[section.number]]

    def _check_place(self, symbol: Symbol) -> None:
        if 0 < symbol.section < len(self.elf.sections):
            section = self.elf.sections[symbol.section]
            if section.flags & c.SHF_ALLOC and symbol.value > section.size:
                raise InputError(f"{self.elf.path}: symbol {symbol.name} lies outside of {section.name}.")

    def _references(self, piece: Piece) -> Iterator[Reference]:
        everything = self._relocations(piece.section)
        first = bisect.bisect_left(everything, (piece.offset,))
        last = bisect.bisect_left(everything, (piece.offset + piece.size,))
        own = everything[first:last]
        places = self._places(piece) if piece.section.is_text else {}
        filled = set()
        code = bytearray(piece.code)
        for relocation in own:
            at = relocation.offset - piece.offset
            width = c.RELOCATION_SIZES.get(relocation.type)
            if width is None:
                raise InputError(
                    f"{self.elf.path}: relocation type {relocation.type} in {piece.section.name} "
                    "is not one that x86-64 kernel code uses."
                )
            code[at : at + width] = bytes(width)
            instruction = places.get(at)
            filled.add(instruction.offset if instruction else -1)
            yield self._reference(relocation, at, instruction)
        if piece.is_function and len(self._pieces[piece.section.number]) > 1:
            yield from self._resolved_branches(piece, places, filled, code)
        piece.code = bytes(code)

    def _relocations(self, section: Section) -> list[Relocation]:
        """A section's relocations by offset; those that mean nothing (R_X86_64_NONE) are left out."""
        if section.number not in self._sorted:
            found = self.elf.relocations(section)
            self._sorted[section.number] = [one for one in found if one.type != c.R_X86_64_NONE]
        return self._sorted[section.number]

    def _places(self, piece: Piece) -> dict[int, Instruction]:
        """Offset of each byte of the piece's code to the instruction that it belongs to."""
        return {at: one for one in decode(piece.code) for at in range(one.offset, one.end)}

    def _reference(self, relocation: Relocation, at: int, instruction: Instruction | None) -> Reference:
        adjust = 0
        if instruction is not None and relocation.type in c.PC_RELATIVE:
            adjust = instruction.end - at
        symbol = self.elf.symbols[relocation.symbol]
        branch = instruction is not None and instruction.is_branch and relocation.type in c.PC_RELATIVE
        target, delta = self._target(symbol, relocation.addend + adjust)
        return Reference(at, relocation.type, adjust, target, delta, branch)

    def _target(self, symbol: Symbol, distance: int) -> tuple[Piece | Undefined | Content, int]:
        if symbol.section in {c.SHN_UNDEF, c.SHN_ABS, c.SHN_LIVEPATCH}:
            return Undefined(symbol.name), distance
        if symbol.section >= len(self.elf.sections):
            raise InputError(f"{self.elf.path}: symbol {symbol.name} is of an unknown kind.")
        section = self.elf.sections[symbol.section]
        place = symbol.value + distance
        if section.flags & c.SHF_MERGE:
            # The assembler keeps the symbol where the code does not point to the literal's first byte.
            start = place if symbol.type == c.STT_SECTION else symbol.value
            return self._literal(section, start), place - start
        if section.number not in self._pieces:
            raise InputError(
                f"{self.elf.path}: a relocation points into section {section.name}, which is not loaded."
            )
        named = symbol.type != c.STT_SECTION
        piece = self._piece_at(section, symbol.value if named else place)
        return piece, place - piece.offset

    def _literal(self, section: Section, place: int) -> Content:
        key = section.number, place
        if key not in self._literals:
            content = self._read_literal(section, place)
            self._literal_bytes += len(content.data)
            if self._literal_bytes > _LARGEST_LITERALS:
                raise InputError(f"{self.elf.path}: the literals of {section.name} overlap too much.")
            self._literals[key] = content
        return self._literals[key]

    def _read_literal(self, section: Section, place: int) -> Content:
        width = max(1, section.entry_size)
        if not 0 <= place <= section.size - width:
            raise InputError(f"{self.elf.path}: a relocation points outside of {section.name}.")
        if section.number not in self._texts:
            self._texts[section.number] = self.elf.content(section)
        data = self._texts[section.number]
        end = _end_of_string(data, place, width) if section.is_strings else place + width
        if not end:
            raise InputError(f"{self.elf.path}: a string in {section.name} has no end.")
        return Content(data[place:end], section.name)

    def _piece_at(self, section: Section, place: int) -> Piece:
        pieces = self._pieces[section.number]
        return pieces[max(0, bisect.bisect_right(self._starts[section.number], place) - 1)]

    def piece_at(self, section: Section, place: int) -> Piece:
        """The piece that covers (or last begins before) a place in a section."""
        return self._piece_at(section, place)

    def _resolved_branches(
        self, piece: Piece, places: dict[int, Instruction], filled: set[int], code: bytearray
    ) -> Iterator[Reference]:
        """Branches to neighbours in the same section, which have no relocation any more."""
        fixed = []
        for one in dict.fromkeys(places.values()):
            goal = one.target() if one.is_branch else one.pointed_to()
            if goal is None or one.offset in filled or 0 <= goal < piece.size:
                continue
            target = self._piece_at(piece.section, piece.offset + goal)
            delta = piece.offset + goal - target.offset
            if is_short(one) or not one.is_branch:
                fixed.append((target.name, delta))
                continue
            code[one.end - 4 : one.end] = bytes(4)
            yield Reference(one.end - 4, c.R_X86_64_PLT32, 4, target, delta, is_branch=True)
        piece.fixed_branches = tuple(fixed)


def _is_label(reference: Reference) -> bool:
    """Whether it means a place within a function, or a part of one, rather than a function."""
    target = reference.target
    if not isinstance(target, Piece) or not target.is_function or reference.type in c.PC_RELATIVE:
        return False
    return reference.delta != 0 or is_cold_part(target.name)


def _end_of_string(data: bytes, place: int, width: int) -> int:
    """Where a string of characters of ``width`` bytes ends, its NUL included; 0 when it does not."""
    if width == 1:
        return data.find(b"\0", place) + 1
    ends = (at for at in range(place, len(data) - width + 1, width) if data[at : at + width] == bytes(width))
    return next(ends, -width) + width


def _names(piece: Piece) -> tuple[str, ...]:
    return (piece.name, *piece.aliases)


def _pieces_of(elf: ElfFile, section: Section, labels: Sequence[Symbol]) -> list[Piece]:
    """Cut one section at its symbols; a section without symbols is one piece named after it."""
    places: dict[int, list[Symbol]] = {}
    padding: dict[int, int] = {}
    for symbol in labels:
        if section.is_text and symbol.name.startswith(_PADDING):
            padding[symbol.value + symbol.size] = symbol.size
        else:
            places.setdefault(symbol.value, []).append(symbol)
    places = _outermost(places)
    if not places or min(places) > padding.get(min(places), 0):
        places[0] = []
    if section.name == OUT_OF_LINE and len(places) == 1:
        places |= {start: [] for start in _after_jumps(elf, section)}
    starts = sorted(places)
    pieces = []
    for start, end in zip(starts, [*starts[1:], section.size], strict=True):
        symbols = sorted(places[start], key=_rank)
        sized = max((symbol.size for symbol in symbols), default=0)
        size = min(sized or end - start, end - start) if section.is_text else end - start
        first = symbols[0] if symbols else None
        pieces.append(
            Piece(
                name=first.name if first else section.name,
                section=section,
                offset=start,
                size=size,
                bind=first.bind if first else c.STB_LOCAL,
                is_function=section.is_text and first is not None,
                aliases=tuple(symbol.name for symbol in symbols[1:]),
                code=elf.read(section, start, size),
                padding=padding.get(start, 0),
            )
        )
    return pieces


# Marks the room before a function that the kernel may patch at run time (objtool --prefix).
_PADDING = "__pfx_"

OUT_OF_LINE = ".altinstr_aux"
"""Where static_cpu_has() tests a feature until alternatives are applied: pieces of code without names, each of
which ends with a jump back (arch/x86/include/asm/cpufeature.h)."""


def _after_jumps(elf: ElfFile, section: Section) -> Iterator[int]:
    for one in decode(elf.content(section)):
        if one.mnemonic == "jmp" and one.end < section.size:
            yield one.end


def _outermost(places: dict[int, list[Symbol]]) -> dict[int, list[Symbol]]:
    """Without labels in the middle of a function or variable, which do not divide it."""
    found = {}
    end = 0
    for start in sorted(places):
        if start >= end:
            found[start] = places[start]
        end = max(end, start + max(symbol.size for symbol in places[start]))
    return found


def _rank(symbol: Symbol) -> tuple[bool, bool, str]:
    """Functions and variables before labels, global names before local ones."""
    return symbol.type == c.STT_NOTYPE, symbol.is_local, symbol.name
