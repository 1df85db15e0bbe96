"""Symbols of a running object from text: what ``readelf --symbols --wide`` prints of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from kmend.elf import constants as c
from kmend.elf.objects import ObjectCode
from kmend.elf.reader import Symbol
from kmend.elf.running import VMLINUX, Block, Place, RunningSymbols, kernel_order
from kmend.kit.errors import InputError

_LARGEST = 128 << 20
"""Bytes of text; a kernel with 200,000 symbols makes 20 MB."""
_LONGEST = 4096
_TITLE = re.compile(r"^Symbol table '(.*)' contains (\d{1,12}) entr(?:y|ies):?$")
_HEADINGS = re.compile(r"^\s*Num:\s+Value\s+Size\s+Type\s+Bind\s+Vis\s+Ndx\s+Name\s*$")
_WORD = r"(\w+|<[^>]+>: \d+)"
_ROW = re.compile(
    r"^\s*(\d{1,10}): ([0-9a-f]{16}) +(\d{1,20}|0x[0-9a-f]{1,16}) +"
    + _WORD
    + " +"
    + _WORD
    + r" +[A-Z]+"  # visibility
    + r"(?: +\[[^\]]*\])? +(UND|ABS|COM|\d{1,10}|[A-Z]{2,3} ?\[0x[0-9a-f]{4}\])(?: +\[[^\]]*\])?(?: (.*))?$"
)
_VERSION = re.compile(r"@@?[\w.]+(?: \(\d+\))?$")
_CUT = "[...]"
_BINDS = {"LOCAL": c.STB_LOCAL, "GLOBAL": c.STB_GLOBAL, "WEAK": c.STB_WEAK, "UNIQUE": 10}
_TYPES = {
    "NOTYPE": c.STT_NOTYPE, "OBJECT": c.STT_OBJECT, "FUNC": c.STT_FUNC, "SECTION": c.STT_SECTION,
    "FILE": c.STT_FILE, "COMMON": 5, "TLS": 6, "IFUNC": 10,
}  # fmt: skip
_PLACES = {"UND": c.SHN_UNDEF, "ABS": c.SHN_ABS, "COM": c.SHN_COMMON}
_HINT = "Make it with `LC_ALL=C readelf --symbols --wide FILE > symbols.txt`."


class _Table(NamedTuple):
    """One table of the text, by the line that its title stands on."""

    name: str
    announced: int
    line: int
    rows: list[tuple[int, str]]


class ListedSymbols(RunningSymbols):
    """The running kernel or a module, of which only the list of symbols is known.

    Args:
        name: ``vmlinux`` or the module's name.
        symbols: In file order, as the file that hosts load has them.
    """

    def __init__(self, name: str, symbols: Sequence[Symbol]) -> None:
        self.name = name
        self._symbols = symbols

    @property
    def symbols(self) -> Sequence[Symbol]:
        """See RunningSymbols."""
        return self._symbols

    def blocks_like(self, part: ObjectCode) -> list[Block]:
        """See RunningSymbols. A module as it is shipped has no FILE symbols: then its unique names are one block.

        The object's own compiled form says that a name is there; if it is unique, it is the one that is meant.
        """
        if self.name == VMLINUX or any(one.type == c.STT_FILE for one in self._symbols):
            return super().blocks_like(part)
        names = [
            one.name for one in self._symbols if one.is_local and one.is_defined and one.type != c.STT_SECTION
        ]
        counts = Counter(names)
        unique = {one.name: one for one in self._symbols if one.is_local and counts[one.name] == 1}
        twice = {name for name, count in counts.items() if count > 1}
        wanted = {one.name for one in part.file_locals() if one.type == c.STT_FUNC}
        return [Block("", unique, twice)] if wanted <= counts.keys() else []

    @cached_property
    def _sections(self) -> Mapping[int, str]:
        """Names of sections as far as they have symbols; readelf before 2.35 does not print them."""
        return {one.section: one.name for one in self._symbols if one.type == c.STT_SECTION and one.name}

    @cached_property
    def _by_name(self) -> Mapping[str, Sequence[Place]]:
        if self.name == VMLINUX:
            return kernel_order(self._symbols)
        found: dict[str, list[Place]] = {}
        gone: set[str] = set()
        for symbol in self._symbols:
            if symbol.name and 0 < symbol.section < c.SHN_LORESERVE:
                found.setdefault(symbol.name, []).append(self.place(symbol))
                if not self._stays(symbol):
                    gone.add(symbol.name)
        # Init code leaves the table once the module has started, and changes the count of what stays.
        return {name: places for name, places in found.items() if len(places) == 1 or name not in gone}

    def _stays(self, symbol: Symbol) -> bool:
        section = self._sections.get(symbol.section, "")
        return bool(section) and not section.startswith((".init", ".debug", ".comment", ".modinfo"))

    def in_kallsyms(self, name: str) -> Sequence[Place]:
        """See RunningSymbols. Empty where the order once the module has started cannot be told."""
        return self._by_name.get(name, ())

    def place(self, symbol: Symbol) -> Place:
        """See RunningSymbols."""
        return (0 if self.name == VMLINUX else symbol.section), symbol.value


def listed(name: str, path: Path) -> ListedSymbols:
    """The running kernel or a module, from a file with the text of ``readelf --symbols --wide``.

    Raises:
        InputError: The file cannot be read, or is not such a text; the error names the line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > _LARGEST:
        raise InputError(f"{path} is larger than {_LARGEST >> 20} MiB, too much.", hint=_HINT)
    return ListedSymbols(name, parse(data.decode("utf-8", "replace"), source=str(path)))


