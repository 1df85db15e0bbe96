"""Reads ELF files of x86-64 kernels: sections, symbols, relocations; on struct and mmap."""

from __future__ import annotations

import lzma
import mmap
import struct
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from kmend.elf import constants as c
from kmend.kit.errors import InputError

_LONGEST_NAME = 1024
"""Bytes; the kernel's own limit is 512 (KSYM_NAME_LEN)."""
_LARGEST_EMPTY = 1 << 30
"""Bytes of a section that takes no space in the file."""


class Section(NamedTuple):
    """One section header; ``number`` is its place in the file."""

    number: int
    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int

    @property
    def is_text(self) -> bool:
        """Holds instructions."""
        return bool(self.flags & c.SHF_EXECINSTR)

    @property
    def is_strings(self) -> bool:
        """Holds NUL-terminated strings that the linker may merge."""
        both = c.SHF_MERGE | c.SHF_STRINGS
        return self.flags & both == both


class Symbol(NamedTuple):
    """One symbol; ``section`` is a section index or one of the SHN_ values."""

    number: int
    name: str
    value: int
    size: int
    bind: int
    type: int
    section: int

    @property
    def is_defined(self) -> bool:
        """Has a place in this file."""
        return self.section != c.SHN_UNDEF

    @property
    def is_local(self) -> bool:
        """Visible in its own object only."""
        return self.bind == c.STB_LOCAL


class Relocation(NamedTuple):
    """One RELA entry; ``symbol`` is an index into the symbol table."""

    offset: int
    type: int
    symbol: int
    addend: int


