"""All that a database holds, in one file: made while servers run, put back as a whole or not at all.

The file is a tar archive (gzip) of a manifest and the copy: an SQLite database, or what pg_dump wrote. What is put
back is checked first: its hash, its kind, and that this kmend knows its schema.
"""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import tarfile
import zlib
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

import sqlalchemy as sa

from kmend import __version__
from kmend.fleet.store.database import answering, engine_for, open_database
from kmend.fleet.store.schema import check_revision, revision_of
from kmend.fleet.store.tables import METADATA
from kmend.kit.errors import BusyError, InputError, MachineError
from kmend.kit.files import file_problem, scratch, sha256_of, sync_folder
from kmend.kit.run import run
from kmend.model import wire

FORMAT = 1
_MANIFEST, _CONTENT = "manifest.json", "content"
_MANIFEST_LIMIT = 1 << 16
_CHUNK = 1 << 20
_PATIENCE = 30
"""Seconds for SQLite to wait for a writer."""
_TIMEOUT = 6 * 3600
"""Seconds for the programs of PostgreSQL."""
_PRIVATE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup is."""

    format: int
    database: str
    """sqlite or postgresql."""
    revision: str
    """Of the schema."""
    kmend: str
    """The version that made it."""
    made: datetime
    size: int
    """Bytes of the copy."""
    sha256: str


def back_up(url: str, target: Path, *, now: datetime, force: bool = False) -> Manifest:
    """Write a backup of the database at an address; servers may go on meanwhile.

    Args:
        url: The database.
        target: The file; it is there as a whole or not at all, and nobody else may read it.
        now: The time that stands in it.
        force: Replace the file when there is one.

    Raises:
        InputError: The address cannot be used, there is no database, or the file is there.
        MachineError: The database does not answer, or the file cannot be written.
    """
    if target.exists() and not force:
        raise InputError(f"{target} is there already.", hint="Give another name, or --force to replace it.")
    try:
        with scratch(target.parent) as folder:
            copy = folder / _CONTENT
            kind, revision = _copy(url, copy)
            manifest = Manifest(
                format=FORMAT,
                database=kind,
                revision=revision,
                kmend=__version__,
                made=now,
                size=copy.stat().st_size,
                sha256=sha256_of(copy),
            )
            _pack(manifest, copy, folder / "backup")
            (folder / "backup").replace(target)
            sync_folder(target.parent)
    except OSError as error:
        raise file_problem(error) from None
    return manifest


def put_back(url: str, file: Path, *, force: bool = False) -> Manifest:
    """Make a database what a backup says, in one transaction: killed at any moment, it is the old or the new one.

    Args:
        url: The database.
        file: The backup.
        force: Also when the database holds something, which is lost then.

    Raises:
        InputError: The file is no good backup, of a newer kmend, or of the other kind of database.
        BusyError: The database holds something.
        MachineError: The database does not answer, or its disk is full.
    """
    engine = engine_for(url)
    kind = engine.dialect.name
    try:
        with scratch(_near(engine.url)) as folder:
            manifest = _unpack(file, folder / _CONTENT)
            if manifest.database != kind:
                raise InputError(
                    f"{file} is of a {manifest.database} database, and this one is {kind}.",
                    hint=f"Give --database with the address of a {manifest.database} database.",
                )
            with answering():
                _check_empty(engine, force=force)
            if kind == "sqlite":
                _restore_sqlite(folder / _CONTENT, Path(engine.url.database or ""))
            else:
                _restore_postgresql(engine.url, folder)
    except OSError as error:
        raise file_problem(error) from None
    finally:
        engine.dispose()
    open_database(url).close()  # a server that runs needs the schema that it knows
    return manifest


def _near(url: sa.URL) -> Path:
    """A folder with space for a database: where it lies, or where things lie for a while."""
    path = Path(url.database or "").parent if url.get_backend_name() == "sqlite" else Path(_temporary())
    path.mkdir(parents=True, exist_ok=True)
    return path


def _temporary() -> str:
    return os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108 - only as the parent of a folder of our own


def _copy(url: str, copy: Path) -> tuple[str, str]:
    """Copy a database as it is at one moment; its kind and its schema.

    Raises:
        InputError: There is none.
    """
    engine = engine_for(url)
    kind = engine.dialect.name
    try:
        if kind == "sqlite":
            revision = _copy_sqlite(Path(engine.url.database or ""), copy)
        else:
            with answering(), engine.connect() as connection:
                revision = _dump_postgresql(connection, engine.url, copy)
    finally:
        engine.dispose()
    if revision is None:
        raise InputError("The database holds nothing of kmend's.", hint="Is --database or --state right?")
    check_revision(revision, what="The database")
    return kind, revision


def _copy_sqlite(path: Path, copy: Path) -> str | None:
    """Copy with SQLite's online backup: one state of the database, and writers are not held up."""
    if not path.is_file():
        raise InputError(f"There is no database {path}.", hint="Is --database or --state right?")
    try:
        with _sqlite(path) as source, _sqlite(copy) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # the copy is one file
            there = target.execute("SELECT 1 FROM sqlite_master WHERE name='alembic_version'").fetchone()
            row = target.execute("SELECT version_num FROM alembic_version").fetchone() if there else None
    except sqlite3.Error as error:
        raise MachineError(f"{path} cannot be copied: {error}.", hint="Is its disk full?") from None
    return str(row[0]) if row else None


