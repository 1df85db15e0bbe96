"""What the server remembers: schema, transactions, tokens, the audit log; on SQLite and on PostgreSQL."""

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from kmend.fleet.store import log, things, tokens
from kmend.fleet.store.database import open_database
from kmend.fleet.store.hosts import (
    ReportWriter,
    add_host,
    change_host,
    find_host,
    hosts,
    remove_host,
    reports,
)
from kmend.fleet.store.tables import METADATA
from kmend.kit.errors import InputError, MachineError
from kmend.model.fleet import Block, Channel, EventKind, Group
from kmend.model.labels import parse_selector
from makers.database import fresh_postgres_database
from makers.fleet import make_host, make_report, make_token
from makers.nouns import KERNEL, NOW


def test_the_migrations_make_the_tables(database):
    """Opening twice changes nothing, and what the steps make is what the code expects."""
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, METADATA) == []
        assert [channel.name for channel in things.channels(connection)] == ["edge", "stable"]


def test_opening_again_keeps_everything(address):
    """A second start finds what the first one wrote."""
    first = open_database(address)
    with first.writing() as connection:
        add_host(connection, make_host(), credential="c", token_id="")
    first.close()
    second = open_database(address)
    with second.reading() as connection:
        assert find_host(connection, "host-1") == make_host()
    second.close()


def test_what_fails_writes_nothing(database):
    """A transaction is whole or not there."""

    def half():
        with database.writing() as connection:
            add_host(connection, make_host(), credential="c", token_id="")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    with database.reading() as connection:
        assert find_host(connection, "host-1") is None


def test_a_report_is_kept_and_the_history_has_the_changes(database):
    """The same report again only says that the host is there."""
    with database.writing() as connection:
        add_host(connection, make_host(), credential="c", token_id="")
    for minute, number in enumerate([None, None, 3, 3]):
        now = NOW + timedelta(minutes=minute)
        with database.writing() as connection:
            host = find_host(connection, "host-1", lock=True)
            writer = ReportWriter(connection)
            writer.add(host, make_report(number, at=now), now=now, troubles=[])
            writer.flush()
    with database.reading() as connection:
        host = find_host(connection, "host-1")
        assert (host.seen, host.report.running) == (NOW + timedelta(minutes=3), 3)
        assert [report.running for _, report in reports(connection, "host-1")] == [3, None]


@pytest.mark.parametrize(
    "selector", ["", "zone=a", "zone!=a", "zone in (a,b)", "zone notin (a)", "gpu", "!gpu,zone=b"]
)
def test_selectors_mean_the_same_in_the_database(database, selector):
    """What Python chooses and what SQL chooses is the same."""
    fleet = [{}, {"zone": "a"}, {"zone": "b"}, {"zone": "b", "gpu": ""}, {"gpu": "x"}]
    with database.writing() as connection:
        for number, labels in enumerate(fleet):
            add_host(connection, make_host(f"host-{number}", labels=labels), credential=str(number), token_id="")
    wanted = {f"host-{number}" for number, labels in enumerate(fleet) if parse_selector(selector).matches(labels)}
    with database.reading() as connection:
        assert {host.id for host in hosts(connection, selector=selector)} == wanted


def test_a_host_can_be_changed_and_removed(database):
    """Labels go with it; pages of hosts follow each other."""
    with database.writing() as connection:
        for number in range(5):
            add_host(connection, make_host(f"host-{number}"), credential=str(number), token_id="")
        change_host(connection, replace(make_host("host-2"), labels={"zone": "a"}, channel="edge"))
    with database.writing() as connection:
        assert [host.id for host in hosts(connection, after="host-1", most=2)] == ["host-2", "host-3"]
        assert [host.id for host in hosts(connection, filters={"channel": "edge"})] == ["host-2"]
        assert [host.id for host in hosts(connection, selector="zone=a")] == ["host-2"]
        assert remove_host(connection, "host-2")
        assert not remove_host(connection, "host-2")
        assert hosts(connection, selector="zone=a") == []