class ElfFile:
    """An ELF file, mapped into memory and read on demand.

    Raises:
        InputError: The file is not an ELF file for x86-64, or a table lies outside of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = _mapped(path)
        self.type, self.sections = _headers(path, self._bytes)
        self._by_name: dict[str, Section] = {}
        for section in self.sections:
            self._by_name.setdefault(section.name, section)

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return self._by_name.get(name)

    def content(self, section: Section) -> bytes:
        """A section's bytes; zeros for one that takes no space in the file."""
        if section.type == c.SHT_NOBITS:
            return bytes(section.size)
        return self._bytes[section.offset : section.offset + section.size]

    def read(self, section: Section, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` within a section, fewer at its end."""
        size = max(0, min(size, section.size - offset))
        if section.type == c.SHT_NOBITS:
            return bytes(size)
        return self._bytes[section.offset + offset : section.offset + offset + size]

    @cached_property
    def symbols(self) -> list[Symbol]:
        """All symbols in file order; index 0 is the null symbol. A section symbol has its section's name."""
        table = next((section for section in self.sections if section.type == c.SHT_SYMTAB), None)
        if table is None:
            return []
        names = self.content(self._linked(table))
        entries = self.content(table)
        wide = self._wide_indexes(table)
        return [
            self._symbol(index, names, entry, wide)
            for index, entry in enumerate(struct.iter_unpack(c.SYMBOL, _whole(entries, c.SYMBOL)))
        ]

    def _symbol(
        self, index: int, names: bytes, entry: tuple[int, int, int, int, int, int], wide: tuple[int, ...]
    ) -> Symbol:
        name_at, info, _, place, value, size = entry
        if place == c.SHN_XINDEX:
            if index >= len(wide):
                raise _broken(self.path, f"symbol {index} has no extended section index")
            place = wide[index]
            # A section whose number means something else in other symbols could not be told from those.
            if place >= len(self.sections) or c.SHN_LORESERVE <= place <= c.SHN_XINDEX:
                raise _broken(self.path, f"symbol {index} names section {place} of {len(self.sections)}")
        elif c.SHN_LORESERVE > place >= len(self.sections):
            raise _broken(self.path, f"symbol {index} names section {place} of {len(self.sections)}")
        if info & 15 == c.STT_SECTION and place < len(self.sections):
            return Symbol(index, self.sections[place].name, value, size, info >> 4, info & 15, place)
        name = _name(self.path, names, name_at)
        return Symbol(index, name, value, size, info >> 4, info & 15, place)

    def _wide_indexes(self, table: Section) -> tuple[int, ...]:
        for section in self.sections:
            if section.type == c.SHT_SYMTAB_SHNDX and section.link == table.number:
                return tuple(value for (value,) in struct.iter_unpack("<I", _whole(self.content(section), "<I")))
        return ()

    def _linked(self, section: Section) -> Section:
        if not 0 < section.link < len(self.sections):
            raise _broken(self.path, f"section {section.name} links to section {section.link}")
        return self.sections[section.link]

    @cached_property
    def _relocation_sections(self) -> dict[int, list[Section]]:
        found: dict[int, list[Section]] = {}
        for section in self.sections:
            if section.type == c.SHT_RELA:
                found.setdefault(section.info, []).append(section)
        return found

    def relocations(self, section: Section) -> list[Relocation]:
        """The relocations that apply to a section, by offset."""
        found = [
            Relocation(offset, info & 0xFFFFFFFF, info >> 32, addend)
            for rela in self._relocation_sections.get(section.number, ())
            for offset, info, addend in struct.iter_unpack(c.RELA, _whole(self.content(rela), c.RELA))
        ]
        count = len(self.symbols)
        for relocation in found:
            if relocation.symbol >= count:
                raise _broken(self.path, f"a relocation of {section.name} names symbol {relocation.symbol}")
        return sorted(found)


def _mapped(path: Path) -> mmap.mmap | bytes:
    try:
        with path.open("rb") as file:
            if path.suffix == ".xz":
                return lzma.decompress(file.read())
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except lzma.LZMAError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    except ValueError:
        raise InputError(f"{path} is empty, not an ELF file.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


def _headers(path: Path, data: mmap.mmap | bytes) -> tuple[int, list[Section]]:
    if len(data) < struct.calcsize(c.HEADER) or data[: len(c.MAGIC)] != c.MAGIC:
        raise InputError(f"{path} is not a 64-bit little-endian ELF file.")
    fields = struct.unpack_from(c.HEADER, data)
    kind, machine, table, entry_size, count, names_at = fields[1], fields[2], fields[6], *fields[11:14]
    if machine != c.EM_X86_64:
        raise InputError(f"{path} is an ELF file for machine {machine}, not for x86-64.")
    size = struct.calcsize(c.SECTION_HEADER)
    if entry_size != size or table + size > len(data):
        raise _broken(path, "its section table lies outside of the file")
    first = struct.unpack_from(c.SECTION_HEADER, data, table)
    count = count or first[5]  # more than 65,279 sections: the real numbers stand in section 0
    names_at = first[6] if names_at == c.SHN_XINDEX else names_at
    if table + count * size > len(data) or names_at >= count:
        raise _broken(path, f"its table of {count} sections lies outside of the file")
    return kind, _sections(path, data, data[table : table + count * size], names_at)


def _sections(path: Path, data: mmap.mmap | bytes, table: bytes, names_at: int) -> list[Section]:
    headers = list(struct.iter_unpack(c.SECTION_HEADER, table))
    for header in headers:
        if header[1] not in {0, c.SHT_NOBITS} and header[4] + header[5] > len(data):
            raise _broken(path, "a section lies outside of the file")
        if header[1] == c.SHT_NOBITS and header[5] > _LARGEST_EMPTY:
            raise _broken(path, f"a section claims {header[5]} bytes of zeros")
    names = data[headers[names_at][4] : headers[names_at][4] + headers[names_at][5]]
    sections = []
    for index, (name_at, *rest) in enumerate(headers):
        sections.append(Section(index, _name(path, names, name_at), *rest))
    return sections


def _name(path: Path, names: bytes, at: int) -> str:
    """The name at a place in a string table; empty outside of it, as in files without names."""
    end = names.find(b"\0", at, at + _LONGEST_NAME)
    if end < 0 and at < len(names):
        raise _broken(path, f"a name has no end within {_LONGEST_NAME} bytes")
    return names[at:end].decode("utf-8", "replace") if end >= 0 else ""


def _whole(table: bytes, entry: str) -> bytes:
    """The table without a last entry that is cut."""
    return table[: len(table) - len(table) % struct.calcsize(entry)]


def _broken(path: Path, what: str) -> InputError:
    return InputError(f"{path} is damaged: {what}.", hint="Fetch or build the file again.")
