"""Backups: of a database that is written to, put back as a whole, on SQLite and on PostgreSQL."""

import io
import subprocess
import sys
import tarfile
import threading
import time
from datetime import timedelta

import pytest
import sqlalchemy as sa

from kmend.fleet.backup import back_up, put_back
from kmend.fleet.store import tokens
from kmend.fleet.store.database import engine_for, open_database
from kmend.fleet.store.hosts import add_host, hosts
from kmend.fleet.store.log import add_audit, add_event, audit, events
from kmend.fleet.store.schema import migrate, revisions
from kmend.kit.errors import BusyError, InputError, MachineError
from kmend.model.fleet import EventKind
from makers.database import fresh_postgres_database
from makers.fleet import make_host, make_token
from makers.nouns import NOW


def grown(address, count=5):
    """A database with hosts, a token and a log; the token's text."""
    database = open_database(address)
    with database.writing() as connection:
        for number in range(count):
            add_host(connection, make_host(f"host-{number}"), credential=str(number), token_id="")
        add_event(connection, EventKind.UPDATED, "it was so", now=NOW)
        add_audit(connection, "pause", "r1", actor="me", now=NOW)
        text = tokens.add_token(connection, make_token())
    database.close()
    return text


def content_of(address):
    """Every row of every table."""
    engine = engine_for(address)
    with engine.connect() as connection:
        names = sorted(sa.inspect(connection).get_table_names())
        found = {
            name: sorted(map(str, connection.execute(sa.select(sa.text("*")).select_from(sa.table(name)))))
            for name in names
        }
    engine.dispose()
    return found


@pytest.fixture
def elsewhere(address, request, tmp_path):
    """The address of another empty database of the same kind."""
    if address.startswith("sqlite"):
        return f"sqlite:///{tmp_path}/elsewhere/fleet.db"
    return fresh_postgres_database(request.getfixturevalue("postgres"))


def test_a_backup_is_put_back_elsewhere(address, elsewhere, tmp_path):
    """Everything is there again, tokens and the audit log's lock included."""
    text = grown(address)
    made = back_up(address, tmp_path / "backup", now=NOW)
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    assert put_back(elsewhere, tmp_path / "backup") == made
    assert content_of(elsewhere) == content_of(address)
    database = open_database(elsewhere)
    with database.writing() as connection:
        assert tokens.token_for(connection, text, now=NOW).name == "ci"
        add_event(connection, EventKind.UPDATED, "and goes on", now=NOW)
        assert [event.text for event in events(connection)] == ["and goes on", "it was so"]
        assert [one.actor for one in audit(connection)] == ["me"]
    with pytest.raises(sa.exc.DBAPIError, match="only appended to"), database.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM audit"))
    database.close()


def test_a_database_that_holds_something_is_replaced_only_by_force(address, tmp_path):
    """Then it is what it was at the time of the backup."""
    grown(address)
    before = content_of(address)
    back_up(address, tmp_path / "backup", now=NOW)
    grown_more = open_database(address)
    with grown_more.writing() as connection:
        add_host(connection, make_host("later"), credential="x", token_id="")
        add_audit(connection, "resume", "r1", actor="me", now=NOW)
    grown_more.close()
    with pytest.raises(BusyError, match="not empty"):
        put_back(address, tmp_path / "backup")
    assert "later" in str(content_of(address))
    put_back(address, tmp_path / "backup", force=True)
    assert content_of(address) == before


def test_a_backup_of_a_database_that_is_written_to(address, elsewhere, tmp_path):
    """It is one moment's: each transaction is in it or not, and the writers were not held up."""
    grown(address, 0)
    database = open_database(address)
    stop, written = threading.Event(), []

    def write():
        while not stop.is_set():
            with database.writing() as connection:
                name = f"h{len(written)}"
                add_host(connection, make_host(name), credential=name, token_id="")
                add_event(connection, EventKind.ENROLLED, name, now=NOW, host=name)
            written.append(name)

    writer = threading.Thread(target=write)
    writer.start()
    while len(written) < 10:
        time.sleep(0.01)
    known, before = set(written), len(written)
    back_up(address, tmp_path / "backup", now=NOW)
    assert len(written) > before
    stop.set()
    writer.join()
    database.close()
    put_back(elsewhere, tmp_path / "backup")
    restored = open_database(elsewhere)
    with restored.reading() as connection:
        kept = {host.id for host in hosts(connection, most=100_000)}
        told = {event.host for event in events(connection, most=100_000) if event.host}
    restored.close()
    assert known <= kept == told


