"""One database, SQLite or PostgreSQL: transactions that are on the disk when they end, and migrations."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)

from kmend.fleet.store.schema import migrate
from kmend.kit.errors import BusyError, InputError, MachineError

_log = logging.getLogger(__name__)
_PATIENCE = 10
"""Seconds to wait for another writer, or for a connection."""
_DISK_FULL = "53100"
"""SQLSTATE disk_full; PostgreSQL manual, appendix A."""
_HINT = "Give sqlite:///FILE or postgresql://USER@HOST/NAME."


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A pool of connections; any number of processes may have one for the same database."""

    engine: sa.Engine
    turn: threading.Lock | None = None
    """Of this process's writers, for SQLite: waiting here is fair and cheap, waiting in SQLite is neither."""

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that sees one state of the database.

        Raises:
            MachineError: The database does not answer.
        """
        with answering(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction: when the block ends everything is on the disk, when it raises nothing is.

        Raises:
            MachineError: The database does not answer, or its disk is full. Nothing was written.
            BusyError: Somebody else added the same thing at the same moment. Nothing was written.
        """
        writer = self.engine.execution_options(kmend_writes=True)
        with answering(), self.turn or nullcontext(), writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_database(url: str, *, connections: int = 8) -> Database:
    """The database at an address, brought to the newest schema.

    Raises:
        InputError: The address cannot be used, or the database is of a newer kmend.
        MachineError: The database does not answer.
    """
    engine = engine_for(url, connections=connections)
    database = Database(engine=engine, turn=threading.Lock() if engine.dialect.name == "sqlite" else None)
    with answering():
        migrate(engine)
    return database


def engine_for(url: str, *, connections: int = 1) -> sa.Engine:
    """Connections to the database at an address, which has not been looked at.

    Raises:
        InputError: The address cannot be used.
    """
    try:
        address = sa.make_url(url)
        if address.drivername == "postgresql":
            address = address.set(drivername="postgresql+psycopg")
        if address.get_backend_name() == "sqlite":
            return _sqlite(address, connections)
        if address.get_backend_name() != "postgresql":
            raise InputError(f"kmend keeps nothing in {address.get_backend_name()}.", hint=_HINT)
        return sa.create_engine(
            address,
            pool_size=connections,
            max_overflow=connections,
            pool_timeout=_PATIENCE,
            pool_pre_ping=True,
            connect_args={"connect_timeout": _PATIENCE},
        )
    except (ArgumentError, NoSuchModuleError):
        # The address may hold a password, so it is not repeated.
        raise InputError("The address of the database cannot be read.", hint=_HINT) from None


def _sqlite(address: sa.URL, connections: int) -> sa.Engine:
    if not address.database or address.database == ":memory:":
        raise InputError("A database in memory would forget every report.", hint=_HINT)
    _make_private(Path(address.database))
    engine = sa.create_engine(
        address,
        pool_size=connections,
        max_overflow=connections,
        connect_args={"timeout": _PATIENCE, "check_same_thread": False},
    )
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private(file: Path) -> None:
    """A new file is its owner's alone, for it holds webhooks' keys; SQLite gives its other files the same mode."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise MachineError(f"{file} cannot be made: {error.strerror}.", hint="Give another --state.") from None


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """WAL lets readers go on beside a writer; FULL has each commit on the disk before it is acknowledged."""
    connection.isolation_level = None  # transactions begin where _begin_sqlite says
    for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin_sqlite(connection: sa.Connection) -> None:
    """Writers queue up at the beginning; one that read first and then wrote could be told to start over."""
    writes = connection.get_execution_options().get("kmend_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def answering() -> Iterator[None]:
    """What goes wrong with a database inside, as kmend's errors.

    Raises:
        MachineError: It does not answer.
        BusyError: Somebody else added the same thing at the same moment.
    """
    try:
        yield
    except (OperationalError, InterfaceError, sa.exc.TimeoutError) as error:
        raise _no_answer(error) from error
    except IntegrityError as error:
        raise BusyError(
            "Somebody else changed the same thing at the same moment.", hint="Look at it and try again."
        ) from error
    except DBAPIError as error:
        # SQLite says DatabaseError itself, no kind of it, when the file is damaged or no database at all.
        if error.connection_invalidated or type(error) is DatabaseError:
            raise _no_answer(error) from error
        raise


class DiskFullError(MachineError):
    """The database has no more room; nothing was written."""


def _is_full(cause: BaseException) -> bool:
    """SQLITE_FULL, or PostgreSQL's disk_full."""
    code = getattr(cause, "sqlite_errorcode", None)
    return (code is not None and code & 0xFF == sqlite3.SQLITE_FULL) or getattr(
        cause, "sqlstate", None
    ) == _DISK_FULL


def _no_answer(error: Exception) -> MachineError:
    # The reason alone: the whole error has the statement's values, and they are nobody's business.
    cause = getattr(error, "orig", None) or error
    reason = (str(cause).strip().splitlines() or ["no answer"])[0]
    _log.warning("the database: %s", reason)
    if _is_full(cause):
        return DiskFullError("The disk of the server's database is full.", hint="Make room on it, and try again.")
    return MachineError(f"The database cannot be used: {reason}.", hint="Try again when it answers.")
