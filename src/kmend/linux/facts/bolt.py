"""Reading a bolt database, as containerd keeps its metadata in, while its owner may be writing.

Source: the file format of bbolt: pages of a B+ tree, two meta pages of which the one with the higher transaction
holds. A transaction never writes to a page of the one before it, so a copy is whole when no transaction ended
while it was made.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from kmend.kit.errors import InputError
from kmend.linux.facts.look import Look

_MAGIC, _VERSION = 0xED0CDAED, 2
_PAGE = struct.Struct("<QHHI")  # id, flags, count, overflow
_META = struct.Struct("<IIIIQQQQQQ")  # magic, version, page size, flags, root, sequence, free list, pages, tx, sum
_LEAF = struct.Struct("<IIII")  # flags, position, size of key, size of value
_BRANCH = struct.Struct("<IIQ")  # position, size of key, page
_BUCKET = struct.Struct("<QQ")  # root page, sequence
_IS_BRANCH, _IS_LEAF, _IS_BUCKET = 1, 2, 1
_SIZES = range(9, 17)
_LARGEST = 256 << 20
_DEPTH = 40
_MOST_PAGES = 200_000
_TRIES = 5
_SUM, _PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


class BoltError(InputError):
    """It is no bolt database, it is damaged, or it changes all the time; the text says which."""


@dataclass(slots=True)
class Bucket:
    """Keys with values or further buckets, in their order."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    _places: dict[bytes, bytes] = field(default_factory=dict)
    _file: _File | None = None

    def names(self) -> Iterator[bytes]:
        """The keys of the buckets in it."""
        yield from self._places

    def bucket(self, *path: bytes) -> Bucket:
        """The bucket at a path; an empty one when there is none.

        Raises:
            BoltError: The file is damaged.
        """
        here = self
        for name in path:
            place = here._places.get(name)
            if place is None or here._file is None:
                return Bucket()
            here = here._file.bucket(place)
        return here

    def text(self, name: bytes) -> str:
        """A value as text; empty when there is none."""
        return self.values.get(name, b"").decode(errors="replace")


@dataclass(slots=True)
class _File:
    content: bytes
    page_size: int
    visited: int = 0

    def bucket(self, place: bytes) -> Bucket:
        """What a bucket's value describes: the number of a page, or 0 and a page in the value itself."""
        if len(place) < _BUCKET.size:
            raise BoltError("it is damaged: a bucket is cut off")
        root, _ = _BUCKET.unpack_from(place)
        found = Bucket(_file=self)
        self._read(place[_BUCKET.size :] if root == 0 else self._page(root), found, _DEPTH)
        return found

    def _page(self, number: int) -> bytes:
        begin = number * self.page_size
        self.visited += 1
        if self.visited > _MOST_PAGES or begin + _PAGE.size > len(self.content):
            raise BoltError("it is damaged: a page is not there, or too many are asked for")
        overflow = _PAGE.unpack_from(self.content, begin)[3]
        return self.content[begin : begin + (1 + overflow) * self.page_size]

    def _read(self, page: bytes, into: Bucket, depth: int) -> None:
        if len(page) < _PAGE.size or not depth:
            raise BoltError("it is damaged: a page is cut off, or the tree has no end")
        _, flags, count, _ = _PAGE.unpack_from(page)
        try:
            if flags & _IS_LEAF:
                self._leaf(page, count, into)
            elif flags & _IS_BRANCH:
                for number in range(count):
                    child = _BRANCH.unpack_from(page, _PAGE.size + number * _BRANCH.size)[2]
                    self._read(self._page(child), into, depth - 1)
            else:
                raise BoltError("it is damaged: a page is of no kind that belongs there")
        except struct.error:
            raise BoltError("it is damaged: a page holds less than it says") from None

    @staticmethod
    def _leaf(page: bytes, count: int, into: Bucket) -> None:
        for number in range(count):
            place = _PAGE.size + number * _LEAF.size
            flags, position, key_size, size = _LEAF.unpack_from(page, place)
            begin = place + position
            key, value = page[begin : begin + key_size], page[begin + key_size : begin + key_size + size]
            if flags & _IS_BUCKET:
                into._places[key] = value  # noqa: SLF001
            else:
                into.values[key] = value


def read(look: Look, path: str) -> Bucket | None:
    """The top of a database; None when there is none.

    Raises:
        BoltError: It cannot be read.
    """
    try:
        with look.plain(path) as file:
            return _open(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BoltError(error.strerror or str(error)) from None


def _open(file: int) -> Bucket:
    for _ in range(_TRIES):
        size = os.fstat(file).st_size
        if size > _LARGEST:
            raise BoltError(f"it holds {size} bytes")
        before = _newest(_content(file, 1 << 17))
        content = _content(file, size)
        if _newest(content[: 1 << 17]) == before == _newest(_content(file, 1 << 17)):
            page_size, root, _ = before
            return _File(content, page_size).bucket(_BUCKET.pack(root, 0))
    raise BoltError("it changes all the time")


def _content(file: int, size: int) -> bytes:
    found = bytearray()
    while len(found) < size and (piece := os.pread(file, min(size - len(found), 1 << 22), len(found))):
        found += piece
    return bytes(found)


def _newest(content: bytes) -> tuple[int, int, int]:
    """Page size, root page and number of the last transaction that ended."""
    sizes = [1 << shift for shift in _SIZES]
    metas = [found for size in sizes for place in (0, size) if (found := _meta(content, place, size))]
    if not metas:
        raise BoltError("it is no bolt database")
    return max(metas, key=lambda meta: meta[2])


def _meta(content: bytes, place: int, page_size: int) -> tuple[int, int, int] | None:
    begin = place + _PAGE.size
    if begin + _META.size > len(content):
        return None
    magic, version, size, _, root, _, _, _, transaction, checksum = _META.unpack_from(content, begin)
    if (magic, version, size) != (_MAGIC, _VERSION, page_size):
        return None
    return (size, root, transaction) if fnv(content[begin : begin + _META.size - 8]) == checksum else None


def fnv(content: bytes) -> int:
    """The 64-bit FNV-1a hash."""
    found = _SUM
    for byte in content:
        found = (found ^ byte) * _PRIME & _MASK
    return found
