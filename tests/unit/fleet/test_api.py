"""The REST API, through the real application."""

import json
import re
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from kmend.fleet.api.call import Settings, settings_for
from kmend.fleet.api.endpoint import Bearer
from kmend.fleet.api.table import ENDPOINTS
from kmend.fleet.app import first_admin_token
from kmend.fleet.checks import check_selector
from kmend.fleet.store import tokens as tokens_module
from kmend.fleet.store.tables import HOSTS, LISTENING
from kmend.kit.errors import InputError
from kmend.model import wire
from kmend.model.fleet import Role
from kmend.model.rollout import BackTo, RolloutPlan, Target, Wave
from makers.fleet import make_plan, make_report
from makers.nouns import KERNEL, NOW
from makers.server import SECRET, TalkingServer


@pytest.fixture
def serve():
    """Makes servers, and closes them in the end."""
    with ExitStack() as opened:
        yield lambda database, **more: opened.enter_context(closing(TalkingServer(database, **more)))


@pytest.fixture
def server(sqlite, serve):
    """The server on SQLite."""
    return serve(sqlite)


def begin(server, plan=None, **more):
    """A rollout; the answer."""
    plan = plan or make_plan(3, waves=(Wave(soak=0),))
    return server.ask("POST", "/rollouts", role="operator", json={"plan": wire.plain(plan), **more})