def test_the_audit_log_only_grows(database):
    """The database itself refuses to change or forget a record."""
    with database.writing() as connection:
        log.add_audit(connection, "pause", "r1", actor="token:a", now=NOW)
    for words in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit"):
        with pytest.raises(sa.exc.DBAPIError, match="only appended to"), database.engine.begin() as connection:
            connection.execute(sa.text(words))
    with database.reading() as connection:
        assert [record.actor for record in log.audit(connection)] == ["token:a"]


def test_events_by_page(database):
    """Newest first for people, oldest first for those who follow."""
    with database.writing() as connection:
        for number in range(5):
            log.add_event(connection, EventKind.UPDATED, f"{number}", now=NOW, host=f"h{number % 2}")
    with database.reading() as connection:
        newest = log.events(connection, most=2)
        assert [event.text for event in newest] == ["4", "3"]
        assert [event.text for event in log.events(connection, before=newest[-1].id)] == ["2", "1", "0"]
        assert [event.text for event in log.events(connection, after=newest[-1].id)] == ["4"]
        assert [event.text for event in log.events(connection, host="h1")] == ["3", "1"]


def test_who_asks_for_later_events_misses_none(postgres):
    """On PostgreSQL ids are given before transactions are over: one that comes late is waited for."""
    database = open_database(fresh_postgres_database(postgres))

    def settled(after=0):
        with database.reading() as connection:
            return [one.text for one in log.events(connection, after=after, oldest_first=True, settled_by=NOW)]

    with database.writing() as slow:
        log.add_event(slow, EventKind.UPDATED, "first, but late", now=NOW)
        with database.writing() as quick:
            log.add_event(quick, EventKind.UPDATED, "second", now=NOW)
        assert settled() == []
        with database.reading() as connection:
            assert [one.text for one in log.events(connection)] == ["second"]
    assert settled() == ["first, but late", "second"]
    with database.writing() as connection:
        log.add_event(connection, EventKind.UPDATED, "third", now=NOW)
    assert settled(after=2) == ["third"]
    database.close()


def test_an_old_transaction_that_writes_late_hides_none(postgres):
    """Its event has the higher id, though it is older than the transaction with the lower one."""
    database = open_database(fresh_postgres_database(postgres))

    def settled():
        with database.reading() as connection:
            return [one.text for one in log.events(connection, oldest_first=True, settled_by=NOW)]

    with database.writing() as younger:
        with database.writing() as older:
            older.execute(sa.select(sa.func.pg_current_xact_id()))
            log.add_event(younger, EventKind.UPDATED, "first", now=NOW)
            log.add_event(older, EventKind.UPDATED, "second, but sooner over", now=NOW)
        assert settled() == []
        with database.reading() as connection:
            assert log.newest_event(connection, settled_by=NOW) == 0
    assert settled() == ["first", "second, but sooner over"]
    database.close()


def test_channels_groups_and_blocks(database):
    """Each is made, changed and taken away."""
    with database.writing() as connection:
        things.save_channel(connection, Channel(name="stable", paused=True, reason="holidays"))
        things.save_group(connection, Group(name="web", selector="role=web"))
        things.save_block(connection, Block(build_id=KERNEL.build_id, number=3, reason="slow", since=NOW))
        things.save_block(connection, Block(build_id=KERNEL.build_id, number=3, reason="worse", since=NOW))
    with database.writing() as connection:
        assert things.find_channel(connection, "stable").reason == "holidays"
        assert things.find_group(connection, "web").selector == "role=web"
        assert [block.reason for block in things.blocks_for(connection, KERNEL.build_id)] == ["worse"]
        assert things.remove_block(connection, KERNEL.build_id, 3)
        assert not things.remove_group(connection, "db")