def _sqlite(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None))


def _dump_postgresql(connection: sa.Connection, url: sa.URL, copy: Path) -> str | None:
    """Have pg_dump copy the same state of the database that this connection sees."""
    connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    snapshot = str(connection.execute(sa.text("SELECT pg_export_snapshot()")).scalar_one())
    revision = revision_of(connection)
    if revision is not None:
        words = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
        _program("pg_dump", url, *words, f"--file={copy}")
    return revision


def _pack(manifest: Manifest, copy: Path, target: Path) -> None:
    """Write both into one file, to the disk."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as archive:
            told = wire.dump(manifest).encode()
            _add(archive, _MANIFEST, io.BytesIO(told), size=len(told))
            with copy.open("rb") as content:
                _add(archive, _CONTENT, content, size=manifest.size)
        file.flush()
        os.fsync(file.fileno())


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes], *, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, _PRIVATE
    archive.addfile(member, content)


def _unpack(file: Path, copy: Path) -> Manifest:
    """The manifest of a backup, and its copy in a file, once both are found to be good.

    Raises:
        InputError: They are not, or this kmend is too old for them.
    """
    try:
        with tarfile.open(file, mode="r|gz") as archive:
            manifest = wire.load(Manifest, _member(archive, _MANIFEST).read(_MANIFEST_LIMIT), what=f"{file}")
            if manifest.format != FORMAT:
                raise InputError(
                    f"{file} is a backup in format {manifest.format}; kmend {__version__} knows {FORMAT}."
                )
            check_revision(manifest.revision, what=f"The backup {file}")
            size, digest = _extract(_member(archive, _CONTENT), copy, most=manifest.size)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise InputError(f"{file} is no whole backup: {error}.") from None
    if (size, digest) != (manifest.size, manifest.sha256):
        raise InputError(f"{file} is damaged: its content is not what its manifest says.")
    return manifest


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    member = archive.next()
    content = archive.extractfile(member) if member and member.name == name and member.isfile() else None
    if content is None:
        raise tarfile.ReadError(f"it has no {name}")
    return content


def _extract(content: IO[bytes], copy: Path, *, most: int) -> tuple[int, str]:
    """Write out what an archive has; its size and hash. What goes on for ever ends soon after its said size."""
    size, digest = 0, hashlib.sha256()
    with copy.open("wb") as file:
        while size <= most and (part := content.read(_CHUNK)):
            file.write(part)
            digest.update(part)
            size += len(part)
    return size, digest.hexdigest()


def _check_empty(engine: sa.Engine, *, force: bool) -> None:
    with engine.connect() as connection:
        tables = sa.inspect(connection).get_table_names()
    if tables and not force:
        raise BusyError(
            "The database is not empty.", hint="--force puts the backup in the place of all that it holds."
        )


def _restore_sqlite(copy: Path, path: Path) -> None:
    """Write a copy over a database in one transaction of SQLite's."""
    try:
        with _sqlite(copy) as source, _sqlite(path) as target:
            if source.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                raise InputError("The copy in the backup is damaged.")
            for setting in ("journal_mode=WAL", "synchronous=FULL"):
                target.execute(f"PRAGMA {setting}")
            source.backup(target)
    except sqlite3.Error as error:
        raise MachineError(f"{path} cannot be written: {error}. It is as it was.") from None


def _restore_postgresql(url: sa.URL, folder: Path) -> None:
    """Drop what is there and make what the copy has, in one transaction."""
    names = ", ".join([*METADATA.tables, "alembic_version"])
    drop = f"DROP TABLE IF EXISTS {names} CASCADE;\nDROP FUNCTION IF EXISTS audit_only_grows CASCADE;\n"
    (folder / "drop.sql").write_text(drop)
    words = ("--no-owner", "--no-privileges", f"--file={folder}/make.sql", f"{folder}/{_CONTENT}")
    run(["pg_restore", *words], timeout=_TIMEOUT)
    steps = (f"--file={folder}/{name}.sql" for name in ("drop", "make"))
    quiet = ("--no-psqlrc", "--quiet", "--output=/dev/null")
    _program("psql", url, *quiet, "--single-transaction", "--set=ON_ERROR_STOP=1", *steps)


def _program(name: str, url: sa.URL, *words: str) -> None:
    """Run a program of PostgreSQL's; the password goes where no other user sees it."""
    address = url.set(drivername="postgresql")._replace(password=None).render_as_string()
    secret = {"PGPASSWORD": url.password} if url.password else {}
    run([name, f"--dbname={address}", *words], env={**secret, "PGCONNECT_TIMEOUT": "10"}, timeout=_TIMEOUT)