def check_problem(answer, status):
    """The answer is a problem as RFC 9457 has it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told["type"].startswith("urn:kmend:problem:")
    assert told["detail"]
    return told


def test_from_enrolment_to_a_patched_host(database, serve):
    """The whole way by HTTP, on both databases: enrol, report, be offered, apply, report, be done."""
    server = serve(database)
    host = server.enrol(labels={"zone": "a"})
    first = server.check_in(host).json()
    assert first["offer"]["action"] == "stay"
    assert first["interval"] == 300
    rollout = begin(server).json()
    second = server.check_in(host).json()
    assert (second["offer"]["action"], second["offer"]["number"]) == ("apply", 3)
    assert second["offer"]["because"] == "rollout “to 3” brings livepatch 3 to this host"
    assert second["interval"] == 60
    server.later(minutes=1)
    server.check_in(host, make_report(3))
    server.later(minutes=1)
    assert server.check_in(host, make_report(3)).json()["offer"]["because"] == "livepatch 3 runs, as it should"
    now = server.ask("GET", f"/rollouts/{rollout['id']}", role="viewer").json()
    assert (now["state"], now["health"]["done"]) == ("finished", 1)
    assert server.ask("GET", "/summary", role="viewer").json()["safe"] == 1
    (part,) = server.ask("GET", f"/rollouts/{rollout['id']}/hosts").json()["items"]
    assert (part["name"], part["stage"]) == ("web-1", "done")
    told = [event["kind"] for event in server.ask("GET", "/events").json()["items"]]
    assert told[::-1] == ["host-enrolled", "rollout", "host-offered", "host-updated", "rollout"]


def test_hosts_that_check_in_together_are_answered_each_for_itself(database, serve):
    """Good ones, a wrong secret, a removed host, a body that is none, one that asks twice; all at once."""
    server = serve(database)
    hosts = [server.enrol(f"web-{number}", secret=f"{number:064x}") for number in range(12)]
    begin(server, make_plan(3, max_concurrent=2))
    server.ask("DELETE", f"/hosts/{hosts[0].split('.')[1]}")
    wrong = hosts[1].rpartition(".")[0] + "." + "e" * 64
    report = wire.plain(make_report())
    asked = [(one, report) for one in (*hosts, wrong, hosts[5])] + [(hosts[2], {"at": "never"})]
    answers = server.ask_together("POST", "/check-in", asked)
    statuses = [answer.status_code for answer in answers]
    assert statuses == [401, *[200] * 11, 401, 200, 400]
    offers = [answer.json()["offer"] for answer in answers if answer.status_code == 200]
    assert sum(offer["action"] == "apply" for offer in offers[:11]) == 2


@pytest.mark.parametrize(("interval", "silence"), [(300, 900), (60, 180), (10, 180)])
def test_a_host_that_loads_a_livepatch_is_not_silent(interval, silence):
    """Three intervals, but never less than loading one and taking it back may take."""
    assert settings_for(interval, keep_days=90).silence == silence


def test_one_that_makes_the_transaction_fail_does_not_take_the_others_along(server):
    """Its own answer is an error, all others are on the disk."""
    hosts = [server.enrol(f"web-{number}", secret=f"{number:064x}") for number in range(4)]
    for host in hosts:
        server.check_in(host)
    with server.database.writing() as connection:
        connection.execute(sa.update(HOSTS).where(HOSTS.c.id == hosts[2].split(".")[1]).values(report="!"))
    report = wire.plain(make_report(3))
    statuses = [one.status_code for one in server.ask_together("POST", "/check-in", [(h, report) for h in hosts])]
    assert statuses[:2] + statuses[3:] == [200] * 3
    assert statuses[2] >= 400
    with server.database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM hosts WHERE running = 3").scalar_one() == 3


def test_a_one_time_token_enrols_one_host(server):
    """The same host may ask again, when it did not hear the answer; another one may not."""
    asked = {"name": "once", "role": "enrol", "uses": 1, "channel": "edge", "labels": {"zone": "b"}}
    once = server.ask("POST", "/tokens", json=asked).json()["text"]
    body = {"name": "db-1", "secret": SECRET, "labels": {"zone": "a", "rack": "7"}}
    first = server.ask("POST", "/enrol", bearer=once, json=body)
    again = server.ask("POST", "/enrol", bearer=once, json=body)
    assert first.json() == again.json()
    assert first.json()["channel"] == "edge"
    assert first.json()["labels"] == {"zone": "b", "rack": "7"}
    other = server.ask("POST", "/enrol", bearer=once, json={**body, "secret": "cd" * 32})
    assert "used up" in check_problem(other, 403)["detail"]
    assert len(server.ask("GET", "/hosts").json()["items"]) == 1


def test_a_host_changes_its_secret_and_may_be_killed_in_between(server):
    """The old secret holds until the new one was used, then only the new one does."""
    old = server.enrol()
    new_secret = "ef" * 32
    changed = server.ask("PUT", "/agent/secret", bearer=old, json={"secret": new_secret})
    assert changed.status_code == 204
    assert server.check_in(old).status_code == 200
    new = old.replace(SECRET, new_secret)
    assert server.check_in(new).status_code == 200
    check_problem(server.check_in(old), 401)


def test_a_removed_host_has_to_enrol_again(server):
    """Its credential is gone with it."""
    credential = server.enrol()
    host = credential.split(".")[1]
    assert server.ask("DELETE", f"/hosts/{host}", role="operator").status_code == 204
    check_problem(server.check_in(credential), 401)
    check_problem(server.ask("GET", f"/hosts/{host}"), 404)


def test_hosts_by_selector_group_and_page(server):
    """Pages follow each other by the cursor until there is none."""
    for number in range(5):
        secret = f"{number:064x}"
        credential = server.enrol(f"web-{number}", secret=secret, labels={"zone": "ab"[number % 2]})
        server.check_in(credential, make_report(3 if number else None))
    names, cursor = [], ""
    while cursor is not None:
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = server.ask("GET", "/hosts", role="viewer", params=params).json()
        names += [host["name"] for host in page["items"]]
        cursor = page["next"]
    assert sorted(names) == [f"web-{number}" for number in range(5)]
    server.ask("PUT", "/groups/even", role="operator", json={"selector": "zone=a"})
    found = server.ask("GET", "/hosts", params={"group": "even", "running": "3"}).json()["items"]
    assert sorted(host["name"] for host in found) == ["web-2", "web-4"]
    server.later(minutes=16)
    assert len(server.ask("GET", "/hosts", params={"silent": "true"}).json()["items"]) == 5
    assert server.ask("GET", "/summary").json()["silent"] == 5


def test_a_hosts_labels_and_channel_can_be_changed(server):
    """What is left out stays; the history of reports is there."""
    credential = server.enrol(labels={"zone": "a"})
    path = f"/hosts/{credential.split('.')[1]}"
    server.check_in(credential)
    server.check_in(credential, make_report(3))
    changed = server.ask("PATCH", path, role="operator", json={"channel": "edge"}).json()
    assert (changed["channel"], changed["labels"]) == ("edge", {"zone": "a"})
    assert server.ask("PATCH", path, json={"labels": {}}).json()["labels"] == {}
    check_problem(server.ask("PATCH", path, json={"channel": "none"}), 404)
    kept = server.ask("GET", f"{path}/reports").json()["items"]
    assert [one["report"]["running"] for one in kept] == [3, None]


def test_pause_resume_abort_and_rollback(server):
    """Each by its own address, with the reason kept; what does not go is a conflict."""
    rollout = begin(server).json()
    path = f"/rollouts/{rollout['id']}"
    paused = server.ask("POST", f"{path}/pause", role="operator", json={"reason": "lunch"}).json()
    assert paused["state"] == "paused"
    assert paused["reason"].endswith(": lunch")
    check_problem(server.ask("POST", f"{path}/pause", json={}), 409)
    check_problem(begin(server, make_plan(4)), 409)
    assert server.ask("POST", f"{path}/resume", json={}).json()["state"] == "running"
    back = {"back_to": [wire.plain(BackTo(build_id=KERNEL.build_id, number=2))], "reason": "slow"}
    wrong = {"back_to": [{"build_id": KERNEL.build_id, "number": 3}]}
    assert "no way back" in check_problem(server.ask("POST", f"{path}/rollback", json=wrong), 409)["detail"]
    assert server.ask("POST", f"{path}/rollback", json=back).json()["state"] == "rolled-back"
    check_problem(server.ask("POST", f"{path}/abort", json={}), 409)
    (block,) = server.ask("GET", "/blocks").json()["items"]
    assert block["number"] == 3
    assert server.ask("DELETE", f"/blocks/{KERNEL.build_id}/3").status_code == 204
    check_problem(server.ask("DELETE", f"/blocks/{KERNEL.build_id}/3"), 404)
    actions = [record["action"] for record in server.ask("GET", "/audit").json()["items"]]
    assert actions[:5] == ["unblock", "block", "rollout-rollback", "rollout-resume", "rollout-pause"]


def test_rollouts_of_a_group_by_page(server):
    """The group's selector stands beside the plan's own; the newest rollout comes first."""
    server.ask("PUT", "/groups/web", json={"selector": "role=web"})
    for number in range(3):
        server.later(minutes=1)
        build_id = f"{number:040x}"
        plan = RolloutPlan(name=f"n{number}", channel="stable", livepatches=(Target(build_id=build_id, number=1),))
        assert begin(server, plan, group="web").json()["plan"]["selector"] == "role=web"
    first = server.ask("GET", "/rollouts", params={"limit": 2}).json()
    rest = server.ask("GET", "/rollouts", params={"limit": 2, "cursor": first["next"]}).json()
    assert [one["plan"]["name"] for one in (*first["items"], *rest["items"])] == ["n2", "n1", "n0"]
    assert rest["next"] is None
    assert server.ask("GET", "/rollouts", params={"state": "paused"}).json()["items"] == []
    check_problem(begin(server, group="none"), 404)


def test_a_paused_channel_offers_nothing(server):
    """And says why."""
    credential = server.enrol()
    server.check_in(credential)
    begin(server)
    server.ask("PUT", "/channels/stable", role="operator", json={"paused": True, "reason": "holidays"})
    assert server.check_in(credential).json()["offer"]["because"] == "channel stable is paused: holidays"
    server.ask("PUT", "/channels/stable", json={})
    assert server.check_in(credential).json()["offer"]["action"] == "apply"
    assert [one["name"] for one in server.ask("GET", "/channels").json()["items"]] == ["edge", "stable"]


def test_events_that_came_later(server):
    """A follower asks for what came after the last one it has seen."""
    credential = server.enrol()
    server.check_in(credential)
    newest = server.ask("GET", "/events", params={"limit": 1}).json()["items"][0]["id"]
    server.check_in(credential, make_report(3))
    later = server.ask("GET", "/events", params={"after": newest}).json()
    assert [event["text"] for event in later["items"]] == ["web-1 runs livepatch 3"]
    assert later["next"] is None


# Who may what.

ROLES = ["enrol", "viewer", "operator", "admin"]


def address_of(endpoint):
    """An address of an endpoint, its parameters filled with something."""
    return re.sub(r"{\w+}", "x1", endpoint.path)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: f"{one.method} {one.path}")
def test_every_endpoint_wants_its_role_and_nothing_less(server, endpoint):
    """No token, a wrong one, a host's, and each role: who may not gets 401 or 403, whatever is asked."""
    more = {"json": {}} if endpoint.body else {}
    method = "HEAD" if endpoint.stream else endpoint.method  # a stream's body would not end

    def status(**who):
        return server.ask(method, address_of(endpoint), **who, **more).status_code

    assert status(role=None) == 401
    assert status(bearer="kmend_first-admin.wrongwrongwrongwrongwrong") == 401
    host = server.enrol()
    if endpoint.needs == Bearer.HOST:
        assert [status(role=role) for role in ROLES] == [401] * 4
        assert status(bearer=host) not in {401, 403}
        return
    assert status(bearer=host) == 401
    if endpoint.needs == Role.ENROL:
        allowed = [True, False, False, False]
    else:
        allowed = [ROLES.index(role) >= ROLES.index(endpoint.needs) and role != "enrol" for role in ROLES]
    assert [status(role=role) != 403 for role in ROLES] == allowed


