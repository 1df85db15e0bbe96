"""Databases for the tests of the server."""

import pytest

from kmend.fleet.store.database import open_database
from makers.database import fresh_postgres_database, postgres_programs, running_postgres


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch):
    """Tests ask so often that the price of a try at a token would be most of their time."""
    monkeypatch.setattr("kmend.fleet.store.tokens.SCRYPT_COST", 2)


@pytest.fixture(scope="session")
def postgres():
    """A running PostgreSQL."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    with running_postgres(programs) as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path):
    """The address of an empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/fleet.db"
    return fresh_postgres_database(request.getfixturevalue("postgres"))


@pytest.fixture
def database(address):
    """An open database of each kind."""
    opened = open_database(address)
    yield opened
    opened.close()


@pytest.fixture
def sqlite(tmp_path):
    """An open SQLite database, where the kind makes no difference."""
    opened = open_database(f"sqlite:///{tmp_path}/fleet.db")
    yield opened
    opened.close()
