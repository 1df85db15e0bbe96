"""Looks: what agents saw of their hosts, over the fleet; through the real application."""

from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from kmend.fleet.store.looks import remove_unused_sets
from kmend.fleet.store.tables import CVE_SETS, REACH_GROUPS, SET_CVES
from kmend.model import wire
from kmend.model.finding import Severity
from kmend.model.look import CHECKS, CVES, GROUPS, NAMES, Look, Told
from makers.looks import make_audit, make_cves, make_exposure, make_group, make_look
from makers.server import TalkingServer


@pytest.fixture
def server(database):
    """The server on each kind of database."""
    with closing(TalkingServer(database)) as opened:
        yield opened


def enrol(server, number):
    """A host, its credential and its id."""
    credential = server.enrol(f"web-{number}", secret=f"{number + 1:064x}")
    return credential, credential.split(".")[1]


def send(server, credential, look):
    """The agent's look; the answer."""
    return server.ask("PUT", "/agent/look", bearer=credential, json=wire.plain(look))


def count(server, table):
    """Rows."""
    with server.database.reading() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def containers(server, cve, **query):
    """All pages of an answer: (host's name, reach, containers, how many)."""
    found, cursor = [], None
    while True:
        asked = {**query, **({"cursor": cursor} if cursor else {})}
        page = server.ask("GET", f"/cves/{cve}/containers", role="viewer", params=asked).json()
        found += [(one["name"], one["reach"], one["containers"], one["count"]) for one in page["items"]]
        cursor = page["next"]
        if not cursor:
            return found


def test_a_look_is_kept_and_comes_back_whole(server):
    """What the agent sent is what viewers read; the next one takes its place."""
    credential, host = enrol(server, 0)
    assert server.ask("GET", f"/hosts/{host}/look", role="viewer").status_code == 404
    look = make_look()
    answer = send(server, credential, look)
    assert (answer.status_code, answer.content) == (204, b"")
    found = server.ask("GET", f"/hosts/{host}/look", role="viewer").json()
    assert wire.load(Look, wire.dump(found["look"]), what="a look") == look
    later = replace(look, at=look.at + timedelta(days=1), exposure=None, errors=("no records",))
    server.later(days=1)
    assert send(server, credential, later).status_code == 204
    found = server.ask("GET", f"/hosts/{host}/look", role="viewer").json()
    assert wire.load(Look, wire.dump(found["look"]), what="a look") == later
    assert count(server, REACH_GROUPS) == 0


def test_which_containers_can_reach_a_cve(server):
    """Over all hosts, page by page, those that can apart from those of which it could not be told."""
    hosts = sorted((enrol(server, number) for number in range(5)), key=lambda pair: pair[1])
    for credential, _ in hosts:
        send(server, credential, make_look())
    names = [server.ask("GET", f"/hosts/{host}").json()["name"] for _, host in hosts]
    expected = [
        one for name in names for one in ((name, "reachable", ["web"], 1), (name, "could-not-tell", ["db"], 1))
    ]
    assert containers(server, "CVE-2026-1003") == expected
    for limit in (1, 2, 3, 9, 10):
        assert containers(server, "cve-2026-1003", limit=limit) == expected
    sure = [one for one in expected if one[1] == "reachable"]
    assert containers(server, "CVE-2026-1003", limit=2, reach="reachable") == sure
    assert containers(server, "CVE-2026-9999") == []
    for path in ("/cves/hello/containers", "/cves/CVE-2026-1003/containers?reach=maybe"):
        assert server.ask("GET", path).status_code == 400
    for cursor in ("bm8=", "WyJhIl0=", "WyJhIiwgImIiXQ=="):
        answer = server.ask("GET", "/cves/CVE-2026-1003/containers", params={"cursor": cursor})
        assert answer.status_code == 404


def test_the_worst_of_the_fleet_comes_first(server):
    """CVEs: exploited ones, then by score, then by containers; checks: by severity, then by hosts."""
    (first, one), (second, _) = enrol(server, 0), enrol(server, 1)
    send(server, first, make_look())
    more = (*make_look().audit.failed, *make_audit((("kernel-kptr", Severity.CRITICAL, 1),)).failed)
    audit = replace(make_look().audit, failed=more)
    group = make_group("a", "b", "c", cves=make_cves(1002), count=900)
    send(server, second, make_look(audit=audit, exposure=make_exposure(group)))
    found = server.ask("GET", "/cves", role="viewer").json()["items"]
    assert [(item["cve"], item["exploited"], item["hosts"], item["containers"]) for item in found] == [
        ("CVE-2026-1003", True, 1, 1),
        ("CVE-2026-1002", False, 2, 902),
        ("CVE-2026-1001", False, 1, 2),
    ]
    found = server.ask("GET", "/checks", role="viewer").json()["items"]
    assert [(item["check"], item["severity"], item["hosts"], item["subjects"]) for item in found] == [
        ("kernel-kptr", "critical", 1, 1),
        ("container-privileged", "high", 2, 4),
    ]
    assert [bool(item["title"]) for item in found] == [False, True]
    counts = server.ask("GET", "/summary").json()
    assert [counts[name] for name in ("looked_at", "failing", "exposed")] == [2, 2, 2]
    server.ask("DELETE", f"/hosts/{one}")
    assert [item["cve"] for item in server.ask("GET", "/cves").json()["items"]] == ["CVE-2026-1002"]
    assert server.ask("GET", "/summary").json()["looked_at"] == 1


