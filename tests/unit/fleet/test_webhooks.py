"""Webhooks: what is told, to whom, how it is signed, and what happens when the receiver does not do well."""

import asyncio
import hashlib
import hmac
import json
import threading
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest

from kmend.fleet.deliver import check_url, deliver_all, deliver_due
from kmend.fleet.store import webhooks as store
from kmend.fleet.store.database import open_database
from kmend.kit.errors import InputError
from kmend.model import wire
from kmend.model.rollout import Wave
from makers.fleet import make_plan, make_report
from makers.receiver import dripping_handshake, running_receiver
from makers.server import TalkingServer


@pytest.fixture
def receiver():
    """Where notices go."""
    with running_receiver() as running:
        yield running


@pytest.fixture
def server(database):
    """A server on each kind of database; it sends when `send` says so."""
    with closing(TalkingServer(database)) as opened:
        yield opened


def make(server, receiver, happenings=(), name="chat"):
    """A webhook; its id and its secret."""
    answer = server.ask(
        "POST", "/webhooks", json={"name": name, "url": f"{receiver.address}/hook", "happenings": list(happenings)}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["webhook"]["id"], answer.json()["secret"]


def send(server):
    """Send what is due; how many."""
    return deliver_all(server.database, clock=lambda: server.now)


def deliveries(server, webhook):
    """The log, the newest first: (happening, state, tries, status)."""
    found = server.ask("GET", f"/webhooks/{webhook}/deliveries").json()["items"]
    return [(one["notice"]["happening"], one["state"], one["tries"], one["status"]) for one in found]


def told(receiver):
    """What was received, in order."""
    return sorted((json.loads(body) for _, body in receiver.got), key=lambda one: one["at"])


def test_rollouts_and_quarantines_are_told(server, receiver):
    """From the start to the brake, resuming and going back: each once."""
    make(server, receiver)
    hosts = [server.enrol(f"web-{number}", secret=f"{number + 1:064x}") for number in range(2)]
    for host in hosts:
        server.check_in(host)
    plan = make_plan(3, waves=(Wave(soak=0), Wave(selector="zone=a", soak=0)))
    rollout = server.ask("POST", "/rollouts", json={"plan": wire.plain(plan)}).json()["id"]
    server.check_in(hosts[0])
    for act in ("pause", "resume"):
        server.later(minutes=1)
        server.ask("POST", f"/rollouts/{rollout}/{act}", json={"reason": f"to {act} it"})
    server.later(minutes=1)
    server.check_in(hosts[0], make_report(quarantined=(3,)))
    server.later(minutes=1)
    server.ask("POST", f"/rollouts/{rollout}/rollback", json={"reason": "enough"})
    send(server)
    found = told(receiver)
    assert [one["happening"] for one in found[:3]] == ["rollout.started", "rollout.paused", "rollout.resumed"]
    assert {one["happening"] for one in found[3:]} == {
        "host.quarantined",
        "rollout.stopped",
        "rollout.rolled-back",
    }
    assert len(found) == len({one["id"] for one in found}) == 6
    assert all(one["rollout"] == rollout for one in found if one["happening"].startswith("rollout"))
    assert found[1]["text"].endswith("to pause it")
    assert send(server) == 0


def test_waves_and_the_end_are_told(server, receiver):
    """And only what was asked for."""
    _, _ = make(server, receiver, ["rollout.wave", "rollout.finished"])
    host = server.enrol()
    server.check_in(host, make_report())
    plan = make_plan(3, waves=(Wave(soak=0), Wave(selector="zone=a", soak=0)))
    server.ask("POST", "/rollouts", json={"plan": wire.plain(plan)})
    server.check_in(host)
    for _ in range(3):
        server.later(minutes=2)
        server.check_in(host, make_report(3))
    send(server)
    assert [one["happening"] for one in told(receiver)] == ["rollout.wave", "rollout.finished"]


def test_a_notice_is_signed(server, receiver):
    """As docs/reference/webhooks.md says; another secret or another body gives another signature."""
    webhook, secret = make(server, receiver)
    answer = server.ask("POST", f"/webhooks/{webhook}/test")
    assert answer.status_code == 202
    assert send(server) == 1
    [(headers, body)] = receiver.got
    stamp = headers["Kmend-Timestamp"]
    assert stamp == str(int(server.now.timestamp()))
    good = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["Kmend-Signature"] == f"sha256={good}"
    assert headers["Kmend-Happening"] == "test"
    assert headers["Kmend-Notice"] == json.loads(body)["id"] == answer.json()["notice"]["id"]
    assert secret not in server.ask("GET", "/webhooks").text
    assert secret not in server.ask("GET", "/audit").text
    assert deliveries(server, webhook) == [("test", "done", 1, 204)]


def test_failing_receivers_are_asked_again_later_each_time(server, receiver):
    """The same notice, until it arrives; or until it is given up, a day later."""
    webhook, _ = make(server, receiver)
    receiver.status = [500, 302, 204]
    receiver.headers = {"Location": f"{receiver.address}/elsewhere"}
    server.ask("POST", f"/webhooks/{webhook}/test")
    assert send(server) == 1
    assert deliveries(server, webhook) == [("test", "waiting", 1, 500)]
    assert send(server) == 0
    server.later(seconds=10)
    assert send(server) == 1
    server.later(seconds=59)
    assert send(server) == 0
    server.later(seconds=1)
    assert send(server) == 1
    assert deliveries(server, webhook) == [("test", "done", 3, 204)]
    assert len({headers["Kmend-Notice"] for headers, _ in receiver.got}) == 1
    receiver.status = 503
    server.ask("POST", f"/webhooks/{webhook}/test")
    tries = 0
    begun = server.now
    while deliveries(server, webhook)[0][1] == "waiting":
        tries += send(server)
        server.later(hours=1)
    assert tries == 8
    assert timedelta(hours=18) < server.now - begun < timedelta(days=2)
    assert deliveries(server, webhook)[0] == ("test", "failed", 8, 503)
    assert send(server) == 0
    server.later(days=15)
    server.ask("POST", f"/webhooks/{webhook}/test")
    send(server)
    assert len(deliveries(server, webhook)) == 1


def test_who_does_not_answer_is_asked_again(server, receiver, monkeypatch):
    """One that is too slow, and one that is not there; and they do not hold up the others."""
    monkeypatch.setattr("kmend.fleet.deliver._PATIENCE", 0.3)
    with running_receiver() as gone:
        pass
    with running_receiver() as slow:
        slow.goes_on.clear()
        names = {name: make(server, where, name=name)[0] for name, where in (("slow", slow), ("gone", gone))}
        names["good"], _ = make(server, receiver)
        for _ in range(6):
            for webhook in names.values():
                server.ask("POST", f"/webhooks/{webhook}/test")
        assert deliver_due(server.database, now=server.now) == 6
        assert len(receiver.got) == 2
        send(server)
        assert len(receiver.got) == 6
        assert {one[1:] for one in deliveries(server, names["slow"])} == {("waiting", 1, None)}
        assert {one[1:] for one in deliveries(server, names["gone"])} == {("waiting", 1, None)}
        log = server.ask("GET", f"/webhooks/{names['gone']}/deliveries?limit=4").json()
        assert "no answer" in log["items"][0]["error"]
        rest = server.ask("GET", f"/webhooks/{names['gone']}/deliveries?cursor={log['next']}").json()
        assert len(rest["items"]) == 2


def test_who_never_stops_answering_is_left(server, receiver, monkeypatch):
    """Each piece of the answer comes soon, and the last never."""
    monkeypatch.setattr("kmend.fleet.deliver._AT_MOST", 0.5)
    receiver.drips = True
    name = make(server, receiver)[0]
    server.ask("POST", f"/webhooks/{name}/test")
    send(server)
    receiver.drips = False
    (one,) = server.ask("GET", f"/webhooks/{name}/deliveries").json()["items"]
    assert "no answer: none in 0.5 s" in one["error"]


def test_who_draws_out_the_beginning_of_tls_is_left(server, monkeypatch):
    """The connection is ended from outside, whatever it waits for."""
    monkeypatch.setattr("kmend.fleet.deliver._AT_MOST", 0.5)
    with dripping_handshake() as (address, heard):
        made = server.ask("POST", "/webhooks", json={"name": "slow", "url": address}).json()
        name = made["webhook"]["id"]
        server.ask("POST", f"/webhooks/{name}/test")
        send(server)
    (one,) = server.ask("GET", f"/webhooks/{name}/deliveries").json()["items"]
    assert "no answer: none in 0.5 s" in one["error"]
    assert not heard.is_set()


def test_a_name_that_nobody_looks_up_in_time_is_left(server, receiver, monkeypatch):
    """The resolver's own patience may be longer than ours."""
    monkeypatch.setattr("kmend.fleet.deliver._AT_MOST", 0.5)
    goes_on = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: goes_on.wait(60) and [])
    name = make(server, receiver)[0]
    server.ask("POST", f"/webhooks/{name}/test")
    send(server)
    goes_on.set()
    (one,) = server.ask("GET", f"/webhooks/{name}/deliveries").json()["items"]
    assert "no answer: none in 0.5 s" in one["error"]


