"""What a binary says about itself, by reading its bytes: Go's build information.

Source: Go's debug/buildinfo: the section .go.buildinfo begins with a magic text, a pointer size and flags; since
Go 1.18 the two texts follow inline, each after its length as a varint: the toolchain's version, and the module's
information between two 16-byte marks.
"""

from __future__ import annotations

import os
import re
import struct
from typing import NamedTuple

_MAGIC = b"\xff Go buildinf:"
_INLINE = 2
_TEXTS = 32
_MARK = 16
_MOST = 256 << 10
_SEARCH = 64 << 10
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_MOST_SECTIONS = 200
_MODULE = re.compile(r"^mod\t\S+\t(\S+)", re.MULTILINE)
_LINKED = re.compile(r"-X[= ]['\"]?[\w./-]*[vV]ersion(?:\.Version)?=v?(\d[\w.+~-]*)")
_WRITABLE, _PROGBITS = 1, 1


class BuildInfo(NamedTuple):
    """What a Go binary holds; empty for others."""

    version: str = ""
    """Of its main module, without a ``v``, or what the linker was told; empty when it is ``(devel)``."""
    toolchain: str = ""
    """``go1.19.8``"""


def build_info(file: int) -> BuildInfo:
    """The build information in an open binary; empty when it is no 64-bit little-endian ELF file, or has none.

    Raises:
        OSError: It cannot be read.
    """
    for offset, size in _sections(file):
        data = os.pread(file, min(size, _SEARCH), offset)
        place = data.find(_MAGIC)
        if place >= 0:
            return _parsed(os.pread(file, _MOST, offset + place))
    return BuildInfo()


def _sections(file: int) -> list[tuple[int, int]]:
    """Offset and size of .go.buildinfo, else of the sections that may hold it."""
    header = os.pread(file, _HEADER.size, 0)
    if len(header) < _HEADER.size or header[:6] != b"\x7fELF\x02\x01":
        return []
    fields = _HEADER.unpack(header)
    table, entry, count, names_at = fields[6], fields[11], min(fields[12], _MOST_SECTIONS), fields[13]
    if entry != _SECTION.size:
        return []
    raw = _pread(file, entry * count, table)
    sections = [_SECTION.unpack_from(raw, place) for place in range(0, len(raw) - entry + 1, entry)]
    names = (
        _pread(file, min(sections[names_at][5], _SEARCH), sections[names_at][4])
        if names_at < len(sections)
        else b""
    )
    named = [(one[4], one[5]) for one in sections if _name(names, one[0]) == b".go.buildinfo"]
    return named or [(one[4], one[5]) for one in sections if one[1] == _PROGBITS and one[2] & _WRITABLE]


def _pread(file: int, size: int, offset: int) -> bytes:
    """Bytes; none at an offset that no file has."""
    return os.pread(file, size, offset) if 0 <= offset < 1 << 62 else b""


def _name(names: bytes, place: int) -> bytes:
    return names[place : names.find(b"\0", place)] if place < len(names) else b""


def _parsed(data: bytes) -> BuildInfo:
    if len(data) < _TEXTS or not data[len(_MAGIC) + 1] & _INLINE:
        return BuildInfo()
    toolchain, place = _text(data, _TEXTS)
    module, _ = _text(data, place)
    text = module[_MARK:-_MARK].decode(errors="replace")
    found = _MODULE.search(text)
    version = found[1].removeprefix("v") if found and found[1] != "(devel)" else ""
    linked = _LINKED.search(text)
    return BuildInfo(
        version=linked[1] if linked else version, toolchain=toolchain.decode(errors="replace").split(" ")[0][:40]
    )


def _text(data: bytes, place: int) -> tuple[bytes, int]:
    """A text after its length as a varint, and where it ends."""
    size = shift = 0
    while place < len(data) and shift < 35:  # noqa: PLR2004
        size |= (data[place] & 0x7F) << shift
        shift += 7
        place += 1
        if data[place - 1] < 0x80:  # noqa: PLR2004
            break
    return data[place : place + size], place + size
