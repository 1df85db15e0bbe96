"""Tokens and what becomes of them: nothing of them in logs or in the audit log, and every change is in it."""

import pytest

from kmend.fleet.api.endpoint import Bearer
from kmend.fleet.api.table import ENDPOINTS
from kmend.fleet.store.log import audit
from kmend.model import wire
from kmend.model.fleet import Role
from makers.database import fresh_postgres_database, own_postgres, postgres_programs
from makers.fleet import make_plan
from makers.listening import Served, ask
from makers.nouns import KERNEL
from makers.server import SECRET, TalkingServer

NEXT = "cd" * 32
HOOK = {"name": "chat", "url": "http://127.0.0.1:9/", "happenings": ["rollout.stopped"]}
REPORTS = {"/check-in", "/agent/look"}
"""What a host says of itself is no change that somebody made."""
PEOPLES = [one for one in ENDPOINTS if one.method != "GET" and one.path not in REPORTS]


@pytest.fixture
def talking(database):
    """A server on each kind of database."""
    server = TalkingServer(database)
    yield server
    server.close()


def body_of(endpoint):
    """Something that the endpoint takes."""
    plan = wire.plain(make_plan(3))
    return {
        "/enrol": {"name": "new", "secret": NEXT},
        "/agent/secret": {"secret": NEXT},
        "/hosts/{host}": {"name": "renamed"},
        "/rollouts": {"plan": {**plan, "channel": "edge"}},
        "/rollouts/{rollout}/rollback": {"reason": "slow"},
        "/channels/{channel}": {"paused": True, "reason": "holidays"},
        "/groups/{group}": {"selector": "zone=a"},
        "/blocks/{build_id}/{number}": {"reason": "slow"},
        "/tokens": {"name": "x" * 255, "role": "viewer"},
        "/webhooks": HOOK,
    }.get(endpoint.path, {"reason": "because"})


@pytest.mark.parametrize("endpoint", PEOPLES, ids=lambda one: f"{one.method} {one.path}")
def test_every_change_is_in_the_audit_log(talking, database, endpoint):
    """Who, what, and to what: also when the token has a long name. Nothing secret stands there."""
    host = talking.enrol()
    rollout = talking.ask("POST", "/rollouts", json={"plan": wire.plain(make_plan(3))}).json()["id"]
    long_name = talking.ask("POST", "/tokens", json={"name": "n" * 255, "role": "admin"}).json()
    talking.ask("PUT", "/groups/web", json={"selector": "role=web"})
    talking.ask("PUT", f"/blocks/{KERNEL.build_id}/9", json={"reason": "slow"})
    webhook = talking.ask("POST", "/webhooks", json=HOOK).json()
    if endpoint.path.endswith("/resume"):
        talking.ask("POST", f"/rollouts/{rollout}/pause", json={})
    known = {
        "host": host.split(".")[1],
        "rollout": rollout,
        "channel": "stable",
        "group": "web",
        "build_id": KERNEL.build_id,
        "number": 9,
        "token": long_name["token"]["id"],
        "webhook": webhook["webhook"]["id"],
    }
    bearers = {Bearer.HOST: host, Role.ENROL: talking.token("enrol")}
    bearer = bearers.get(endpoint.needs, long_name["text"])
    before = records(database)
    more = {"json": body_of(endpoint)} if endpoint.body else {}
    answer = talking.ask(endpoint.method, endpoint.path.format(**known), bearer=bearer, **more)
    assert answer.status_code < 300, answer.text
    new = records(database)[len(before) :]
    assert new
    assert {one.actor.split()[0].split(":")[0] for one in new} <= {"token", "host"}
    assert not any(secret in str(records(database)) for secret in (SECRET, NEXT, long_name["text"].split(".")[1]))


def records(database):
    """The audit log, the oldest first."""
    with database.reading() as connection:
        return list(audit(connection, most=1000))[::-1]


def test_nothing_secret_in_the_log_of_a_real_server(tmp_path):
    """Good and wrong tokens, in headers, in addresses and in bodies, a lockout, and a database that fails."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    with own_postgres(programs) as postgres:
        address = fresh_postgres_database(postgres.address).replace("kmend@", "kmend:pa55word@")
        served = Served(
            tmp_path / "state",
            "--no-tls",
            *("--database", address, "--admin-token-file", tmp_path / "token"),
        )
        try:
            admin = (tmp_path / "token").read_text().strip()
            said = list(everything(served.address, admin))
            postgres.stop()
            assert ask(served.address, "/tokens", admin, {"name": "t", "role": "enrol"})["status"] == 503
            assert ask(served.address, "/enrol", said[1], {"name": "a", "secret": NEXT})["status"] == 503
            for number in range(12):
                ask(served.address, "/whoami", f"kmend_nobody.{number:043d}")
            postgres.start()
            for number in range(12):
                last = ask(served.address, "/whoami", f"kmend_nobody.{number:043d}")
        finally:
            served.kill()
    assert last["status"] == 429
    log = served.log.read_text()
    assert "locked out" in log
    assert "the database: " in log
    for text in [*said, "pa55word", SECRET, NEXT, "0" * 40]:
        assert text not in log
        assert text.split(".", 1)[-1] not in log


def everything(server, admin):
    """What has secrets in it; each of them."""
    yield admin
    token = ask(server, "/tokens", admin, {"name": "t", "role": "enrol"})["text"]
    yield token
    host = ask(server, "/enrol", token, {"name": "web", "secret": SECRET})["host"]
    credential = f"kmend-host.{host}.{SECRET}"
    yield credential
    assert ask(server, "/agent/secret", credential, {"secret": NEXT}, method="PUT")["status"] == 204
    assert ask(server, "/check-in", credential, {"note": SECRET})["status"] == 400
    assert ask(server, f"/hosts?token={admin}", admin)["status"] == 400
    assert ask(server, f"/nowhere/{admin}", admin)["status"] == 404
