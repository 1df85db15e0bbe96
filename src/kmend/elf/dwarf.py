"""Reads debugging information of one relocatable object: DWARF 4 and 5, as gcc writes it (dwarfstd.org)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from kmend.elf import constants as c
from kmend.elf.reader import ElfFile, Section
from kmend.kit.errors import InputError

# Tags (DWARF 5, 7.5.3).
ARRAY, ENUM, PARAMETER, POINTER, UNIT, STRUCT, SUBROUTINE, TYPEDEF, UNION = 1, 4, 5, 15, 17, 19, 21, 22, 23
MEMBER, INLINED, SUBRANGE, BASE, CONST, CONSTANT, FUNCTION, VARIABLE, VOLATILE, RESTRICT, ATOMIC = (
    13, 29, 33, 36, 38, 40, 46, 52, 53, 55, 71,
)  # fmt: skip
AGGREGATES = {STRUCT: "struct", UNION: "union"}

# Attributes (7.5.4).
LOCATION, NAME, BYTE_SIZE, BIT_OFFSET, BIT_SIZE, LOW_PC, CONST_VALUE, UPPER_BOUND, ORIGIN, COUNT = (
    2, 3, 11, 12, 13, 17, 28, 47, 49, 55,
)  # fmt: skip
MEMBER_AT, DECLARATION, ENCODING, EXTERNAL, SPECIFICATION, TYPE, DATA_BIT_OFFSET = 56, 60, 62, 63, 71, 73, 107
_WANTED = frozenset({
    LOCATION, NAME, BYTE_SIZE, BIT_OFFSET, BIT_SIZE, LOW_PC, CONST_VALUE, UPPER_BOUND, ORIGIN, COUNT, MEMBER_AT,
    DECLARATION, ENCODING, EXTERNAL, SPECIFICATION, TYPE, DATA_BIT_OFFSET,
})  # fmt: skip

# Forms (7.5.6): how the value of an attribute is written.
_ADDRESS, _STRING, _SIGNED, _STRP, _INDIRECT, _PRESENT, _LINE_STRP, _IMPLICIT = 1, 8, 13, 14, 22, 25, 31, 33
_NUMBERS = {1: "<Q", 5: "<H", 6: "<I", 7: "<Q", 11: "<B", 12: "<B", 14: "<I", 16: "<I", 23: "<I", 31: "<I"}
_REFERENCES = {17: "<B", 18: "<H", 19: "<I", 20: "<Q"}
_UNSIGNED, _UNIT_REFERENCE = frozenset({15, 34, 35}), 21
_BLOCKS = {10: "<B", 3: "<H", 4: "<I", 9: "", 24: ""}
_SIXTEEN, _SIGNATURE = 30, 32
_VERSIONS = (4, 5)
_COMPILE_UNITS = frozenset({1, 3})
_DWARF_64 = 0xFFFFFFF0
_DEEPEST = 500
_LONGEST_NUMBER = 70
"""Bits."""

Value = int | str | bytes


@dataclass(slots=True, eq=False)
class Die:
    """One entry: a type, a function, a variable; ``attributes`` holds those that are named above.

    References to other entries are offsets in .debug_info; an address is the place where it stands there.
    """

    offset: int
    tag: int
    attributes: dict[int, Value] = field(repr=False)
    parent: Die | None = field(repr=False)
    children: list[Die] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        """Its own name; empty when it has none."""
        return str(self.attributes.get(NAME, ""))

    def number(self, attribute: int) -> int | None:
        """The value of an attribute when that is a number."""
        value = self.attributes.get(attribute)
        return value if isinstance(value, int) else None


class _Abbreviation(NamedTuple):
    tag: int
    has_children: bool
    attributes: list[tuple[int, int, int]]
    """Attribute, form, and the value of an implicit constant."""


class Dwarf:
    """All entries of an object by their offset.

    Raises:
        InputError: There is no debugging information, or it is damaged, or of a kind that gcc does not write.
    """

    def __init__(self, elf: ElfFile) -> None:
        self.entries: dict[int, Die] = {}
        self._path = elf.path
        self._info, self._places = _relocated(elf)
        self._abbreviations = _content(elf, ".debug_abbrev")
        self._strings = {_STRP: _content(elf, ".debug_str"), _LINE_STRP: _content(elf, ".debug_line_str")}
        self._tables: dict[int, dict[int, _Abbreviation]] = {}
        self._unit = 0
        try:
            self._read_units()
        except (struct.error, IndexError, KeyError, ValueError, OverflowError) as error:
            raise InputError(f"{elf.path}: its debugging information is damaged: {error}.") from None

    def place(self, die: Die) -> tuple[int, int] | None:
        """Section and offset where a function begins, if it has code of its own."""
        low = die.number(LOW_PC)
        return self._places.get(low) if low is not None else None

    def follow(self, die: Die, attribute: int) -> Die | None:
        """The entry that an attribute refers to; None when there is no such attribute.

        Raises:
            InputError: It refers to nothing.
        """
        at = die.number(attribute)
        if at is None:
            return None
        if at not in self.entries:
            raise InputError(f"{self._path}: its debugging information is damaged: a reference to nothing.")
        return self.entries[at]

    def _read_units(self) -> None:
        at = 0
        while at < len(self._info):
            self._unit = at
            length, version = struct.unpack_from("<IH", self._info, at)
            end = at + 4 + length
            if length >= _DWARF_64 or end > len(self._info) or version not in _VERSIONS:
                raise ValueError(f"a unit of {length} bytes, version {version}")
            if version == _VERSIONS[0]:
                table, width = struct.unpack_from("<IB", self._info, at + 6)
                kind, at = 1, at + 11
            else:
                kind, width, table = struct.unpack_from("<BBI", self._info, at + 6)
                at += 12
            if kind not in _COMPILE_UNITS or width != 8:  # noqa: PLR2004 - bytes of an address
                raise ValueError(f"a unit of kind {kind} with addresses of {width} bytes")
            self._read_entries(at, end, self._table(table))
            at = end

    def _read_entries(self, at: int, end: int, table: dict[int, _Abbreviation]) -> None:
        parent: Die | None = None
        depth = 0
        while at < end:
            start = at
            code, at = _unsigned(self._info, at)
            if not code:
                parent, depth = (parent.parent if parent else None), depth - 1
                continue
            abbreviation = table[code]
            attributes: dict[int, Value] = {}
            for name, form, constant in abbreviation.attributes:
                value, at = self._value(form, at, constant)
                if name in _WANTED:
                    attributes[name] = value
            die = Die(start, abbreviation.tag, attributes, parent)
            self.entries[start] = die
            if parent is not None:
                parent.children.append(die)
            if abbreviation.has_children:
                parent, depth = die, depth + 1
                if depth > _DEEPEST:
                    raise ValueError("entries within entries without end")

    def _value(self, form: int, at: int, constant: int) -> tuple[Value, int]:  # noqa: C901, PLR0911, PLR0912 - as many as there are forms
        """The value at a place, and where it ends."""
        if form in _NUMBERS:
            (value,) = struct.unpack_from(_NUMBERS[form], self._info, at)
            if form in self._strings:
                return _text(self._strings[form], value)[0], at + 4
            return (at if form == _ADDRESS else value), at + struct.calcsize(_NUMBERS[form])
        if form in _REFERENCES:
            (value,) = struct.unpack_from(_REFERENCES[form], self._info, at)
            return self._unit + value, at + struct.calcsize(_REFERENCES[form])
        if form == _PRESENT:
            return 1, at
        if form == _STRING:
            return _text(self._info, at)
        if form == _SIGNED:
            return _signed(self._info, at)
        if form == _IMPLICIT:
            return constant, at
        if form == _UNIT_REFERENCE:
            value, at = _unsigned(self._info, at)
            return self._unit + value, at
        if form in _UNSIGNED:
            return _unsigned(self._info, at)
        if form in {_SIXTEEN, _SIGNATURE}:
            size = 16 if form == _SIXTEEN else 8
            return self._bytes(at, size)
        if form in _BLOCKS:
            return self._block(_BLOCKS[form], at)
        if form == _INDIRECT:
            form, at = _unsigned(self._info, at)
            if form != _INDIRECT:
                return self._value(form, at, constant)
        raise ValueError(f"form {form}")

    def _block(self, width: str, at: int) -> tuple[bytes, int]:
        if not width:
            return self._bytes(*reversed(_unsigned(self._info, at)))
        (size,) = struct.unpack_from(width, self._info, at)
        return self._bytes(at + struct.calcsize(width), size)

    def _bytes(self, at: int, size: int) -> tuple[bytes, int]:
        if at + size > len(self._info):
            raise ValueError("a block beyond the end")
        return self._info[at : at + size], at + size

    def _table(self, at: int) -> dict[int, _Abbreviation]:
        if at not in self._tables:
            self._tables[at] = dict(self._read_abbreviations(at))
        return self._tables[at]

    def _read_abbreviations(self, at: int) -> Iterator[tuple[int, _Abbreviation]]:
        data = self._abbreviations
        while True:
            code, at = _unsigned(data, at)
            if not code:
                return
            tag, at = _unsigned(data, at)
            has_children, at = bool(data[at]), at + 1
            attributes = []
            while True:
                name, at = _unsigned(data, at)
                form, at = _unsigned(data, at)
                constant, at = _signed(data, at) if form == _IMPLICIT else (0, at)
                if not name and not form:
                    break
                attributes.append((name, form, constant))
            yield code, _Abbreviation(tag, has_children, attributes)


def _content(elf: ElfFile, name: str) -> bytes:
    section = elf.section(name)
    return elf.content(section) if section else b""


def _relocated(elf: ElfFile) -> tuple[bytes, dict[int, tuple[int, int]]]:
    """The entries with their relocations applied, and the places of code and data by where they are named."""
    section = elf.section(".debug_info")
    if section is None or section.type == c.SHT_NOBITS:
        raise InputError(f"{elf.path} has no debugging information.")
    data = bytearray(elf.content(section))
    places: dict[int, tuple[int, int]] = {}
    for offset, kind, number, addend in elf.relocations(section):
        width = c.RELOCATION_SIZES.get(kind, 0)
        symbol = elf.symbols[number]
        if not width or offset + width > len(data):
            raise InputError(f"{elf.path}: its debugging information is damaged: relocation type {kind}.")
        value = symbol.value + addend
        data[offset : offset + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
        if _is_loaded(elf, symbol.section):
            places[offset] = symbol.section, value
    return bytes(data), places


def _is_loaded(elf: ElfFile, number: int) -> bool:
    section: Section | None = elf.sections[number] if 0 < number < len(elf.sections) else None
    return section is not None and bool(section.flags & c.SHF_ALLOC)


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    """A number in LEB128 (7.6), and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:  # noqa: PLR2004 - the highest bit says that more follows
            return value, at
        shift += 7
        if shift > _LONGEST_NUMBER:
            raise ValueError("a number without end")


def _signed(data: bytes, at: int) -> tuple[int, int]:
    begin = at
    value, at = _unsigned(data, at)
    return (value - (1 << 7 * (at - begin)) if data[at - 1] & 64 else value), at


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at)
    if end < 0:
        raise ValueError("a string without end")
    return data[at:end].decode("utf-8", "replace"), end + 1
