"""The real agent and the real server: the app under uvicorn on the loopback, SQLite, TLS with a fingerprint."""

import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import uvicorn
from click.testing import CliRunner

from kmend.agent import membership, sync, view
from kmend.agent.checkin import CheckIns
from kmend.agent.daemon import Daemon
from kmend.agent.decide import Verdict
from kmend.agent.look import load_look
from kmend.agent.server import Link, ServerError
from kmend.agent.settings import Settings
from kmend.cli.agent.verb import agent
from kmend.cli.fleet.client import Client
from kmend.fleet import judging
from kmend.fleet.api.call import Settings as ServerSettings
from kmend.fleet.app import first_admin_token, make_app
from kmend.fleet.store.database import open_database
from kmend.fleet.store.health import Hearing
from kmend.fleet.tls import self_made_certificate
from kmend.kit.errors import InputError
from kmend.model.fleet import Host, Role
from kmend.model.protocol import FleetCheckList, KeptLook, NewRollout, NewToken, Reason, Rollback, TokenRequest
from kmend.model.rollout import BackTo, Limits, Rollout, RolloutPlan, RolloutState, Target, Wave
from makers.cve_records import record, write_records
from makers.machine import FakeMachine
from makers.nouns import KERNEL

WAVES = (Wave(selector="ring=canary", soak=0), Wave(soak=0))


class Joined:
    """The server with its own time, people who ask it, and hosts with the real agent."""

    def __init__(self, folder, database, sock, fingerprint):
        self.folder = folder
        self.database = database
        self.fingerprint = fingerprint
        self.address = f"https://127.0.0.1:{sock.getsockname()[1]}"
        self.ahead = timedelta()
        self.machines = {}
        admin = first_admin_token(database, moment=self.now())
        self.people = Client(server=self.address, token=admin, fingerprint=fingerprint)

    def now(self):
        """The server's time."""
        return datetime.now(tz=UTC) + self.ahead

    def token(self, **more):
        """The text of an enrolment token for channel edge."""
        asked = TokenRequest(name="hosts", role=Role.ENROL, channel="edge", **more)
        return self.people.send(NewToken, "POST", "/tokens", asked).text

    def host(self, name, made, *, ring="rest"):
        """A machine with an enrolled agent, without a soak."""
        machine = FakeMachine(self.folder / name)
        machine.enrol(made)
        (machine.root / "etc/kmend/agent.toml").write_text("soak_minutes = 0\n")
        link = Link(address=self.address, fingerprint=self.fingerprint)
        joined = membership.join(
            machine.host().paths,
            link,
            token=self.token(uses=1),
            name=name,
            labels={"ring": ring},
            now=machine.clock.now(),
        )
        self.machines[name] = machine
        return joined.host

    def turn(self, name):
        """One look of a host's daemon, started anew, five minutes later by its clock and by the server's."""
        machine = self.machines[name]
        machine.clock.seconds += 400
        self.ahead += timedelta(seconds=5)
        server = CheckIns(chance=lambda: 0.5)
        Daemon(host=replace(machine.host(), patient=True), server=server).look()
        # The server does so every few seconds by its own clock.
        judging.judge_due(self.database, Hearing(now=self.now(), silence=timedelta(hours=1)))
        return machine.livepatches()

    def seen(self, host):
        """What the server knows of a host."""
        return self.people.get(Host, f"/hosts/{host}").report

    def begin(self, number=1, **more):
        """A rollout of one livepatch."""
        plan = RolloutPlan(
            name=f"to {number}",
            channel="edge",
            livepatches=(Target(build_id=KERNEL.build_id, number=number),),
            waves=WAVES,
            limits=Limits(),
            **more,
        )
        return self.people.send(Rollout, "POST", "/rollouts", NewRollout(plan=plan)).id

    def rollout(self, rollout):
        """How it stands."""
        return self.people.get(Rollout, f"/rollouts/{rollout}")