def test_a_token_holds_until_it_expires_or_is_revoked(database):
    """Its secret is not in the database."""
    with database.writing() as connection:
        text = tokens.add_token(connection, make_token(expires=NOW + timedelta(days=1)))
        assert tokens.token_for(connection, text, now=NOW).name == "ci"
        assert tokens.token_for(connection, text, now=NOW + timedelta(days=1)) is None
        assert tokens.token_for(connection, text[:-1] + "x" * (text[-1] != "x"), now=NOW) is None
        assert tokens.token_for(connection, "kmend_t2." + text.partition(".")[2], now=NOW) is None
        assert tokens.token_for(connection, "anything", now=NOW) is None
        kept = connection.execute(sa.text("SELECT * FROM tokens")).one()
        assert text.partition(".")[2] not in str(kept)
        tokens.revoke_token(connection, "t1", now=NOW)
        assert tokens.token_for(connection, text, now=NOW) is None


def test_an_enrolment_token_is_used_up(database):
    """A one-time token once, a reusable one for ever."""
    with database.writing() as connection:
        tokens.add_token(connection, make_token("one", uses_left=1))
        tokens.add_token(connection, make_token("many"))
        assert [tokens.use_up(connection, "one", now=NOW) for _ in range(3)] == [True, False, False]
        assert all(tokens.use_up(connection, "many", now=NOW) for _ in range(3))


def test_too_many_bad_tokens_lock_an_address_out(database):
    """Ten for a minute, ten more for two; others are not touched, and after a quiet time it begins anew."""
    with database.writing() as connection:
        for _ in range(9):
            tokens.note_failure(connection, "a", now=NOW)
        assert tokens.locked_until(connection, "a", now=NOW) is None
        tokens.note_failure(connection, "a", now=NOW)
        assert tokens.locked_until(connection, "a", now=NOW) == NOW + timedelta(minutes=1)
        assert tokens.locked_until(connection, "b", now=NOW) is None
        later = NOW + timedelta(minutes=1)
        assert tokens.locked_until(connection, "a", now=later) is None
        for _ in range(10):
            tokens.note_failure(connection, "a", now=later)
        assert tokens.locked_until(connection, "a", now=later) == later + timedelta(minutes=2)
        quiet = NOW + timedelta(hours=1)
        tokens.note_failure(connection, "a", now=quiet)
        assert tokens.locked_until(connection, "a", now=quiet) is None


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://root:secret@host/x", "sqlite://", "oracle://x", "postgresql+no://x"]
)
def test_addresses_that_cannot_be_used(url):
    """One clear message that never repeats a password."""
    with pytest.raises(InputError) as caught:
        open_database(url)
    assert "secret" not in caught.value.message + caught.value.hint


def test_a_database_that_does_not_answer_is_the_machines_fault(tmp_path):
    """So the server can say: try again later."""
    with pytest.raises(MachineError, match="cannot be used"):
        open_database(f"postgresql://kmend@/x?host={tmp_path}")
    (tmp_path / "fleet.db").write_text("no database at all, but long enough to be looked at" * 99)
    with pytest.raises(MachineError, match="cannot be used"):
        open_database(f"sqlite:///{tmp_path}/fleet.db")


WRITER = """
import sys
from datetime import UTC, datetime
from kmend.fleet.store.database import open_database
from kmend.fleet.store.log import add_event
from kmend.model.fleet import EventKind
database = open_database(sys.argv[1])
for number in range(1_000_000):
    with database.writing() as connection:
        add_event(connection, EventKind.UPDATED, str(number), now=datetime.now(tz=UTC))
    print(number, flush=True)
"""


def test_what_was_acknowledged_outlives_a_kill(address):
    """Kill -9 in the middle of writing: everything that was said to be written is there."""
    words = [sys.executable, "-c", WRITER, address]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as writer:
        for _ in range(20):
            acknowledged = writer.stdout.readline()
        writer.kill()
        rest = writer.stdout.read().splitlines()
    last = int(rest[-1] if rest and rest[-1].isdigit() else acknowledged)
    opened = open_database(address)
    with opened.reading() as connection:
        kept = {int(event.text) for event in log.events(connection, most=1_000_000)}
    opened.close()
    assert kept >= set(range(last + 1))
