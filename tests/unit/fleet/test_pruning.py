"""What is older than the server is to keep goes, in small pieces; all else stays."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from kmend.fleet import pruning
from kmend.fleet.api.call import Settings
from kmend.fleet.app import first_admin_token, make_app
from kmend.fleet.store import tokens
from kmend.fleet.store.hosts import ReportWriter, add_host, find_host, reports
from kmend.fleet.store.log import add_audit, add_event, audit, events
from kmend.model.fleet import EventKind, Role
from makers.fleet import make_host, make_report, make_token
from makers.nouns import NOW

OLD = NOW - timedelta(days=91)
BEFORE = NOW - timedelta(days=90)


def lived(database, moments):
    """A database in which at each moment an event, a report, an audit record and a token were made."""
    with database.writing() as connection:
        add_host(connection, make_host(), credential="c", token_id="")
    for number, at in enumerate(moments):
        with database.writing() as connection:
            add_event(connection, EventKind.UPDATED, f"{number}", now=at)
            add_audit(connection, "pause", f"r{number}", actor="me", now=at)
            tokens.add_token(connection, make_token(f"t{number}", role=Role.VIEWER, revoked=at))
            tokens.note_failure(connection, f"a{number}", now=at)
            writer = ReportWriter(connection)
            writer.add(find_host(connection, "host-1"), make_report(number + 1), now=at, troubles=[])
            writer.flush()


def left(database):
    """What there is: events, reports in the history, audit records, tokens."""
    with database.reading() as connection:
        return (
            len(events(connection, most=1000)),
            len(reports(connection, "host-1", most=1000)),
            len(audit(connection, most=1000)),
            len(tokens.tokens(connection)),
        )


def test_what_is_old_goes_and_the_audit_log_stays(database):
    """Exactly that; the host keeps its last report."""
    lived(database, [OLD, OLD, BEFORE, NOW])
    assert pruning.prune_some(database, BEFORE) == 8
    assert left(database) == (2, 2, 4, 2)
    assert pruning.prune_some(database, BEFORE) == 0
    with database.reading() as connection:
        assert find_host(connection, "host-1").report.running == 4


def test_ids_of_events_are_never_given_twice(database):
    """Whoever follows the events by their ids misses none, although all that there were are old."""
    lived(database, [OLD, OLD])
    with database.reading() as connection:
        last = events(connection)[0].id
    pruning.prune_some(database, BEFORE)
    with database.writing() as connection:
        add_event(connection, EventKind.UPDATED, "new", now=NOW)
        assert [event.text for event in events(connection, after=last)] == ["new"]


def test_it_goes_in_small_pieces(database, monkeypatch):
    """No transaction removes more than a few rows of a kind, the oldest first."""
    monkeypatch.setattr(pruning, "_PIECE", 2)
    lived(database, [OLD] * 5 + [NOW])
    counts = [left(database)]
    while pruning.prune_some(database, BEFORE):
        counts.append(left(database))
    assert [each[0] for each in counts] == [6, 4, 2, 1]
    assert counts[-1] == (1, 1, 6, 1)


def test_tokens_that_hold_stay_and_those_of_admins(database):
    """There is never a moment at which the server would make a first admin token once more."""
    text = first_admin_token(database, moment=OLD)
    with database.writing() as connection:
        tokens.revoke_token(connection, "first-admin", now=OLD)
        tokens.add_token(connection, make_token("holds", role=Role.VIEWER))
        tokens.add_token(connection, make_token("later", role=Role.VIEWER, expires=NOW))
        tokens.add_token(connection, make_token("gone", role=Role.VIEWER, expires=OLD))
    assert text
    assert pruning.prune_some(database, BEFORE) == 1
    assert first_admin_token(database, moment=NOW) is None
    with database.reading() as connection:
        assert {token.id for token in tokens.tokens(connection)} == {"first-admin", "holds", "later"}


@pytest.mark.parametrize(("days", "events_left"), [(90, 1), (0, 3)])
def test_the_server_does_it_by_itself(sqlite, days, events_left):
    """While it runs; with 0 days it keeps everything."""
    lived(sqlite, [OLD, OLD, NOW])
    app = make_app(sqlite, settings=Settings(keep_days=days), clock=lambda: NOW)

    async def run():
        async with app.router.lifespan_context(app):
            with suppress(TimeoutError):
                async with asyncio.timeout(60 if days else 0.3):
                    while left(sqlite)[0] != 1:  # noqa: ASYNC110 - the server tells nobody
                        await asyncio.sleep(0.01)

    asyncio.run(run())
    assert left(sqlite)[0] == events_left