def test_expired_and_revoked_tokens(server):
    """Neither holds; revoking is in the audit log."""
    made = server.ask("POST", "/tokens", json={"name": "ci", "role": "viewer", "days": 1}).json()
    assert server.ask("GET", "/whoami", bearer=made["text"]).json()["name"] == "ci"
    server.later(days=1)
    check_problem(server.ask("GET", "/whoami", bearer=made["text"]), 401)
    other = server.ask("POST", "/tokens", json={"name": "ci", "role": "viewer"}).json()
    assert server.ask("DELETE", f"/tokens/{other['token']['id']}").status_code == 204
    check_problem(server.ask("GET", "/whoami", bearer=other["text"]), 401)
    listed = server.ask("GET", "/tokens")
    assert other["text"].split(".")[1] not in listed.text
    check_problem(server.ask("POST", "/tokens", json={"name": "x", "role": "viewer", "uses": 1}), 400)


def test_too_many_wrong_tokens_lock_out_but_not_the_hosts(server):
    """Ten from one address: then even a good token has to wait, while good hosts are served."""
    host = server.enrol()
    for _ in range(10):
        answer = server.ask("GET", "/whoami", bearer="kmend_nobody." + "x" * 43)
        assert check_problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    locked = server.ask("GET", "/whoami")
    check_problem(locked, 429)
    assert 0 < int(locked.headers["retry-after"]) <= 61
    assert server.check_in(host).status_code == 200
    for _ in range(11):
        strange = server.check_in("kmend-host.nobody." + "0" * 64)
    check_problem(strange, 429)
    assert server.check_in(host).status_code == 200
    server.later(minutes=2)
    assert server.ask("GET", "/whoami").status_code == 200