def test_hosts_with_the_same_open_cves_share_them(server):
    """A hundred hosts with one kernel keep its CVEs once; what nobody has any more is removed, in time."""
    hosts = [enrol(server, number)[0] for number in range(3)]
    for credential in hosts:
        send(server, credential, make_look())
    assert (count(server, CVE_SETS), count(server, SET_CVES), count(server, REACH_GROUPS)) == (2, 3, 9)
    server.later(days=3)
    for credential in hosts:
        send(server, credential, make_look(exposure=make_exposure(make_group("db", cves=make_cves(1001)))))
    assert count(server, CVE_SETS) == 3
    with server.database.writing() as connection:
        assert remove_unused_sets(connection, server.now, 100) == 2
    assert (count(server, CVE_SETS), count(server, SET_CVES)) == (1, 1)
    assert [one[0] for one in sorted(containers(server, "CVE-2026-1001"))] == ["web-0", "web-1", "web-2"]


def test_many_hosts_send_the_same_at_once(server):
    """None waits for another for ever, and the set is there once."""
    hosts = [enrol(server, number)[0] for number in range(8)]
    answers = server.ask_together("PUT", "/agent/look", [(one, wire.plain(make_look())) for one in hosts])
    assert {answer.status_code for answer in answers} == {204}
    assert (count(server, CVE_SETS), count(server, REACH_GROUPS)) == (2, 24)


def test_only_the_host_itself_says_what_is_on_it(server):
    """No token of a person, and no credential of a removed host."""
    credential, host = enrol(server, 0)
    assert server.ask("PUT", "/agent/look", json=wire.plain(make_look())).status_code == 401
    assert server.ask("GET", f"/hosts/{host}/look", role="enrol").status_code == 403
    server.ask("DELETE", f"/hosts/{host}")
    assert send(server, credential, make_look()).status_code == 401


LONG = "x" * 301
TOO_MUCH = {
    "checks": make_look(audit=make_audit([(f"c-{one}", Severity.LOW, 1) for one in range(CHECKS + 1)])),
    "subject": make_look(audit=make_audit([(LONG, Severity.LOW, 1)])),
    "count": make_look(audit=make_audit([("c", Severity.LOW, -1)])),
    "groups": make_look(exposure=make_exposure(*[make_group("a", cves=make_cves(1234))] * (GROUPS + 1))),
    "names": make_look(exposure=make_exposure(make_group(*["a"] * (NAMES + 1), cves=()))),
    "name": make_look(exposure=make_exposure(make_group(LONG, cves=()))),
    "cves": make_look(exposure=make_exposure(make_group("a", cves=make_cves(*range(1000, 1001 + CVES))))),
    "cve": make_look(exposure=make_exposure(make_group("a", cves=make_cves("<b>")))),
    "score": make_look(exposure=make_exposure(make_group("a", cves=make_cves(1234, score=11)))),
    "verdict": make_look(exposure=make_exposure(verdicts={"": 1})),
    "errors": make_look(errors=("e",) * 21),
}


@pytest.mark.parametrize("look", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_look_that_says_too_much_is_refused(sqlite, look):
    """With a reason, and nothing of it is kept."""
    with closing(TalkingServer(sqlite)) as server:
        credential, host = enrol(server, 0)
        answer = send(server, credential, look)
        assert answer.status_code == 400, answer.text
        assert answer.json()["detail"]
        assert server.ask("GET", f"/hosts/{host}/look").status_code == 404


def test_what_is_said_twice_counts_once_and_what_is_newer_is_left_out(server):
    """A host that repeats itself is no error; fields of newer agents are passed over."""
    credential, host = enrol(server, 0)
    twice = make_group("a", cves=make_cves(1001) + make_cves(1001))
    look = wire.plain(make_look(audit=make_audit([("c", Severity.LOW, 1)] * 2), exposure=make_exposure(twice)))
    look |= {"novelty": 1}
    look["exposure"]["groups"][0]["cves"][0]["novelty"] = [1]
    assert server.ask("PUT", "/agent/look", bearer=credential, json=look).status_code == 204
    found = server.ask("GET", f"/hosts/{host}/look").json()["look"]
    assert [one["cve"] for one in found["exposure"]["groups"][0]["cves"]] == ["CVE-2026-1001"]
    assert server.ask("GET", "/checks").json()["items"][0]["hosts"] == 1


def test_hostile_names_are_only_text(server):
    """Markup, escape sequences and quotes come back as they are in JSON, and do nothing on the way."""
    credential, _ = enrol(server, 0)
    names = ("<script>alert(1)</script>", "\x1b[2J", "'; DROP TABLE hosts; --", "\u202e", "a" * 300)
    send(server, credential, make_look(exposure=make_exposure(make_group(*names, cves=make_cves(1001)))))
    assert containers(server, "CVE-2026-1001") == [("web-0", Told.REACHABLE, list(names), len(names))]
    nul = make_look(exposure=make_exposure(make_group("a\0b", cves=make_cves(1001))))
    assert send(server, credential, nul).status_code == 400
