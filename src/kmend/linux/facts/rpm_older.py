"""The rows of the two databases that rpm had before SQLite's, read from memory: they may be anybody's files.

A row is one rpm header. Whatever a file says, no more is read of it than it is long: several rows that point to
the same bytes are a lie.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_BERKELEY_MAGIC, _MAGIC_AT = 0x061561, 12
_META = "IIBBB"
"""Version, page size, what encrypts it, type and flags; Berkeley DB 5.3, dbinc/db_page.h, DBMETA."""
_META_AT, _LAST_AT = 16, 32
_PAGE = "8sIIIHHBB"
"""Log number, own, previous and next number, entries, used, level, type; PAGE."""
_PAGE_SIZES = {512 << shift for shift in range(8)}
_UNSORTED, _OVERFLOW, _HASH_META, _SORTED = 2, 7, 8, 13
_HERE, _ELSEWHERE = 1, 3
"""Where an item's bytes are: H_KEYDATA, H_OFFPAGE."""
_COUNTER = b"\1\0\0\0\0"
"""The key whose value is no header, but the highest number that rpm gave."""

_NDB = struct.Struct("<4sIII")
"""Magic, version, generation, pages of slots; rpm's lib/backend/ndb/rpmpkg.c."""
_SLOT = struct.Struct("<4sIII")
"""Magic, number of the package, first block, blocks."""
_HEAD, _TAIL = struct.Struct("<4sIII"), struct.Struct("<II4s")
"""Magic, number, generation, length; Adler-32, length, magic."""
_BLOCK, _SLOT_PAGE, _FIRST_SLOT = 16, 4096, 32


def is_berkeley(content: bytes) -> bool:
    """Whether it is Berkeley DB's hash, which rpm wrote up to 4.15 (Red Hat's up to 8): ``Packages``."""
    return bool(_byte_order(content))


def is_ndb(content: bytes) -> bool:
    """Whether it is rpm's own ndb, which SUSE uses: ``Packages.db``."""
    return content.startswith(b"RpmP")


def berkeley(content: bytes) -> Iterator[bytes]:
    """The rows of Berkeley DB's hash, in the order of its pages.

    Raises:
        ValueError: A part of it cannot be read; with the reason.
    """
    try:
        yield from _Hash(content, _byte_order(content)).rows()
    except struct.error:
        raise ValueError("the database is cut off") from None


def ndb(content: bytes) -> Iterator[bytes]:
    """The rows of an ndb database, in the order of its slots.

    Raises:
        ValueError: A part of it cannot be read; with the reason.
    """
    try:
        yield from _ndb_rows(content)
    except struct.error:
        raise ValueError("the database is cut off") from None


def _byte_order(content: bytes) -> str:
    """That of the machine which wrote the hash, as struct has it; empty when it is none."""
    magic = content[_MAGIC_AT : _MAGIC_AT + 4]
    return next((one for one in "<>" if magic == struct.pack(f"{one}I", _BERKELEY_MAGIC)), "")


class _Hash:
    """A hash of Berkeley DB: pages of items, keys and values in turn, and chains of pages for what is long."""

    def __init__(self, content: bytes, order: str) -> None:
        self._content, self._order = content, order
        self._page = struct.Struct(order + _PAGE)
        _, self._size, encrypted, kind, flags = struct.unpack_from(order + _META, content, _META_AT)
        if kind != _HASH_META or self._size not in _PAGE_SIZES or encrypted or flags:
            raise ValueError("it is no database as rpm makes them")
        self._last = self._number(_LAST_AT)
        if (self._last + 1) * self._size > len(content):
            raise ValueError("the database is cut off")
        self._left = len(content)

    def rows(self) -> Iterator[bytes]:
        for number in range(1, self._last + 1):
            at = number * self._size
            entries, kind = self._head(at)[4], self._head(at)[7]
            if kind not in {_UNSORTED, _SORTED}:
                continue
            offsets = struct.unpack_from(f"{self._order}{entries}H", self._content, at + self._page.size)
            items = self._page.size + 2 * entries
            ends = (self._size, *offsets)
            if entries % 2 or any(not items <= start < end for start, end in zip(offsets, ends, strict=False)):
                raise ValueError("the database is damaged: a page's items do not fit")
            for key in range(0, entries, 2):
                if self._content[at + offsets[key] : at + ends[key]] != _COUNTER:
                    yield self._value(at + offsets[key + 1], at + ends[key + 1])

    def _value(self, start: int, end: int) -> bytes:
        if self._content[start] == _HERE:
            return self._content[start + 1 : end]
        if self._content[start] != _ELSEWHERE:
            raise ValueError("the database is damaged: a value is of no kind that rpm writes")
        return self._chain(self._number(start + 4), self._number(start + 8))

    def _chain(self, page: int, length: int) -> bytes:
        """What lies on pages of its own, each of which names the next."""
        self._left -= length
        if self._left < 0:
            raise ValueError("the database is damaged: its rows are longer than it is")
        found = bytearray()
        while page and len(found) < length:
            if page > self._last:
                raise ValueError("the database is damaged: a row lies outside")
            at = page * self._size
            _, _, _, page, _, used, _, kind = self._head(at)
            if kind != _OVERFLOW or not 0 < used <= self._size - self._page.size:
                raise ValueError("the database is damaged: a row is interrupted")
            found += self._content[at + self._page.size : at + self._page.size + used]
        if len(found) != length:
            raise ValueError("the database is damaged: a row is not as long as it says")
        return bytes(found)

    def _head(self, at: int) -> tuple[bytes, int, int, int, int, int, int, int]:
        return self._page.unpack_from(self._content, at)

    def _number(self, at: int) -> int:
        number: int = struct.unpack_from(f"{self._order}I", self._content, at)[0]
        return number


def _ndb_rows(content: bytes) -> Iterator[bytes]:
    _, version, _, pages = _NDB.unpack_from(content)
    if version:
        raise ValueError(f"it is of version {version}, which is not known")
    first = pages * _SLOT_PAGE
    if not pages or first > len(content):
        raise ValueError("the database is cut off")
    left = len(content)
    for at in range(_FIRST_SLOT, first, _SLOT.size):
        magic, number, block, blocks = _SLOT.unpack_from(content, at)
        if magic != b"Slot":
            raise ValueError("the database is damaged: a slot is none")
        if not block:
            continue
        left -= blocks * _BLOCK
        if left < 0:
            raise ValueError("the database is damaged: its rows are longer than it is")
        start, end = block * _BLOCK, (block + blocks) * _BLOCK
        if start < first:
            raise ValueError("the database is damaged: a row lies outside")
        yield _blob(content[start:end], number, blocks)


def _blob(blob: bytes, number: int, blocks: int) -> bytes:
    """What lies between a row's head and its tail."""
    if len(blob) < max(blocks * _BLOCK, _HEAD.size + _TAIL.size):
        raise ValueError("the database is cut off")
    magic, named, _, length = _HEAD.unpack_from(blob)
    total, again, end = _TAIL.unpack(blob[-_TAIL.size :])
    good = magic == b"BlbS" and end == b"BlbE" and named == number and length == again
    if not good or length > len(blob) - _HEAD.size - _TAIL.size or zlib.adler32(blob[: -_TAIL.size]) != total:
        raise ValueError("the database is damaged: a row is not as it was written")
    return blob[_HEAD.size : _HEAD.size + length]