def test_the_first_admin_token_is_made_once(sqlite):
    """A second start makes none, unless one is asked for."""
    assert first_admin_token(sqlite, moment=NOW)
    assert first_admin_token(sqlite, moment=NOW) is None
    assert first_admin_token(sqlite, moment=NOW, again=True)


# What is not as it should be.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b"\xff\xfe",
        b'{"name": 1}',
        b"[" * 100_000,
        b'{"at": "yesterday"}',
        b'{"name": NaN}',
        b'{"name": "\\u0000", "secret": ""}',
        b'{"name": "\\ud800", "secret": ""}',
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
@pytest.mark.parametrize("path", ["/check-in", "/rollouts", "/tokens", "/enrol"])
def test_malformed_bodies_are_the_clients_fault(server, path, body):
    """Always 400 with a reason; never a failure of the server."""
    who = {"/check-in": {"bearer": server.enrol()}, "/enrol": {"role": "enrol"}}.get(path, {})
    answer = server.ask("POST", path, content=body, headers={"Content-Type": "application/json"}, **who)
    check_problem(answer, 400)


def bent(report, **change):
    """A report with something in it that cannot be."""
    return {**wire.plain(report), **change}


@pytest.mark.parametrize(
    "change",
    [
        {"running": 0},
        {"running": 1 << 60},
        {"running": True},
        {"running": 1.5},
        {"phase": "flying"},
        {"kernel": {"release": "x", "version": "x", "build_id": "../../etc"}},
        {"at": "2026-11-01T12:00:00"},
        {"note": "x" * 3000},
        {"boot_id": ""},
    ],
)
def test_reports_that_cannot_be(server, change):
    """Each is refused, and the host stays as it was."""
    credential = server.enrol()
    answer = server.ask("POST", "/check-in", bearer=credential, json=bent(make_report(), **change))
    check_problem(answer, 400)
    assert server.ask("GET", f"/hosts/{credential.split('.')[1]}").json()["report"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"waves": []},
        {"livepatches": []},
        {"livepatches": [{"build_id": "no", "number": 1}]},
        {"waves": [{"percent": 0}]},
        {"waves": [{"percent": 101}]},
        {"waves": [{"soak": -1}]},
        {"waves": [{"selector": "a b"}]},
        {"max_concurrent": -1},
        {"name": " "},
        {"limits": {"failed": 101}},
        {"limits": []},
        {"max_concurent": 5},
        {"waves": [{"percents": 1}]},
    ],
)
def test_plans_that_cannot_be(server, change):
    """Each is refused with what is wrong."""
    plan = {**wire.plain(make_plan()), **change}
    check_problem(server.ask("POST", "/rollouts", json={"plan": plan}), 400)
    assert server.ask("GET", "/rollouts").json()["items"] == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/hosts?chanel=edge", 400),
        ("/hosts?limit=1&limit=2", 400),
        ("/hosts?limit=0", 400),
        ("/hosts?limit=1001", 400),
        ("/hosts?limit=%D9%A3", 400),
        ("/hosts?cursor=nonsense", 404),
        ("/hosts?selector=a%20b", 400),
        ("/hosts?selector=%00", 400),
        ("/hosts?silent=perhaps", 400),
        ("/hosts?group=none", 404),
        ("/rollouts?state=odd", 400),
        ("/rollouts?cursor=WyIxIl0=", 404),
        ("/events?after=1&cursor=WyIxIl0=", 400),
        ("/events?cursor=WyJ4Il0=", 404),
        ("/nowhere", 404),
        ("/rollouts/r0", 404),
        ("/rollouts/r0/hosts", 404),
    ],
)
def test_addresses_that_mean_nothing(server, path, status):
    """A misspelt filter must not select everything."""
    check_problem(server.ask("GET", path), status)


