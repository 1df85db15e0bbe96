"""Events as they happen, over a real connection."""

import asyncio
import json
import signal
import threading
from contextlib import closing, contextmanager

import httpx
import pytest

from kmend.fleet.api.call import Settings
from kmend.fleet.store.database import open_database
from kmend.fleet.store.log import add_event
from kmend.fleet.streams import _put
from kmend.model.fleet import Event, EventKind
from makers.database import fresh_postgres_database
from makers.listening import serving
from makers.nouns import NOW
from makers.site import running_site

WAIT = httpx.Timeout(20)


@pytest.fixture
def site(sqlite):
    """A server whose streams show often that they live."""
    settings = Settings(heartbeat=0.2, most_streams=3)
    with running_site(sqlite, settings=settings) as running:
        yield running


def happen(site, text):
    """Something happens, as if another server had written it."""
    with site.database.writing() as connection:
        add_event(connection, EventKind.CHANNEL, text, now=NOW)


@contextmanager
def reading(site, *, query="", role="viewer", headers=None):
    """The lines of a stream."""
    bearer = {"Authorization": f"Bearer {site.token(role)}"}
    address = f"{site.address}/api/v1/events/stream{query}"
    with httpx.stream("GET", address, headers={**bearer, **(headers or {})}, timeout=WAIT) as answer:
        yield answer


def told(lines, many):
    """The next events of a stream: (id, text)."""
    found = []
    number = None
    while len(found) < many:
        line = next(lines)
        if line.startswith("id: "):
            number = int(line.removeprefix("id: "))
        if line.startswith("data: "):
            event = json.loads(line.removeprefix("data: "))
            assert event["id"] == number
            found.append((number, event["text"]))
    return found


def test_what_happens_is_told_once_to_every_reader(site):
    """Whoever wrote it; those who come later are told of what comes then."""
    happen(site, "before")
    with reading(site) as first, reading(site) as second:
        assert first.headers["content-type"].startswith("text/event-stream")
        lines = [first.iter_lines(), second.iter_lines()]
        for one in lines:
            assert next(one).startswith("retry: ")
            while next(one) != ":":  # it lives, and so it has begun
                pass
        happen(site, "one")
        happen(site, "two")
        assert [[text for _, text in told(one, 2)] for one in lines] == [["one", "two"]] * 2
        happen(site, "three")
        assert told(lines[0], 1)[0][1] == "three"


def test_a_reader_that_comes_back_misses_nothing(site):
    """By `after`, and by the header that browsers send, which goes before it; more than one look's worth."""
    for number in range(1, 701):
        happen(site, f"event {number}")
    with reading(site, query="?after=0") as answer:
        found = told(answer.iter_lines(), 700)
        assert [number for number, _ in found] == list(range(1, 701))
    with reading(site, query="?after=1", headers={"Last-Event-ID": "698"}) as answer:
        lines = answer.iter_lines()
        assert [number for number, _ in told(lines, 2)] == [699, 700]
        happen(site, "later")
        assert told(lines, 1) == [(701, "later")]


def test_an_event_that_is_committed_late_is_told_in_its_turn(postgres):
    """PostgreSQL gives ids before the commit: a reader who came back with the higher one would miss the lower."""
    database = open_database(fresh_postgres_database(postgres))
    with running_site(database, settings=Settings(heartbeat=0.2)) as site:
        happen(site, "before")
        with reading(site, query="?after=0") as live:
            lines = live.iter_lines()
            assert told(lines, 1) == [(1, "before")]
            with database.writing() as slow:
                add_event(slow, EventKind.CHANNEL, "first, but late", now=NOW)
                happen(site, "second")
                with reading(site, query="?after=0") as later:
                    assert told(later.iter_lines(), 1) == [(1, "before")]
                quiet = [next(lines) for _ in range(20)]
                assert not [line for line in quiet if line.startswith("data: ")]
            assert told(lines, 2) == [(2, "first, but late"), (3, "second")]
    database.close()