@contextmanager
def listening(app, tls):
    """The app under uvicorn in a thread, on a free port; gives its socket."""
    config = uvicorn.Config(
        app,
        port=0,
        ssl_certfile=str(tls.certificate),
        ssl_keyfile=str(tls.key),
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    sock = config.bind_socket()
    sock.listen()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        yield sock
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def joined(tmp_path, monkeypatch):
    """The server, up."""
    monkeypatch.setattr("kmend.fleet.store.tokens.SCRYPT_COST", 2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    database = open_database(f"sqlite:///{tmp_path}/fleet.db")
    tls = self_made_certificate(tmp_path / "tls", names=["127.0.0.1"], now=datetime.now(tz=UTC))
    found = []
    app = make_app(
        database, settings=ServerSettings(), clock=lambda: found[0].now() if found else datetime.now(UTC)
    )
    with listening(app, tls) as sock:
        found.append(Joined(tmp_path, database, sock, tls.fingerprint))
        yield found[0]
    database.close()


def test_a_rollout_reaches_the_hosts_wave_by_wave(joined, made):
    """Enrolled, reported, offered, applied and told; then the next wave, and not a moment earlier."""
    canary = joined.host("canary", made, ring="canary")
    rest = joined.host("rest", made)
    assert joined.turn("canary") == joined.turn("rest") == []
    assert joined.seen(canary).running is None
    assert "no rollout in channel edge" in view.status(joined.machines["rest"].host()).server.offer.because
    rollout = joined.begin()
    assert joined.turn("rest") == []
    assert "this host is in wave 2" in view.status(joined.machines["rest"].host()).last.because
    assert joined.turn("canary") == ["kmend_1"]
    report = joined.seen(canary)
    assert (report.running, report.phase, report.agent[:12]) == (1, "applied", "kmend-agent ")
    joined.turn("canary")
    assert joined.rollout(rollout).wave == 1
    assert joined.turn("rest") == ["kmend_1"]
    joined.turn("rest")
    assert joined.seen(rest).running == 1
    joined.turn("canary")
    assert joined.rollout(rollout).state == RolloutState.FINISHED


def test_a_look_reaches_the_people(joined, made):
    """The agent's own verb looks at the machine; after its next check-in the server can say what it came to."""
    host = joined.host("web-1", made)
    machine = joined.machines["web-1"]
    records = write_records(machine.root / "records", record("CVE-2026-1001", "net/core/sock.c"))
    settings = machine.root / "etc/kmend/agent.toml"
    settings.write_text(f'{settings.read_text()}cve_records = "{records}"\n')
    done = CliRunner().invoke(agent, ["--machine-root", str(machine.root), "look", "--json"])
    assert done.exit_code == 0, done.output
    joined.turn("web-1")
    kept = joined.people.get(KeptLook, f"/hosts/{host}/look")
    assert kept.look == load_look(machine.host().paths)
    assert kept.look.errors == ()
    assert sum(kept.look.exposure.verdicts.values()) == 1
    checks = {one.check for one in joined.people.get(FleetCheckList, "/checks").items}
    assert checks == {one.check for one in kept.look.audit.failed} != set()


def test_a_quarantine_stops_the_rollout(joined, made):
    """The canary's kernel complains: it takes the livepatch out and says so; the other host never loads it."""
    canary = joined.host("canary", made, ring="canary")
    joined.host("rest", made)
    joined.turn("canary")
    joined.turn("rest")
    rollout = joined.begin()
    joined.machines["canary"].log_on_load = ["BUG: unable to handle page fault for address: ffff"]
    assert joined.turn("canary") == []
    assert [held.number for held in joined.seen(canary).quarantined] == [1]
    assert joined.turn("rest") == []
    assert joined.rollout(rollout).state == RolloutState.STOPPED
    assert "is stopped: stopped by itself" in view.status(joined.machines["rest"].host()).server.offer.because
    assert joined.machines["rest"].loaded == []


def test_what_a_person_unloaded_is_loaded_again(joined, made):
    """The server holds back what is quarantined on a host, until it hears that the quarantine is lifted."""
    joined.host("canary", made, ring="canary")
    joined.turn("canary")
    rollout = joined.begin()
    assert joined.turn("canary") == ["kmend_1"]
    host = joined.machines["canary"].host()
    sync.unload_now(host, hold=True)
    assert joined.turn("canary") == []
    assert joined.turn("canary") == []
    decision = sync.update(host, despite_quarantine=True).decision
    assert decision.verdict == Verdict.WITHHELD
    assert "unloaded by hand. The quarantine is lifted here" in decision.because
    assert "lifted" not in sync.update(host, despite_quarantine=True).decision.because
    assert joined.turn("canary") == []
    assert "stopped by itself" in view.status(host).server.offer.because
    joined.people.send(Rollout, "POST", f"/rollouts/{rollout}/resume", Reason())
    assert joined.turn("canary") == ["kmend_1"]


def test_a_rollback_takes_it_out_again(joined, made):
    """From every host that runs it, and it does not come back."""
    joined.host("canary", made, ring="canary")
    joined.turn("canary")
    rollout = joined.begin()
    assert joined.turn("canary") == ["kmend_1"]
    joined.people.send(Rollout, "POST", f"/rollouts/{rollout}/rollback", Rollback(reason="slow disks"))
    assert joined.turn("canary") == []
    assert joined.turn("canary") == []
    offer = view.status(joined.machines["canary"].host()).server.offer
    assert (offer.action, offer.blocked) == ("stay", (1,))


def test_a_rollback_goes_back(joined, made):
    """To the number that it names."""
    made.publish(2)
    joined.host("canary", made, ring="canary")
    joined.turn("canary")
    first = joined.begin(1)
    assert joined.turn("canary") == ["kmend_1"]
    joined.people.send(Rollout, "POST", f"/rollouts/{first}/abort", Reason())
    rollout = joined.begin(2)
    assert joined.turn("canary") == ["kmend_2"]
    back = Rollback(back_to=(BackTo(build_id=KERNEL.build_id, number=1),), reason="slow disks")
    joined.people.send(Rollout, "POST", f"/rollouts/{rollout}/rollback", back)
    assert joined.turn("canary") == ["kmend_1"]


def test_a_token_that_is_used_up(joined, made, tmp_path):
    """A one-time token enrols one host, and that one again; a wrong fingerprint nobody."""
    token = joined.token(uses=1)
    link = Link(address=joined.address, fingerprint=joined.fingerprint)
    now = datetime.now(tz=UTC)

    def join(name, way=link):
        paths = FakeMachine(tmp_path / name).host().paths
        return membership.join(paths, way, token=token, name=name, labels={}, now=now)

    assert join("first").channel == "edge"
    with pytest.raises(InputError, match="used up"):
        join("second")
    with pytest.raises(ServerError, match="cannot be trusted"):
        join("third", replace(link, fingerprint="00" * 32))


def test_the_secret_is_changed(joined, made):
    """By the real server: the new one holds after its first use, the old one does not any more."""
    joined.host("canary", made)
    machine = joined.machines["canary"]
    paths = machine.host().paths
    before = membership.load_membership(paths)
    machine.clock.seconds += 31 * 24 * 3600
    joined.turn("canary")
    joined.turn("canary")
    after = membership.load_membership(paths)
    assert after.secret != before.secret
    assert after.next_secret == ""
    assert view.status(machine.host()).server.error == ""
    with pytest.raises(ServerError, match="not known"):
        before.link(Settings(), machine.root).change_secret("ab" * 32, credential=before.credential)


def test_a_host_that_was_removed_goes_on(joined, made):
    """It is told so, keeps what runs, and is taken in again by a new token."""
    host = joined.host("canary", made, ring="canary")
    joined.begin()
    joined.turn("canary")
    assert joined.turn("canary") == ["kmend_1"]
    joined.people.remove(f"/hosts/{host}")
    assert joined.turn("canary") == ["kmend_1"]
    assert view.status(joined.machines["canary"].host()).server.error != ""