def test_methods_types_and_sizes(server):
    """405 with Allow, 415, 413; each as a problem."""
    wrong = server.ask("DELETE", "/summary")
    check_problem(wrong, 405)
    assert "GET" in wrong.headers["allow"]
    assert {"GET", "POST"} <= set(server.ask("DELETE", "/rollouts").headers["allow"].split(", "))
    assert server.ask("HEAD", "/summary").status_code == 200
    check_problem(server.ask("POST", "/rollouts", content=b"{}"), 415)
    check_problem(server.ask("POST", "/rollouts", json={"x": "y" * 300_000}), 413)


def test_a_server_with_too_much_to_do_says_when_to_come_back(sqlite, serve):
    """Politely, before anything was read."""
    server = serve(sqlite, settings=Settings(most_waiting=0, most_people=0))
    for answer in (server.ask("GET", "/summary"), server.check_in("anybody")):
        check_problem(answer, 503)
        assert 5 <= int(answer.headers["retry-after"]) <= 60


def test_who_asks_too_often_is_sent_away(sqlite, serve):
    """A token by itself: others, and hosts, are served; on the pages it is the same."""
    server = serve(sqlite, settings=Settings(per_second=0.05, at_once=3))
    viewer, operator = server.token("viewer"), server.token("operator")
    assert [server.ask("GET", "/summary", bearer=viewer).status_code for _ in range(3)] == [200, 200, 200]
    sent_away = server.ask("GET", "/summary", bearer=viewer)
    assert "“a viewer”" in check_problem(sent_away, 429)["detail"]
    assert 1 <= int(sent_away.headers["retry-after"]) <= 20
    assert server.request("GET", "/hosts", headers={"Cookie": f"kmend_token={viewer}"}).status_code == 429
    assert server.ask("GET", "/summary", bearer=operator).status_code == 200
    credential = server.enrol()
    assert {server.check_in(credential).status_code for _ in range(5)} == {200}