@pytest.mark.parametrize("after", [0.2, 0.4, 0.6, 0.8, 1.1])
def test_a_restore_that_is_killed(address, tmp_path, after):
    """The database is the old one or the new one, never between them; and a server can start on it."""
    grown(address, 400)
    back_up(address, tmp_path / "backup", now=NOW)
    new = content_of(address)
    database = open_database(address)
    with database.writing() as connection:
        for number in range(400, 800):
            add_host(connection, make_host(f"host-{number}"), credential=str(number), token_id="")
    database.close()
    old = content_of(address)
    words = ["fleet", "restore", tmp_path / "backup", "--database", address, "--force"]
    with subprocess.Popen([sys.executable, "-m", "kmend", *words], stdout=subprocess.DEVNULL) as restoring:
        time.sleep(after)
        restoring.kill()
    until = time.monotonic() + 10
    while (found := content_of(address)) not in (old, new) and time.monotonic() < until:
        time.sleep(0.1)
    assert found in (old, new)
    open_database(address).close()


def test_the_file_is_whole_or_not_there(address, tmp_path, monkeypatch):
    """What cannot be finished leaves no file, and no file is replaced without being asked for."""
    grown(address)
    with monkeypatch.context() as patch:
        patch.setattr("kmend.fleet.backup._pack", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            back_up(address, tmp_path / "out/backup", now=NOW)
    assert list((tmp_path / "out").iterdir()) == []
    back_up(address, tmp_path / "out/backup", now=NOW)
    with pytest.raises(InputError, match="is there already"):
        back_up(address, tmp_path / "out/backup", now=NOW)
    later = back_up(address, tmp_path / "out/backup", now=NOW + timedelta(days=1), force=True)
    assert later.made == NOW + timedelta(days=1)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["backup"]


def repacked(file, change):
    """The backup with its members changed."""
    with tarfile.open(file) as archive:
        parts = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}
    parts = change(parts)
    with tarfile.open(file, "w:gz") as archive:
        for name, content in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def replaced(old, new):
    """A change of the manifest."""
    return lambda parts: {**parts, "manifest.json": parts["manifest.json"].replace(old, new)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replaced(revisions()[-1].encode(), b"9999_later"), "schema 9999_later, which kmend"),
        (replaced(b'"format": 1', b'"format": 2'), "format 2"),
        (replaced(b'"database": "sqlite"', b'"database": "postgresql"'), "of a postgresql database"),
        (lambda parts: {**parts, "content": parts["content"][:-1] + b"x"}, "damaged"),
        (lambda parts: {**parts, "content": parts["content"] + b"x"}, "damaged"),
        (lambda parts: {**parts, "content": parts["content"][:-9]}, "damaged"),
        (lambda parts: {"manifest.json": parts["manifest.json"]}, "no content"),
        (lambda parts: {"content": parts["content"]}, "no manifest.json"),
        (lambda parts: {**parts, "manifest.json": b"[]"}, "manifest|backup"),
    ],
)
def test_files_that_are_no_good_backup(sqlite, tmp_path, change, words):
    """Each is refused by name, and the database is not touched."""
    address = sqlite.engine.url.render_as_string()
    back_up(address, tmp_path / "backup", now=NOW)
    repacked(tmp_path / "backup", change)
    before = content_of(address)
    with pytest.raises(InputError, match=words):
        put_back(address, tmp_path / "backup", force=True)
    assert content_of(address) == before


@pytest.mark.parametrize("keep", [0, 0.01, 0.5, 0.9])
def test_files_that_were_cut_off(sqlite, tmp_path, keep):
    """Or are no backup at all."""
    address = sqlite.engine.url.render_as_string()
    back_up(address, tmp_path / "backup", now=NOW)
    whole = (tmp_path / "backup").read_bytes()
    (tmp_path / "backup").write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(InputError, match="backup"):
        put_back(address, tmp_path / "backup", force=True)
    with pytest.raises(MachineError, match="absent"):
        put_back(address, tmp_path / "absent", force=True)


def test_nothing_to_back_up(address, tmp_path):
    """An empty database, or none, is a wrong address."""
    with pytest.raises(InputError, match=r"no database|holds nothing"):
        back_up(address, tmp_path / "backup", now=NOW)
    assert not (tmp_path / "backup").exists()


def test_a_backup_of_an_older_schema_is_brought_up_to_date(address, elsewhere, tmp_path):
    """Also over a database that has tables which the older one did not have."""
    engine = engine_for(address)
    migrate(engine, revision="0001")
    engine.dispose()
    assert back_up(address, tmp_path / "backup", now=NOW).revision == "0001"
    grown(elsewhere)
    put_back(elsewhere, tmp_path / "backup", force=True)
    opened = open_database(elsewhere)
    with opened.reading() as connection:
        assert hosts(connection) == []
    opened.close()