def parse(text: str, *, source: str) -> tuple[Symbol, ...]:
    """The symbols of the one ``.symtab`` in a text, in its order.

    Args:
        text: What readelf printed; other tables (``.dynsym``) and other output are skipped.
        source: Name for errors.

    Raises:
        InputError: No ``.symtab``, more than one, or a line that is cut or unlike readelf's.
    """
    tables = [table for table in _tables(text) if table.name == ".symtab"]
    if len(tables) != 1:
        count = "no" if not tables else f"{len(tables)}"
        raise InputError(
            f"{source} has {count} symbol table .symtab; it must be the text that readelf prints of one file.",
            hint=_HINT,
        )
    table = tables[0]
    symbols = tuple(_symbol(source, number, line) for number, line in table.rows)
    if len(symbols) != table.announced:
        raise InputError(
            f"{source}, line {table.line} announces {table.announced} symbols, but {len(symbols)} follow.",
            hint=_HINT,
        )
    for place, symbol in enumerate(symbols):
        if symbol.number != place:
            raise _wrong(source, table.rows[place][0], f"symbol {symbol.number} stands where {place} was expected")
    return symbols


def _tables(text: str) -> Iterator[_Table]:
    """The tables of a text with their rows and the rows' line numbers; each ends at an empty line."""
    current: _Table | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        row = line.removesuffix("\r")
        title = _TITLE.match(row) if row.startswith("Symbol table '") else None
        if title:
            if current is not None:
                yield current
            current = _Table(title[1], int(title[2]), number, [])
        elif not row.strip():
            if current is not None and current.rows:
                yield current
                current = None
        elif current is not None and not _HEADINGS.match(row):
            current.rows.append((number, row))
    if current is not None:
        yield current


def _symbol(source: str, number: int, line: str) -> Symbol:
    match = _ROW.match(line) if len(line) <= _LONGEST else None
    if match is None:
        raise _wrong(source, number, f"this is no symbol of a 64-bit object: {line[:80]!r}")
    index, value, size, kind, bind, place, name = match.groups(default="")
    if name.endswith(_CUT):
        raise _wrong(source, number, f"the name {name!r} is cut; --wide was not given")
    kind_number, bind_number = _number(kind, _TYPES), _number(bind, _BINDS)
    if kind_number is None or bind_number is None:
        raise _wrong(source, number, f"unknown kind of symbol ({kind} {bind})")
    where = _section(place)
    if where is None:
        raise _wrong(source, number, f"section {place} cannot be")
    if kind_number != c.STT_FILE:
        name = _VERSION.sub("", name.strip())
    return Symbol(
        int(index),
        name,
        int(value, 16),
        int(size, 16 if size.startswith("0x") else 10),
        bind_number,
        kind_number,
        where,
    )


def _number(word: str, known: Mapping[str, int]) -> int | None:
    """A type or binding; those without a name come as ``<OS specific>: 12``."""
    return int(word.rsplit(" ", 1)[1]) if word.startswith("<") else known.get(word)


def _section(place: str) -> int | None:
    if place in _PLACES:
        return _PLACES[place]
    if place.isdigit():
        return int(place) if 0 < int(place) < c.SHN_LORESERVE else None
    return int(place[-5:-1], 16)


def _wrong(source: str, number: int, what: str) -> InputError:
    return InputError(f"{source}, line {number}: {what}.", hint=_HINT)


def exported_names(symbols: Iterable[Symbol], name: str) -> frozenset[str]:
    """Names that a module loader would resolve, as far as an object's own symbols tell.

    vmlinux has a ``__ksymtab_NAME`` for each; what a module (or any object that is not linked) leaves undefined
    must be somebody's export, or it could not have been loaded.
    """
    if name == VMLINUX:
        known = {one.name.removeprefix("__ksymtab_") for one in symbols if one.name.startswith("__ksymtab_")}
        if known:
            return frozenset(known)
    return frozenset(one.name for one in symbols if one.section == c.SHN_UNDEF and one.name)