def test_a_crowd_of_agents_does_not_keep_people_out(sqlite, serve):
    """Whoever wants to pause a channel gets in."""
    server = serve(sqlite, settings=Settings(most_waiting=0))
    assert server.check_in("anybody").status_code == 503
    assert server.ask("PUT", "/channels/stable", json={"paused": True}).status_code == 200


def test_a_database_that_went_away(server):
    """503 with Retry-After, and nothing of the database's words; health says the same."""
    server.database.engine.dispose()
    path = server.database.engine.url.database
    for name in (path, f"{path}-wal", f"{path}-shm"):
        open(name, "wb").write(b"gone" * 2048)  # noqa: PTH123, SIM115 - a damaged file
    answer = server.ask("GET", "/summary")
    told = check_problem(answer, 503)
    assert int(answer.headers["retry-after"]) > 0
    assert "sqlite" not in json.dumps(told).lower()
    for path in ("/healthz", "/readyz"):
        check_problem(server.request("GET", path), 503)


def test_what_was_not_foreseen_stands_in_the_log_only(server, monkeypatch, caplog):
    """The client gets a problem without details."""
    monkeypatch.setattr("kmend.fleet.api.hosts.summary", lambda *_: 1 / 0)
    told = check_problem(server.ask("GET", "/summary"), 500)
    assert "division" not in json.dumps(told)
    assert "ZeroDivisionError" in caplog.text


def test_health(server):
    """For load balancers, without a token."""
    for path in ("/healthz", "/readyz"):
        assert server.request("GET", path).json() == {"status": "ok"}


def test_an_outage_is_noticed_though_somebody_asked_whether_the_server_is_ready(server):
    """Whoever asks first after it: hosts are given time to report."""
    server.request("GET", "/readyz")
    server.later(hours=5)
    server.request("GET", "/readyz")
    with server.database.reading() as connection:
        kept = connection.execute(sa.select(LISTENING)).one()
    assert kept.last == server.now
    assert kept.grace_until > server.now


def test_nothing_secret_is_logged(server, caplog):
    """Neither tokens nor hosts' secrets, at any level."""
    caplog.set_level(0)
    credential = server.enrol()
    server.check_in(credential)
    server.ask("GET", "/whoami", bearer="kmend_nobody." + "x" * 43)
    for secret in (SECRET, "x" * 43, server.token("admin").split(".")[1]):
        assert secret not in caplog.text


def test_the_repository_is_served_as_files(sqlite, serve, tmp_path):
    """Under /repository, and nothing outside of it."""
    (tmp_path / "repo/metadata").mkdir(parents=True)
    (tmp_path / "repo/metadata/timestamp.json").write_text("{}")
    (tmp_path / "secret").write_text("no")
    server = serve(sqlite, repository=tmp_path / "repo")
    assert server.request("GET", "/repository/metadata/timestamp.json").text == "{}"
    assert server.request("GET", "/repository/../secret").status_code == 404
    assert server.request("GET", "/repository/%2e%2e/secret").status_code == 404


# The OpenAPI document.


