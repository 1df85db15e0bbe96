"""The installed packages of an rpm database, read from memory: it may be anybody's file.

Rows hold one rpm header each, without its magic: two numbers, an index of 16-byte entries, and the store that they
point into (rpm's docs/manual/format.md, "Header"). The database is SQLite's, Berkeley DB's or rpm's own ndb.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kmend.linux.facts.rpm_older import berkeley, is_berkeley, is_ndb, ndb
from kmend.model.facts import Package

if TYPE_CHECKING:
    import sqlite3

_FOLDERS = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
"""Of most; of Fedora and SUSE; of rpm-ostree."""
PATHS = tuple(f"{folder}/{name}" for name in ("rpmdb.sqlite", "Packages.db", "Packages") for folder in _FOLDERS)
"""The newest kind first: after a change of kind the older file may still be there."""
LIMIT = 128 << 20
"""Bytes of a database."""
_MOST_PACKAGES = 50_000
_LARGEST_HEADER = 16 << 20
_LIMIT_LENGTH = 0
"""SQLITE_LIMIT_LENGTH, of a row or a text."""
_MOST_ENTRIES = 1 << 16
_STEPS, _MOST_STEPS = 10_000, 20_000
"""Of SQLite's machine between two questions whether it may go on, and how often it may."""
_WAL = slice(18, 20)
"""In the file's head; https://www.sqlite.org/fileformat2.html."""
_HEAD, _ENTRY, _NUMBER = struct.Struct(">II"), struct.Struct(">IIII"), struct.Struct(">I")
_NAME, _VERSION, _RELEASE, _EPOCH, _SOURCE = 1000, 1001, 1002, 1003, 1044
_INT32, _STRING, _I18N = 4, 6, 9
_KEYS = "gpg-pubkey"
"""Keys of signers, kept as if they were packages."""


def rpm(content: bytes) -> tuple[Package, ...]:
    """All packages of a database.

    Raises:
        ValueError: It is none, or a part of it cannot be read; with the reason.
    """
    return tuple(_packages(_rows(content)))


def _packages(rows: Iterator[object]) -> Iterator[Package]:
    for number, header in enumerate(rows):
        if number >= _MOST_PACKAGES:
            raise ValueError(f"it has more than {_MOST_PACKAGES} packages")
        found = _package(header)
        if found.name != _KEYS:
            yield found


def _rows(content: bytes) -> Iterator[object]:
    if is_ndb(content):
        return ndb(content)
    if is_berkeley(content):
        return berkeley(content)
    return _sqlite(content)


def _sqlite(content: bytes) -> Iterator[object]:
    import sqlite3  # noqa: PLC0415 - few hosts have such a database, and the agent is to stay small

    if not hasattr(sqlite3.Connection, "deserialize"):
        raise ValueError("this Python cannot read SQLite from memory")
    if content[_WAL] == b"\2\2":  # one of a log that is not here, and that was written back when rpm ended
        content = b"".join((content[: _WAL.start], b"\1\1", content[_WAL.stop :]))
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(content)
        yield from _table(connection)
    except (sqlite3.Error, OverflowError, MemoryError) as error:
        raise ValueError(f"the database is damaged: {error}") from None
    finally:
        connection.close()


def _table(connection: sqlite3.Connection) -> Iterator[object]:
    steps = iter(range(_MOST_STEPS))
    connection.set_progress_handler(lambda: next(steps, None) is None, _STEPS)
    connection.setlimit(_LIMIT_LENGTH, _LARGEST_HEADER)
    connection.execute("PRAGMA trusted_schema=OFF")
    # Neither a view nor a virtual table: those run what the file says.
    query = "SELECT count(*) FROM sqlite_master WHERE name = 'Packages' AND type = 'table' AND rootpage > 0"
    if connection.execute(query).fetchone() != (1,):
        raise ValueError("it has no table of packages")
    for (header,) in connection.execute("SELECT blob FROM Packages"):
        yield header


def _package(header: object) -> Package:
    if not isinstance(header, bytes) or len(header) < _HEAD.size:
        raise ValueError("a row of it is no header")
    entries, size = _HEAD.unpack_from(header)
    store = _HEAD.size + entries * _ENTRY.size
    if entries > _MOST_ENTRIES or store + size > len(header):
        raise ValueError("a header says more than it holds")
    places = {
        tag: (kind, store + offset)
        for tag, kind, offset, _ in _ENTRY.iter_unpack(header[_HEAD.size : store])
        if offset < size
    }
    name, version = _text(header, places, _NAME), _text(header, places, _VERSION)
    if not name or not version:
        raise ValueError("a header names no package")
    full = f"{version}-{_text(header, places, _RELEASE)}".rstrip("-")
    epoch = _epoch(header, places)
    full = sys.intern(f"{epoch}:{full}" if epoch else full)
    # NAME-VERSION-RELEASE.src.rpm
    source = _text(header, places, _SOURCE).rsplit("-", 2)[0]
    return Package(
        name=sys.intern(name), version=full, source=sys.intern(source or name), source_version=full, origin="rpm"
    )


def _text(header: bytes, places: dict[int, tuple[int, int]], tag: int) -> str:
    kind, place = places.get(tag, (0, 0))
    if kind not in {_STRING, _I18N}:
        return ""
    end = header.find(b"\0", place)
    return header[place : end if end >= 0 else len(header)].decode(errors="replace")


def _epoch(header: bytes, places: dict[int, tuple[int, int]]) -> int:
    kind, place = places.get(_EPOCH, (0, 0))
    if kind != _INT32 or place + _NUMBER.size > len(header):
        return 0
    return int(_NUMBER.unpack_from(header, place)[0])
