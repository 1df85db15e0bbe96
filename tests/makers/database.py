"""Databases for tests: SQLite in a file, and a real PostgreSQL on a socket in a temporary folder."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

_NUMBERS = itertools.count(1)


def postgres_programs():
    """The folder with initdb and postgres, or None: Debian keeps it out of PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    places += [Path(found).resolve().parent] if found else []
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


class Postgres:
    """A server of its own in a temporary folder. Root hands it to an unprivileged user.

    What a kill must not lose is with the kernel, so the disk is waited for only by a ``durable`` one.
    """

    def __init__(self, programs, *, durable=False):
        self.folder = Path(tempfile.mkdtemp(prefix="kmend-pg-"))
        self.address = f"postgresql://kmend@/NAME?host={self.folder}"
        self._programs = programs
        self._durable = durable
        user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        shutil.chown(self.folder, user)
        self._run = {"cwd": self.folder, "capture_output": True}
        if os.getuid() == 0:
            self._run |= {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
        words = [programs / "initdb", "-D", self.folder / "data", "-A", "trust", "-U", "kmend", "--no-sync"]
        subprocess.run(words, check=True, **self._run)

    def start(self, *, patience=0):
        """Start it; after a kill its children may be in the way for some seconds."""
        fsync = "on" if self._durable else "off"
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync={fsync}"
        words = ["-l", self.folder / "log", "-o", f"{options} -c max_connections=60", "start"]
        until = time.monotonic() + patience
        while self._control(*words) and time.monotonic() < until:
            time.sleep(0.1)
        self._control("status", check=True)

    def stop(self):
        """Stop it at once, as if the machine had gone down."""
        self._control("-m", "immediate", "stop")

    def kill(self):
        """Kill -9 of the process that started all others."""
        os.kill(int((self.folder / "data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def _control(self, *words, check=False):
        command = [self._programs / "pg_ctl", "-D", self.folder / "data", "-w", *words]
        return subprocess.run(command, check=check, **self._run).returncode


@contextmanager
def own_postgres(programs, *, durable=False):
    """A running server that a test may stop and kill."""
    server = Postgres(programs, durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


@contextmanager
def running_postgres(programs):
    """A server; its address without the database's name."""
    with own_postgres(programs) as server:
        yield server.address


def fresh_postgres_database(address):
    """A new database on a running server; its address."""
    name = f"test{next(_NUMBERS)}"
    url = address.replace("postgresql:", "postgresql+psycopg:").replace("NAME", "postgres")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return address.replace("NAME", name)
