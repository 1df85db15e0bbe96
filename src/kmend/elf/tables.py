"""The kernel's special sections: tables whose entries belong to places in functions.

Sizes of entries differ between kernels and come from BTF. Sources: arch/x86/include/asm/{alternative,bug,
extable,jump_label,orc_types,paravirt_types}.h, include/linux/static_call_types.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from kmend.elf.objects import ObjectCode, Piece, Reference
from kmend.kit.errors import InputError

REPLACEMENT = ".altinstr_replacement"
ORC_IP = ".orc_unwind_ip"
ORC = ".orc_unwind"

# Section → structure of an entry (its size comes from BTF) or the size itself.
_ENTRIES: dict[str, str | int] = {
    ".altinstructions": "alt_instr",
    "__bug_table": "bug_entry",
    "__ex_table": "exception_table_entry",
    "__jump_table": "jump_entry",
    ".parainstructions": "paravirt_patch_site",
    ".static_call_sites": "static_call_site",
    ".printk_index": 8,
    ".smp_locks": 4,
    ".retpoline_sites": 4,
    ".return_sites": 4,
    ".call_sites": 4,
    ORC_IP: 4,
    "__mcount_loc": 8,
}

STRUCTURES = tuple(sorted({name for name in _ENTRIES.values() if isinstance(name, str)} | {"orc_entry"}))
"""Structures whose sizes are needed; a kernel without one of them has no table of it."""

# Not carried: which functions nobody points to (only a whole module can tell), and where padding begins.
_LEFT_OUT = {".ibt_endbr_seal", "__patchable_function_entries"}
NAMES = frozenset(_ENTRIES) | {ORC, REPLACEMENT} | _LEFT_OUT


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a table.

    ``data`` has zeros where relocations go; ``references`` count from the entry's start. For an alternative,
    ``code`` is its replacement code; for an unwind entry ``data`` of the parallel table.
    """

    table: str
    data: bytes
    references: tuple[Reference, ...]
    code: bytes = b""
    code_references: tuple[Reference, ...] = ()


def entries_by_function(code: ObjectCode, sizes: Mapping[str, int]) -> dict[Piece, list[Entry]]:
    """Every function with its table entries, in the order of the object.

    Args:
        code: The object.
        sizes: Bytes of each structure of STRUCTURES that the kernel has.

    Raises:
        InputError: A table is not a whole number of entries, or an entry points nowhere.
    """
    found: dict[Piece, list[Entry]] = {}
    for name in _ENTRIES:
        for table in code.tables(name):
            for entry in _entries(code, table, sizes):
                owner = entry.references[0].target
                if isinstance(owner, Piece):
                    found.setdefault(owner, []).append(entry)
    _begin_unwinding(code, found)
    return found


def _begin_unwinding(code: ObjectCode, found: dict[Piece, list[Entry]]) -> None:
    """Give every function an unwind entry for its first byte.

    In a section of several functions objtool leaves one out where the neighbour before ends in the same state;
    a function that is taken out of there must bring its own.
    """
    last: dict[int, Entry] = {}
    for piece in code.pieces():
        own = [entry for entry in found.get(piece, ()) if entry.table == ORC_IP]
        before = last.get(piece.section.number)
        if piece.is_function and before is not None and not any(one.references[0].delta <= 0 for one in own):
            start = before.references[0]._replace(target=piece, delta=0)
            first = replace(before, references=(start,))
            found.setdefault(piece, []).insert(_place_of(own, found.get(piece, [])), first)
        if own:
            last[piece.section.number] = own[-1]


def _place_of(own: list[Entry], entries: list[Entry]) -> int:
    return entries.index(own[0]) if own else len(entries)


def _entries(code: ObjectCode, table: Piece, sizes: Mapping[str, int]) -> Iterator[Entry]:
    name = table.name
    if not table.size:
        return
    size = entry_size(name, sizes)
    if table.size % size:
        raise InputError(
            f"{code.elf.path}: {name} has {table.size} bytes, which is not a multiple of {size}.",
            hint="The sizes of entries differ between kernels. `kmend object-diff` takes them with --struct-size.",
        )
    grouped: dict[int, list[Reference]] = {}
    for reference in table.references:
        grouped.setdefault(reference.offset // size, []).append(reference)
    for index in range(table.size // size):
        own = [one._replace(offset=one.offset - index * size) for one in grouped.get(index, ())]
        if not own or own[0].offset != 0:
            raise InputError(f"{code.elf.path}: entry {index} of {name} points to no function.")
        data = table.code[index * size : (index + 1) * size]
        if name == ORC_IP:
            width = sizes["orc_entry"]
            stored = code.tables(ORC)
            if len(stored) != 1 or stored[0].size < (index + 1) * width:
                raise InputError(f"{code.elf.path}: {ORC} and {ORC_IP} do not fit together.")
            yield Entry(name, data, tuple(own), stored[0].code[index * width : (index + 1) * width])
        elif name == ".altinstructions":
            yield _alternative(data, own)
        else:
            yield Entry(name, data, tuple(own))


def _alternative(data: bytes, own: list[Reference]) -> Entry:
    """An alternative with its replacement code; the last byte of the entry is that code's length."""
    length = data[-1]
    store = own[1].target if len(own) > 1 else None
    if not isinstance(store, Piece) or length == 0:
        return Entry(".altinstructions", data, tuple(own))
    start = own[1].delta
    inside = tuple(
        one._replace(offset=one.offset - start) for one in store.references if start <= one.offset < start + length
    )
    return Entry(".altinstructions", data, tuple(own), store.code[start : start + length], inside)


def entry_size(name: str, sizes: Mapping[str, int]) -> int:
    """Bytes of an entry of the named table.

    Raises:
        InputError: The kernel has no such structure.
    """
    entry = _ENTRIES[name]
    if isinstance(entry, int):
        return entry
    if entry not in sizes:
        raise InputError(f"This kernel does not know struct {entry}, which the entries of {name} are made of.")
    return sizes[entry]