def test_a_name_that_does_not_exist(server):
    """What the resolver says stands in the log."""
    made = server.ask("POST", "/webhooks", json={"name": "x", "url": "http://nobody.invalid/"}).json()
    name = made["webhook"]["id"]
    server.ask("POST", f"/webhooks/{name}/test")
    send(server)
    (one,) = server.ask("GET", f"/webhooks/{name}/deliveries").json()["items"]
    assert one["error"].startswith("no answer: [Errno")


def test_what_one_server_took_another_does_not(server, receiver, address):
    """But when it died over it, the notice goes to the next one."""
    webhook, _ = make(server, receiver)
    server.ask("POST", f"/webhooks/{webhook}/test")
    with closing(open_database(address)) as other:
        with other.writing() as connection:
            assert len(store.claim(connection, now=server.now, most=8)) == 1
        assert send(server) == 0
        server.later(seconds=61)
        assert deliver_all(other, clock=lambda: server.now) == 1
    assert send(server) == 0
    assert len(receiver.got) == 1


def test_the_queue_is_bounded(server, receiver, monkeypatch):
    """What comes on top is an event only; trying is refused."""
    monkeypatch.setattr(store, "MOST_WAITING", 2)
    webhook, _ = make(server, receiver)
    assert [server.ask("POST", f"/webhooks/{webhook}/test").status_code for _ in range(3)] == [202, 202, 409]
    server.ask("POST", "/rollouts", json={"plan": wire.plain(make_plan(3))})
    assert len(deliveries(server, webhook)) == 2
    assert server.ask("GET", "/events").json()["items"][0]["kind"] == "rollout"


