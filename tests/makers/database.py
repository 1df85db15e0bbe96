"""Databases for tests: SQLite in a file, and a real PostgreSQL on a socket in a temporary folder."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
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


@contextmanager
def running_postgres(programs):
    """A server of its own; its address without the database's name. Root hands it to an unprivileged user."""
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="kmend-pg-"))
    shutil.chown(folder, user)
    run = {"cwd": folder, "capture_output": True, "check": True}
    if os.getuid() == 0:
        run |= {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
    init = [programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "kmend", "--no-sync"]
    control = [programs / "pg_ctl", "-D", folder / "data", "-w"]
    # Nothing here has to outlive the test, so the disk is not waited for.
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=60"
    try:
        for words in (init, [*control, "-l", folder / "log", "-o", options, "start"]):
            subprocess.run(words, **run)  # noqa: PLW1510 - it stands in `run`
        try:
            yield f"postgresql://kmend@/NAME?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **run)  # noqa: PLW1510 - the same
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fresh_postgres_database(address):
    """A new database on a running server; its address."""
    name = f"test{next(_NUMBERS)}"
    url = address.replace("postgresql:", "postgresql+psycopg:").replace("NAME", "postgres")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return address.replace("NAME", name)
