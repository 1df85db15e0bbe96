"""Writes relocatable ELF objects: sections, symbols, relocations; the same input gives the same bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from kmend.elf import constants as c

_HEADER_SIZE = struct.calcsize(c.HEADER)
_SECTION_SIZE = struct.calcsize(c.SECTION_HEADER)
_SYMBOL_SIZE = struct.calcsize(c.SYMBOL)
_RELA_SIZE = struct.calcsize(c.RELA)


@dataclass(slots=True, eq=False)
class OutSymbol:
    """A symbol to write; ``section`` None is undefined unless ``place`` says otherwise (SHN_ABS and the like)."""

    name: str
    section: OutSection | None = None
    value: int = 0
    size: int = 0
    bind: int = c.STB_GLOBAL
    type: int = c.STT_NOTYPE
    place: int = c.SHN_UNDEF


@dataclass(slots=True, eq=False)
class OutSection:
    """A section to write. ``relocations`` are (offset, type, symbol, addend)."""

    name: str
    type: int = c.SHT_PROGBITS
    flags: int = c.SHF_ALLOC
    align: int = 1
    entry_size: int = 0
    data: bytearray = field(default_factory=bytearray)
    size: int = 0
    """Only for SHT_NOBITS."""
    relocations: list[tuple[int, int, OutSymbol, int]] = field(default_factory=list)
    livepatch_relocations: dict[str, list[tuple[int, int, OutSymbol, int]]] = field(default_factory=dict)
    """By name of the object that they wait for; written as ``.klp.rela.OBJECT.SECTION``."""

    def append(self, data: bytes, *, align: int = 1) -> int:
        """Add bytes at the next aligned place and return their offset."""
        self.align = max(self.align, align)
        gap = -len(self.data) % align
        self.data += bytes(gap)
        at = len(self.data)
        self.data += data
        return at


class OutObject:
    """A relocatable object in the making."""

    def __init__(self) -> None:
        self.sections: list[OutSection] = []
        self.symbols: list[OutSymbol] = []

    def section(self, name: str, **traits: int) -> OutSection:
        """The section of that name, made with these traits when it is not there yet."""
        for section in self.sections:
            if section.name == name:
                return section
        section = OutSection(name, **traits)  # type: ignore[arg-type]
        self.sections.append(section)
        return section

    def symbol(self, symbol: OutSymbol) -> OutSymbol:
        """Add a symbol and return it."""
        self.symbols.append(symbol)
        return symbol

    def to_bytes(self) -> bytes:
        """The file: header, sections, tables, section headers."""
        numbers = {id(section): number for number, section in enumerate(self.sections, start=1)}
        ordered = sorted(self.symbols, key=lambda symbol: symbol.bind != c.STB_LOCAL)
        places = {id(symbol): place for place, symbol in enumerate(ordered, start=1)}
        symbol_table = len(self.sections) + 1 + sum(len(_rela_names(section)) for section in self.sections)
        rows = [_Row("", 0, 0, b"", 0, 0, 0, 0, 0)]
        rows += [_section_row(section) for section in self.sections]
        for section in self.sections:
            for name, flags, entries in _rela_names(section):
                packed = _pack_relocations(entries, places)
                rows.append(
                    _Row(
                        name,
                        c.SHT_RELA,
                        flags,
                        packed,
                        len(packed),
                        symbol_table,
                        numbers[id(section)],
                        8,
                        _RELA_SIZE,
                    )
                )
        names, symbols = _pack_symbols(ordered, numbers)
        locals_ = 1 + sum(symbol.bind == c.STB_LOCAL for symbol in ordered)
        rows.append(
            _Row(".symtab", c.SHT_SYMTAB, 0, symbols, len(symbols), symbol_table + 1, locals_, 8, _SYMBOL_SIZE)
        )
        rows.append(_Row(".strtab", c.SHT_STRTAB, 0, names, len(names), 0, 0, 1, 0))
        return _lay_out(rows)


@dataclass(slots=True)
class _Row:
    """One section as it goes into the file."""

    name: str
    type: int
    flags: int
    data: bytes
    size: int
    link: int
    info: int
    align: int
    entry_size: int


def _section_row(section: OutSection) -> _Row:
    size = section.size if section.type == c.SHT_NOBITS else len(section.data)
    return _Row(
        section.name,
        section.type,
        section.flags,
        bytes(section.data),
        size,
        0,
        0,
        section.align,
        section.entry_size,
    )


def _rela_names(section: OutSection) -> list[tuple[str, int, list[tuple[int, int, OutSymbol, int]]]]:
    """The relocation sections of a section: name, flags, entries."""
    found = []
    if section.relocations:
        found.append((".rela" + section.name, c.SHF_INFO_LINK, section.relocations))
    for target, entries in sorted(section.livepatch_relocations.items()):
        # The kernel applies these later, perhaps much later, so they stay in memory (SHF_ALLOC).
        flags = c.SHF_ALLOC | c.SHF_INFO_LINK | c.SHF_RELA_LIVEPATCH
        found.append(
            (f".klp.rela.{target}{section.name if section.name[0] == '.' else '.' + section.name}", flags, entries)
        )
    return found


def _pack_relocations(entries: list[tuple[int, int, OutSymbol, int]], places: dict[int, int]) -> bytes:
    rows = sorted(
        (offset, places[id(symbol)] << 32 | kind, _wrapped(addend)) for offset, kind, symbol, addend in entries
    )
    return b"".join(struct.pack(c.RELA, *row) for row in rows)


def _wrapped(addend: int) -> int:
    """As 64 bits with a sign: addresses wrap around."""
    return (addend + (1 << 63)) % (1 << 64) - (1 << 63)


def _pack_symbols(ordered: list[OutSymbol], numbers: dict[int, int]) -> tuple[bytes, bytes]:
    names = bytearray(b"\0")
    table = bytearray(_SYMBOL_SIZE)
    known = {"": 0}
    for symbol in ordered:
        name = "" if symbol.type == c.STT_SECTION else symbol.name
        if name not in known:
            known[name] = len(names)
            names += name.encode() + b"\0"
        place = numbers[id(symbol.section)] if symbol.section is not None else symbol.place
        table += struct.pack(
            c.SYMBOL, known[name], symbol.bind << 4 | symbol.type, 0, place, symbol.value, symbol.size
        )
    return bytes(names), bytes(table)


def _lay_out(rows: list[_Row]) -> bytes:
    names = bytearray()
    names_at = []
    rows.append(_Row(".shstrtab", c.SHT_STRTAB, 0, b"", 0, 0, 0, 1, 0))
    for row in rows:
        names_at.append(len(names))
        names += row.name.encode() + b"\0"
    rows[-1].data = bytes(names)
    rows[-1].size = len(names)
    out = bytearray(_HEADER_SIZE)
    headers = bytearray()
    for row, name_at in zip(rows, names_at, strict=True):
        if row.type:
            out += bytes(-len(out) % max(row.align, 1))
        headers += struct.pack(
            c.SECTION_HEADER, name_at, row.type, row.flags, 0, len(out) if row.type else 0, row.size,
            row.link, row.info, row.align, row.entry_size,
        )  # fmt: skip
        if row.type != c.SHT_NOBITS:
            out += row.data
    out += bytes(-len(out) % 8)
    struct.pack_into(
        c.HEADER, out, 0, c.MAGIC.ljust(16, b"\0"), c.ET_REL, c.EM_X86_64, 1, 0, 0, len(out), 0,
        _HEADER_SIZE, 0, 0, _SECTION_SIZE, len(rows), len(rows) - 1,
    )  # fmt: skip
    return bytes(out + headers)