def test_the_document_describes_every_endpoint(server):
    """Each operation with its own id, and no reference that leads nowhere."""
    document = server.request("GET", "/api/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) == len(ENDPOINTS)
    assert len({operation["operationId"] for operation in operations}) == len(ENDPOINTS)
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert references == set(document["components"]["schemas"])
    plan = document["components"]["schemas"]["RolloutPlan"]
    assert plan["required"] == ["name", "channel", "livepatches"]
    assert "null" in json.dumps(document["components"]["schemas"]["HostReport"]["properties"]["running"])


def test_the_token_of_a_second_server_on_the_same_database(server, sqlite, serve):
    """No state in the process: another replica knows everything at once."""
    other = serve(sqlite)
    assert other.tokens == {"admin": None}
    credential = server.enrol()
    other.now = NOW + timedelta(minutes=1)
    assert other.check_in(credential).status_code == 200
    assert other.ask("GET", "/whoami", bearer=server.token("viewer")).status_code == 200


def test_a_plan_that_names_a_kernel_twice_is_a_conflict(server):
    """Whichever number it gives."""
    twice = tuple(Target(build_id=KERNEL.build_id, number=number) for number in (1, 2))
    check_problem(begin(server, make_plan(livepatches=twice)), 409)


def test_a_whole_number_may_have_a_point(server):
    """3.0 is 3 in JSON schema, and half a host is none."""
    made = server.ask("POST", "/tokens", json={"name": "x", "role": "viewer", "days": 3.0})
    assert made.status_code == 201
    check_problem(server.ask("POST", "/tokens", json={"name": "x", "role": "enrol", "uses": 0.5}), 400)


def test_a_list_is_no_object_even_where_every_field_may_be_left_out(server):
    """It would pass for one that says nothing."""
    check_problem(server.ask("PUT", "/channels/stable", json=[None]), 400)


def test_the_document_and_the_checks_agree(server):
    """What the document calls a selector, a label, a name or a build id is what the checks take."""
    schemas = server.request("GET", "/api/v1/openapi.json").json()["components"]["schemas"]
    pattern = re.compile(schemas["Wave"]["properties"]["selector"]["pattern"])
    for text in ("", "env=prod", "a!=b,!c", "zone in (a,b)", "x notin (y)", "a b", "a,", "=", "in (a)", "a=b c"):
        try:
            check_selector(text)
        except InputError:
            assert not pattern.search(text), text
        else:
            assert pattern.search(text), text
    assert schemas["RolloutPlan"]["additionalProperties"] is False
    assert schemas["HostReport"]["additionalProperties"] is True


def test_an_agent_may_be_newer_than_the_server(server):
    """Fields that this server does not know are left out."""
    answer = server.ask("POST", "/check-in", bearer=server.enrol(), json=bent(make_report(), colour="blue"))
    assert answer.status_code == 200


def test_the_page_names_every_endpoint():
    """docs/reference/fleet-api.md says of each path that it is there."""
    page = (Path(__file__).parents[3] / "docs/reference/fleet-api.md").read_text()
    missing = [
        one.path for one in ENDPOINTS if one.path not in page and f"/{one.path.rpartition('/')[2]}`" not in page
    ]
    assert missing == []


def test_many_hosts_enrol_together(database, serve):
    """One transaction takes in those whose words hold; the same secret twice is one host, and one use."""
    server = serve(database)
    made = server.ask("POST", "/tokens", json={"name": "rack", "role": "enrol", "uses": 3}).json()
    secrets = [f"{number:064x}" for number in (1, 2, 2, 3)]
    asked = [(made["text"], {"name": f"web-{at}", "secret": secret}) for at, secret in enumerate(secrets)]
    asked += [(made["text"], {"name": "odd", "secret": "short"}), ("kmend_x.y", asked[0][1])]
    answers = server.ask_together("POST", "/enrol", asked)
    assert [one.status_code for one in answers] == [201, 201, 201, 201, 400, 401]
    ids = [one.json()["host"] for one in answers[:4]]
    assert ids[1] == ids[2]
    assert len(set(ids)) == 3
    assert [one["uses_left"] for one in server.ask("GET", "/tokens").json()["items"] if one["name"] == "rack"] == [
        0
    ]
    fourth = server.ask("POST", "/enrol", bearer=made["text"], json={"name": "late", "secret": f"{9:064x}"})
    check_problem(fourth, 403)
    assert server.ask("GET", "/summary").json()["hosts"] == 3


def test_a_token_that_held_is_known_faster_until_it_is_revoked(server, monkeypatch):
    """The slow hash is made once; a wrong secret pays for it every time."""
    text = server.token("viewer")
    slow = []
    real = tokens_module._slow_hash
    monkeypatch.setattr(tokens_module, "_slow_hash", lambda *words: slow.append(1) or real(*words))
    for _ in range(3):
        assert server.ask("GET", "/summary", bearer=text).status_code == 200
    assert len(slow) == 1
    for _ in range(2):
        check_problem(server.ask("GET", "/summary", bearer=text[:-1] + ("A" if text[-1] != "A" else "B")), 401)
    assert len(slow) == 3
    assert server.ask("DELETE", f"/tokens/{text.split('_', 1)[1].split('.')[0]}").status_code == 204
    check_problem(server.ask("GET", "/summary", bearer=text), 401)