def test_who_may_and_what_may_not_be(server, receiver):
    """Admins only; addresses of web servers only; forgetting takes along what waits."""
    webhook, _ = make(server, receiver)
    body = {"name": "a", "url": "https://a.example/b"}
    assert server.ask("POST", "/webhooks", role="operator", json=body).status_code == 403
    assert server.ask("GET", "/webhooks", role="operator").status_code == 403
    for url in (
        "ftp://a.example",
        "https://",
        "javascript:1",
        "https://user:word@a.example/",
        "https://a.example/ b",
    ):
        assert server.ask("POST", "/webhooks", json={"name": "a", "url": url}).status_code == 400, url
    assert server.ask("POST", "/webhooks", json={**body, "happenings": ["rain"]}).status_code == 400
    server.ask("POST", f"/webhooks/{webhook}/test")
    assert server.ask("DELETE", f"/webhooks/{webhook}").status_code == 204
    assert server.ask("DELETE", f"/webhooks/{webhook}").status_code == 404
    assert server.ask("POST", f"/webhooks/{webhook}/test").status_code == 404
    assert send(server) == 0
    actions = [one["action"] for one in server.ask("GET", "/audit").json()["items"]]
    assert {"webhook-create", "webhook-remove"} <= set(actions)
    codes = {
        server.ask("POST", "/webhooks", json={**body, "name": f"number {number}"}).status_code
        for number in range(51)
    }
    assert codes == {201, 409}


@pytest.mark.parametrize(
    "url", ["https://10.0.0.7/x", "http://[::1]:8000/", "https://chat.example.org:8443/a?b=c"]
)
def test_addresses_of_ones_own_network_are_welcome(url):
    """The receiver may well be there."""
    check_url(url)
    with pytest.raises(InputError):
        check_url(f"{url}#part")


@contextmanager
def lifespan(server):
    """The work beside the requests."""
    context = server.app.router.lifespan_context(server.app)
    server.loop.run(context.__aenter__())
    try:
        yield
    finally:
        server.loop.run(context.__aexit__(None, None, None))


def test_a_running_server_sends_by_itself(sqlite, receiver):
    """Within a second or so."""
    with closing(TalkingServer(sqlite)) as server:
        webhook, _ = make(server, receiver)
        with lifespan(server):
            server.ask("POST", f"/webhooks/{webhook}/test")
            for _ in range(600):
                server.loop.run(asyncio.sleep(0.05))  # it sends while the loop runs, and no sooner
                if receiver.got:
                    break
            while deliveries(server, webhook)[0][1] != "done":
                server.loop.run(asyncio.sleep(0.2))
        assert len(receiver.got) == 1


def test_admins_see_how_webhooks_do(server, receiver):
    """On the page about access: what the last notice came to."""
    webhook, _ = make(server, receiver, name="the <chat>")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    server.request("POST", "/login", content=f"token={server.token('admin')}", headers=form)
    assert "none yet" in server.request("GET", "/access").text
    receiver.status = 500
    server.ask("POST", f"/webhooks/{webhook}/test")
    send(server)
    page = server.request("GET", "/access").text
    for words in ("the &lt;chat&gt;", "everything", "waiting", "it answered 500"):
        assert words in page