def test_streams_are_bounded_and_end_when_they_may_no_longer_be_read(site):
    """The fourth is asked to come back; a revoked token's stream ends."""
    made = site.ask("POST", "/tokens", json={"name": "for an hour", "role": "viewer"}).json()
    site.tokens["doomed"] = made["text"]
    with reading(site) as one, reading(site) as two, reading(site, role="doomed") as three:
        opened = [one.iter_lines(), two.iter_lines(), doomed := three.iter_lines()]
        for lines in opened:
            assert next(lines).startswith("retry: ")
        with reading(site) as fourth:
            assert fourth.status_code == 503
            assert fourth.headers["retry-after"] == "30"
        site.ask("DELETE", f"/tokens/{made['token']['id']}")
        assert set(doomed) <= {"", ":"}
        with reading(site) as again:
            assert again.status_code == 200
            assert next(again.iter_lines()).startswith("retry: ")


def test_who_may_not_read_does_not(site):
    """No token, a host's or an enrolment token, an id that is none; nobody without a cookie on the pages' own."""
    address = f"{site.address}/api/v1/events/stream"
    assert httpx.get(address).status_code == 401
    with reading(site, role="enrol") as answer:
        assert answer.status_code == 403
    with reading(site, query="?after=x") as answer:
        assert answer.status_code == 400
    with reading(site, headers={"Last-Event-ID": "-1"}) as answer:
        assert answer.status_code == 400
    assert httpx.get(f"{site.address}/live").status_code == 401
    bearer = {"Authorization": f"Bearer {site.token('viewer')}"}
    assert httpx.head(address, headers=bearer).headers["content-type"].startswith("text/event-stream")


def test_a_slow_reader_is_sent_away():
    """It may come back for the rest; what waits for it is bounded."""
    line = asyncio.Queue(2)
    event = Event(id=1, at=NOW, kind=EventKind.CHANNEL, host="", rollout="", text="one")
    for waiting in (1, 2, 1):
        _put(line, event)
        assert line.qsize() == waiting
    assert line.get_nowait() is None


def test_streams_end_with_the_server(tmp_path):
    """SIGTERM does not wait for them to end by themselves."""
    file = tmp_path / "token"
    with serving(tmp_path, "--no-tls", "--admin-token-file", str(file)) as (server, said):
        bearer = {"Authorization": f"Bearer {file.read_text().strip()}"}
        address = f"{said['listening']}/api/v1/events/stream"
        with httpx.stream("GET", address, headers=bearer, timeout=WAIT) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("retry: ")
            server.send_signal(signal.SIGTERM)
            assert set(lines) <= {"", ":"}
        assert server.wait(10) == 0


def test_nothing_is_looked_for_while_nobody_reads(site):
    """The look begins with the first reader and ends with the last."""
    streams = site.app.state.streams
    assert streams._looking is None
    with reading(site) as answer:
        lines = answer.iter_lines()  # kept: to drop it closes the connection
        assert next(lines).startswith("retry: ")
        assert streams._looking is not None
    ended = threading.Event()
    for _ in range(500):
        if streams._looking is None:
            break
        ended.wait(0.02)
    assert streams._looking is None


def test_two_servers_tell_of_the_same(tmp_path):
    """What one of them does, the readers of the other hear."""
    url = f"sqlite:///{tmp_path}/fleet.db"
    with closing(open_database(url)) as one, closing(open_database(url)) as two:
        settings = Settings(heartbeat=0.2)
        with running_site(one, settings=settings) as left, running_site(two, settings=settings) as right:
            right.tokens = left.tokens
            with reading(right) as answer:
                lines = answer.iter_lines()
                while next(lines) != ":":
                    pass
                left.ask("PUT", "/channels/stable", json={"paused": True, "reason": "a look first"})
                assert told(lines, 1)[0][1] == "channel stable is paused: a look first"
