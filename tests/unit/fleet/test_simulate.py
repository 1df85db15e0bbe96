"""Simulated hosts against the real server behind a real web server, and against one that misbehaves on purpose."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from kmend.cli.main import kmend
from kmend.fleet.simulate.connections import Connection, local_server
from kmend.fleet.simulate.hosts import Behaviour, make_hosts
from kmend.fleet.simulate.run import Load, Simulation
from kmend.kit.errors import InputError, SourceError
from kmend.kit.progress import Silent
from kmend.model.rollout import Wave
from makers.fleet_server import TOKEN, fake_server, make_offer
from makers.nouns import KERNEL
from makers.site import begin, running_site


@pytest.fixture
def site(sqlite):
    """The real server."""
    with running_site(sqlite) as server:
        yield server


def simulate(address, token, *, hosts=6, load=None, **behaviour):
    """Enrol and check in; the simulation when it is over."""
    made = make_hosts(hosts, Behaviour(kernel=KERNEL, **behaviour), seed=1)
    load = load or Load(connections=4, rate=0, rounds=4, seconds=0)
    simulation = Simulation(local_server(address), made, load, Silent())

    async def everything():
        await simulation.enrol(token)
        await simulation.check_in()

    asyncio.run(everything())
    return simulation


def enrol_token(site):
    """A token that enrols any number."""
    return site.ask("POST", "/tokens", json={"name": "simulated", "role": "enrol"}).json()["text"]


def shown_hosts(site):
    """What the server shows of its hosts, by id."""
    return {one["id"]: one for one in site.ask("GET", "/hosts").json()["items"]}


def test_the_server_has_the_last_report_that_it_acknowledged(site):
    """Each host's last acknowledged report is the one that the server shows."""
    simulation = simulate(site.address, enrol_token(site))
    shown = shown_hosts(site)
    assert len(shown) == 6
    for host in simulation.hosts:
        assert datetime.fromisoformat(shown[host.host]["report"]["at"]) == host.acknowledged
    result = simulation.result()
    assert (result.accepted, result.refused, result.unanswered) == (24, {}, 0)
    assert 0 < result.p50 <= result.p99 <= result.longest


def test_hosts_take_what_a_rollout_brings(site):
    """They load it, watch it, and run it in the end."""
    begin(site, "to 3", 3, (Wave(),))
    result = simulate(site.address, enrol_token(site)).result()
    assert result.running == {"3": 6}
    assert {one["report"]["phase"] for one in shown_hosts(site).values()} == {"applied"}


def test_bad_hosts_quarantine_and_shy_ones_fall_silent(site):
    """Bad ones tell of it; shy ones are not heard of again after the offer."""
    begin(site, "to 3", 3, (Wave(),))
    bad = simulate(site.address, enrol_token(site), bad=1.0).result()
    assert (bad.running, bad.quarantined) == ({"none": 6}, 6)
    assert all(one["report"]["quarantined"] for one in shown_hosts(site).values())
    shy = simulate(site.address, enrol_token(site), silent=0.5).result()
    assert 0 < shy.silent < 6
    assert shy.accepted == shy.silent + 4 * (6 - shy.silent)


def test_the_same_seed_makes_the_same_hosts():
    """Names, secrets and who is bad; another seed makes others."""
    behaviour = Behaviour(kernel=KERNEL, bad=0.5, silent=0.5)
    first, again, other = (make_hosts(20, behaviour, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert not {one.secret for one in first} & {one.secret for one in other}
    assert len({one.secret for one in first}) == 20
    assert {one.bad for one in first} == {True, False}


def test_who_is_sent_away_comes_again():
    """After the time that the server names, and it is counted as a delay, not as a loss."""
    with fake_server() as server:
        answers = iter([(503, "0"), (429, "0")])
        check_in = server.answer

        def answer(method, path, bearer, content):
            if path.endswith("/check-in") and (away := next(answers, None)):
                return away[0], {"Retry-After": away[1]}, b"{}"
            return check_in(method, path, bearer, content)

        server.answer = answer
        server.offer = make_offer()
        load = Load(connections=2, rate=0, rounds=1, seconds=0)
        # The stand-in closes each connection, so every request comes over a new one.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kmend.fleet.simulate.run._LATER", 0.05)
            result = simulate(server.address, TOKEN, hosts=3, load=load).result()
    assert (result.accepted, result.delayed) == (3, 2)
    assert len(server.reports) == 3


def test_a_rate_is_kept(site):
    """Check-ins are spread over the time, and it ends when that is over."""
    load = Load(connections=4, rate=40, rounds=0, seconds=1.5, fresh=True)
    result = simulate(site.address, enrol_token(site), load=load).result()
    assert result.accepted <= 60
    assert result.seconds >= 1.4


@pytest.mark.parametrize(
    "address", ["https://192.0.2.1:8443", "http://198.51.100.7", "ftp://localhost", "localhost"]
)
def test_only_this_machine(address):
    """Nobody's server elsewhere can be loaded with it."""
    with pytest.raises(InputError):
        local_server(address)


def test_a_refused_enrolment_is_an_error(site):
    """It says which, and what the server said."""
    with pytest.raises(SourceError, match="401"):
        simulate(site.address, "kmend_no.such")


def test_the_command(site, tmp_path, monkeypatch):
    """``kmend fleet simulate`` prints what came of it, as JSON when asked to."""
    (tmp_path / "token").write_text(enrol_token(site))
    monkeypatch.setenv("KMEND_SERVER", site.address)
    monkeypatch.setenv("KMEND_TOKEN_FILE", str(tmp_path / "token"))
    begun = datetime.now(tz=UTC)
    done = CliRunner().invoke(kmend, ["fleet", "simulate", "--hosts", "5", "--rounds", "2", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["accepted"] == 10
    assert all(datetime.fromisoformat(one["report"]["at"]) > begun for one in shown_hosts(site).values())
    lost = CliRunner().invoke(kmend, ["fleet", "simulate", "--hosts", "5"])
    assert lost.exit_code != 0


@pytest.mark.parametrize(("fresh", "made"), [(False, 1), (True, 3)])
def test_a_connection_stays_open_unless_each_request_is_to_have_its_own(fresh, made):
    """Else the load would be that of connections, not of check-ins."""
    came = []

    async def answer(reader, writer):
        came.append(writer)
        while await reader.readline():
            head = [line async for line in until_empty(reader)]
            (length,) = [int(line.split(b":")[1]) for line in head if line.startswith(b"Content-Length")]
            await reader.readexactly(length)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async def until_empty(reader):
        while (line := await reader.readline()).strip():
            yield line

    async def scenario():
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            connection = Connection(local_server(f"http://127.0.0.1:{port}"), fresh=fresh)
            for _ in range(3):
                assert (await connection.post("/check-in", bearer="x", body=b"{}")).content == b"{}"
            connection.close()

    asyncio.run(scenario())
    assert len(came) == made
