"""Sizes of structures, read from a kernel's BTF (Documentation/bpf/btf.rst)."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping

from kmend.elf.reader import ElfFile
from kmend.kit.errors import InputError

_MAGIC = 0xEB9F
_HEADER = "<HBBIIIII"
_TYPE = "<III"
_STRUCT, _UNION = 4, 5
_LAST_KIND = 19  # BTF_KIND_ENUM64
# Bytes that follow a type of each kind: fixed, and for each of its vlen members.
_TRAILERS = {
    1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12), 17: (4, 0),
    19: (0, 12),
}  # fmt: skip


def struct_sizes(elf: ElfFile, names: Collection[str]) -> Mapping[str, int]:
    """Bytes of each named structure that the kernel knows; names that it does not know are left out.

    Raises:
        InputError: There is no BTF, or it is damaged.
    """
    section = elf.section(".BTF")
    data = elf.content(section) if section else b""
    if len(data) < struct.calcsize(_HEADER) or struct.unpack_from("<H", data)[0] != _MAGIC:
        raise InputError(f"{elf.path} has no BTF; kmend reads the sizes of structures from it.")
    _, _, _, header, types_at, types_size, strings_at, strings_size = struct.unpack_from(_HEADER, data)
    strings = data[header + strings_at : header + strings_at + strings_size]
    wanted = {_position(strings, name): name for name in names}
    found: dict[str, int] = {}
    try:
        _walk(data[header + types_at : header + types_at + types_size], wanted, found)
    except struct.error:
        raise InputError(f"{elf.path}: its BTF is damaged.") from None
    return found


def _position(strings: bytes, name: str) -> int:
    """Where a name stands in the string table, -1 when it does not."""
    at = strings.find(b"\0" + name.encode() + b"\0")
    return at + 1 if at >= 0 else -1


def _walk(types: bytes, wanted: Mapping[int, str], found: dict[str, int]) -> None:
    at = 0
    while at < len(types):
        name_at, info, size = struct.unpack_from(_TYPE, types, at)
        kind, members = info >> 24 & 31, info & 0xFFFF
        if not 0 < kind <= _LAST_KIND:
            raise struct.error("unknown kind of type")
        if kind in {_STRUCT, _UNION} and name_at in wanted:
            found.setdefault(wanted[name_at], size)
        fixed, each = _TRAILERS.get(kind, (0, 0))
        at += struct.calcsize(_TYPE) + fixed + each * members
