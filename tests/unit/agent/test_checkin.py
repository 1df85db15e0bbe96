"""Check-ins: what is sent and sent again, what the server may ask for by policy, what happens without it."""

import tarfile
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kmend.agent import checkin, membership, sync, view
from kmend.agent.checkin import CheckIns
from kmend.agent.daemon import Daemon
from kmend.agent.decide import Verdict
from kmend.agent.doctor import Outcome, examine
from kmend.agent.health import Level, health
from kmend.agent.orders import FRESH, OWN, Fleet, Rule, load_fleet, read_offer
from kmend.agent.report import in_this_boot, make_report, queued
from kmend.agent.server import Link, ServerError
from kmend.agent.settings import Settings, UpdatePolicy
from kmend.agent.state import note_orderly
from kmend.cli.agent.texts import status_text
from kmend.kit.errors import MachineError
from kmend.kit.files import lock
from kmend.model.protocol import CheckedIn
from makers.fleet import make_report as a_report
from makers.fleet_server import TOKEN, fake_server, make_offer
from makers.machine import run_for
from makers.nouns import KERNEL, OTHER_KERNEL

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LOCAL_FIRST = Settings(update_policy=UpdatePolicy.LOCAL_FIRST)


@pytest.fixture
def server(machine):
    """A server that has taken the machine in."""
    with fake_server() as fake:
        join(machine, fake)
        yield fake


def join(machine, fake):
    """Enrol the machine."""
    membership.join(machine.host().paths, Link(address=fake.address), token=TOKEN, name="web", labels={}, now=NOW)


def daemon(machine, **settings):
    """A daemon on the fake machine; nothing is left to chance."""
    host = machine.host(**settings)
    return Daemon(host=replace(host, patient=True), chance=lambda: 0.5, server=CheckIns(chance=lambda: 0.5))


def write(machine, text):
    """agent.toml."""
    (machine.root / "etc/kmend/agent.toml").write_text(text)


def test_only_what_is_offered(machine, server, made):
    """Of two in the channel none is loaded while the server says stay, then the one that it names."""
    made.publish(2)
    running = daemon(machine)
    running.look()
    assert machine.livepatches() == []
    assert view.status(machine.host()).last.verdict == Verdict.WITHHELD
    server.offer = make_offer("apply", 1)
    machine.clock.seconds += 400
    write(machine, "soak_minutes = 0\n")
    running.look()
    assert machine.livepatches() == ["kmend_1"]
    assert (server.reports[-1].running, server.reports[-1].phase) == (1, "applied")


def test_a_look_by_hand_goes_by_the_offer_too(machine, server):
    """`update` loads nothing that the server has not offered."""
    assert sync.update(machine.host()).decision.verdict == Verdict.WITHHELD
    assert machine.livepatches() == []


def test_a_server_cannot_offer_what_is_not_signed(machine, server):
    """A number that the channel does not hold, and one for another kernel, load nothing; the server hears why."""
    server.offer = make_offer("apply", 9)
    daemon(machine).look()
    assert machine.loaded == []
    assert server.reports[-1].held == (
        "nothing-offered: the channel has no livepatch 9, which the server names, for 6.1.0-47-cloud-amd64"
    )
    server.offer = make_offer("apply", 1, kernel=OTHER_KERNEL)
    machine.clock.seconds += 4000
    daemon(machine).look()
    server.offer = make_offer("apply", 1, channel="stable")
    machine.clock.seconds += 4000
    daemon(machine).look()
    assert machine.loaded == []
    assert "in channel stable, but it follows edge" in server.reports[-1].held


def test_the_owner_goes_before_the_offer(machine, server):
    """What the blocklist names is not loaded; the server is told, and asked again half an hour later."""
    write(machine, "blocklist = [1]\nsoak_minutes = 0\n")
    server.offer = make_offer("apply", 1)
    running = daemon(machine)
    running.look()
    assert machine.loaded == []
    assert server.reports[-1].held.startswith("blocklisted: ")
    write(machine, "soak_minutes = 0\n")
    machine.clock.seconds += 31 * 60
    running.look()
    assert server.reports[-2].held == ""
    assert machine.livepatches() == ["kmend_1"]


def test_a_window_is_told(machine, server):
    """Outside it the server hears why, and a rollback does not wait for it."""
    write(machine, "soak_minutes = 0\n")
    server.offer = make_offer("apply", 1)
    running = daemon(machine)
    running.look()
    moment = machine.clock.now() + timedelta(hours=3)
    write(machine, f'soak_minutes = 0\nwindows = ["daily {moment:%H:%M}-{moment + timedelta(minutes=5):%H:%M}"]\n')
    server.offer = make_offer("take-out")
    machine.clock.seconds += 400
    running.look()
    assert server.reports[-1].held.startswith("waits for a window: ")
    assert machine.livepatches() == []


def test_a_rollback_to_a_lower_one(machine, server, made):
    """go-back loads the lower number that it names, delay or not, unless a pin forbids it; stay never does."""
    made.publish(2)
    write(machine, "soak_minutes = 0\n")
    server.offer = make_offer("apply", 2)
    running = daemon(machine)
    running.look()
    server.offer = make_offer("stay", 1)
    machine.clock.seconds += 400
    running.look()
    assert machine.livepatches() == ["kmend_2"]
    server.offer = make_offer("go-back", 1)
    for wish, left in (("pin_number = 2", "kmend_2"), ("delay_hours = 48", "kmend_1")):
        write(machine, f"soak_minutes = 0\n{wish}\n")
        machine.clock.seconds += 400
        running.look()
        assert machine.livepatches() == [left]


@pytest.mark.parametrize(
    ("rollback", "left"), [(make_offer("take-out"), []), (make_offer("go-back", 1), ["kmend_1"])]
)
def test_a_rollback_while_it_is_watched(machine, server, made, rollback, left):
    """The server hears of the watch, and its rollback does not wait for the end of it."""
    made.publish(2)
    server.interval = 60

    def offers(report):
        if len(server.reports) == 1:
            return make_offer("apply", 2)
        return rollback if report.running == 2 else make_offer("stay", report.running)

    server.offers = offers
    run_for(machine, 300, daemon(machine))
    assert machine.loaded[0][0] == "kmend_2"
    assert machine.livepatches() == left


def test_local_first_goes_by_its_own_rules(machine, server):
    """Without a word against it the newest is loaded, offered or not."""
    write(machine, 'soak_minutes = 0\nupdate_policy = "local-first"\n')
    daemon(machine).look()
    assert machine.livepatches() == ["kmend_1"]


@pytest.mark.parametrize("offer", [make_offer(holds=True), make_offer(blocked=(1,)), make_offer("take-out")])
def test_local_first_may_be_held_back(machine, server, offer):
    """By a pause or a stopped rollout, by a block, and by a rollback."""
    write(machine, 'soak_minutes = 0\nupdate_policy = "local-first"\n')
    server.offer = offer
    daemon(machine).look()
    assert machine.livepatches() == []
    assert view.status(machine.host()).last.verdict == Verdict.WITHHELD


def test_local_reports_only(machine, server):
    """Neither an offer nor a rollback changes anything, and the server hears why."""
    sync.fetch_copy(machine.host())
    sync.update(machine.host(settings=Settings(update_policy=UpdatePolicy.REMOTE), soak=0))
    write(machine, 'soak_minutes = 0\nupdate_policy = "local"\n')
    running = daemon(machine)
    server.offer = make_offer("take-out")
    running.look()
    assert machine.livepatches() == ["kmend_1"]
    assert server.reports[-1].running == 1
    assert server.reports[-1].held.startswith('update_policy is "local"')


def test_without_the_server_the_host_goes_on(machine, server, made):
    """After a boot it loads again what should run, from the repository alone, and nothing newer."""
    write(machine, "soak_minutes = 0\n")
    server.offers = lambda report: make_offer("stay" if report.running else "apply", 1)
    running = daemon(machine)
    running.look()
    made.publish(2)
    server.failing = (503, None)
    machine.boot(2)
    machine.clock.seconds += 24 * 3600
    daemon(machine).look()
    assert machine.livepatches() == ["kmend_1"]


def test_an_old_offer_is_not_taken(machine, server):
    """A host that could not ask for a quarter of an hour asks again before it loads."""
    server.offer = make_offer("apply", 1)
    host = machine.host()
    CheckIns().check_in(host)
    server.failing = (503, None)
    machine.clock.seconds += FRESH.total_seconds() + 1
    assert sync.check(host).because.endswith("is too old to be taken without asking again")


def test_what_was_not_acknowledged_is_sent_again(machine, server):
    """The answer was lost and the agent killed: the next one sends the same report, and the later one after it."""
    server.drop = 1
    CheckIns().check_in(machine.host())
    assert len(load_fleet(machine.host().paths).outbox) == 1
    (machine.root / "etc/kmend/disabled").touch()
    machine.clock.seconds += 3600
    CheckIns().check_in(machine.host())
    first, again, later = server.reports
    assert first == again
    assert (again.held, later.held) == ("", f"{machine.root}/etc/kmend/disabled exists")
    assert load_fleet(machine.host().paths).outbox == ()


def test_killed_after_the_answer(machine, server, monkeypatch):
    """The report was taken, but the disk was not written: it is sent once more, and nothing is lost."""

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kmend.agent.checkin.heard", killed)
        with pytest.raises(KeyboardInterrupt):
            CheckIns().check_in(machine.host())
    CheckIns().check_in(machine.host())
    assert len(server.reports) == 2
    assert load_fleet(machine.host().paths).outbox == ()


def test_retry_after_is_honoured(machine, server):
    """By the daemon, and by one that was started anew; it spreads a little."""
    server.failing = (429, 600)
    CheckIns(chance=lambda: 0.0).check_in(machine.host())
    asked = len(server.asked)
    machine.clock.seconds += 590
    CheckIns().check_in(machine.host())
    (machine.root / "etc/kmend/disabled").touch()
    CheckIns().check_in(machine.host(), news=True)
    assert len(server.asked) == asked
    assert len(load_fleet(machine.host().paths).outbox) == 2
    assert 0 < CheckIns().due_in(machine.host()) <= 10
    machine.clock.seconds += 11
    CheckIns().check_in(machine.host())
    assert len(server.asked) == asked + 1


def test_it_backs_off():
    """Twice as long each time up to an hour; what can never be taken is not sent again."""
    fleet, pauses = queued(Fleet(), a_report()), []
    for _ in range(6):
        fleet = checkin.failed(fleet, ServerError("away"), interval=300, now=NOW, chance=0.5)
        pauses.append(checkin.due_in(fleet, NOW))
    assert pauses == [600, 1200, 2400, 3600, 3600, 3600]
    assert len(fleet.outbox) == 1
    assert checkin.failed(fleet, ServerError("no", status=400), interval=300, now=NOW, chance=0).outbox == ()
    unknown = checkin.failed(Fleet(), ServerError("no", status=401), interval=300, now=NOW, chance=0)
    assert checkin.due_in(unknown, NOW) >= 300


def test_the_interval_is_the_servers():
    """With a tenth to either side; nonsense is bounded; a clock that was set back does not put it off."""
    for interval, chance, seconds in ((60, 0, 54), (60, 0.5, 60), (0, 0.5, 10), (10**9, 0.5, 86400)):
        answer = CheckedIn(offer=make_offer(), interval=interval)
        fleet = checkin.heard(Fleet(), answer, now=NOW, chance=chance)
        assert checkin.due_in(fleet, NOW) == seconds
        assert checkin.due_in(fleet, NOW - timedelta(days=1)) == 0


def test_the_daemon_comes_at_the_servers_interval(machine, server):
    """A minute while something is under way, although the repository is looked at every five."""
    server.interval = 60
    run_for(machine, 1000, daemon(machine))
    assert 14 <= len(server.reports) <= 18


def test_a_new_offer_is_taken_at_once(machine, server):
    """The daemon does not wait for its next look at the repository."""
    server.interval = 60
    write(machine, "check_in_minutes = 1000\nsoak_minutes = 0\n")
    server.offers = lambda report: make_offer("apply", 1) if len(server.reports) > 3 else make_offer()
    run_for(machine, 600, daemon(machine))
    assert machine.livepatches() == ["kmend_1"]


def test_the_server_hears_during_the_watch(machine, server):
    """A soak of 15 minutes is no silence of 15 minutes."""
    server.offers = lambda report: make_offer("stay" if report.running else "apply", 1)
    run_for(machine, 1300, daemon(machine))
    assert len([report for report in server.reports if report.phase == "soaking"]) >= 2
    assert server.reports[-1].phase == "applied"


def test_trouble_is_told_at_once(machine, server):
    """A quarantine reaches the server in the same look, however late the next one is."""
    machine.log_on_load = ["BUG: unable to handle page fault for address: ffff"]
    server.offer = make_offer("apply", 1)
    daemon(machine).look()
    assert [held.number for held in server.reports[-1].quarantined] == [1]
    assert server.reports[-1].running is None


def test_after_trouble_the_host_goes_back_at_once(machine, server, made):
    """What the server offers in answer to a quarantine does not wait for the next look, which is a late one."""
    made.publish(2)
    write(machine, "check_in_minutes = 1000\nsoak_minutes = 0\n")

    def offers(report):
        number = 2 if report.running and not report.quarantined else 1
        machine.log_on_load = ["BUG: unable to handle page fault for address: ffff"] if number == 2 else []
        return make_offer("stay" if report.running == number else "apply", number)

    server.offers = offers
    run_for(machine, 300, daemon(machine))
    assert [name for name, _ in machine.loaded] == ["kmend_1", "kmend_2", "kmend_1"]
    assert machine.livepatches() == ["kmend_1"]


def test_a_failed_attempt_is_told_until_there_is_another(machine, server):
    """The same each time; one that succeeds ends it."""
    machine.refuse = 8
    server.offer = make_offer("apply", 1)
    write(machine, "soak_minutes = 0\n")
    running = daemon(machine)
    running.look()
    failure = server.reports[-1].failure
    assert (failure.build_id, failure.number) == (KERNEL.build_id, 1)
    CheckIns().check_in(machine.host(), news=True)
    assert server.reports[-1].failure == failure
    machine.refuse = 0
    machine.clock.seconds += 60
    running.look()
    assert server.reports[-1].failure is None


def test_a_repository_that_is_away_is_no_failed_attempt(machine, server, made):
    """But one whose bytes were altered is."""
    module = made.module_path()
    content = module.read_bytes()
    module.write_bytes(content[:-1] + b"x")
    server.offer = make_offer("apply", 1)
    daemon(machine).look()
    assert "altered" in server.reports[-1].failure.reason
    machine.host().paths.attempt.unlink()
    module.unlink()
    daemon(machine).look()
    assert make_report(machine.host(), Fleet()).failure is None


def test_reboots():
    """Orderly or not, as the mark says; of the first boot that is known nothing is said."""
    first = in_this_boot(Fleet(), boot_id="a", orderly="")
    assert (first.boot_id, first.unexpected_reboot) == ("a", False)
    assert in_this_boot(first, boot_id="b", orderly="a").unexpected_reboot is False
    crashed = in_this_boot(first, boot_id="b", orderly="")
    assert crashed.unexpected_reboot is True
    assert in_this_boot(crashed, boot_id="b", orderly="b") == crashed


def test_a_crash_is_told(machine, server):
    """And an orderly reboot is none."""
    CheckIns().check_in(machine.host())
    machine.boot(2)
    CheckIns().check_in(machine.host(), news=True)
    assert server.reports[-1].unexpected_reboot is True
    note_orderly(machine.host().paths, server.reports[-1].boot_id)
    machine.boot(3)
    CheckIns().check_in(machine.host(), news=True)
    assert server.reports[-1].unexpected_reboot is False


def test_reports_that_say_the_same_wait_once():
    """Twenty that differ wait at most, the newest of them."""
    fleet = Fleet()
    for minute in range(5):
        fleet = queued(fleet, a_report(at=NOW + timedelta(minutes=minute)))
    assert [report.at.minute for report in fleet.outbox] == [4]
    for number in range(1, 40):
        fleet = queued(fleet, a_report(number))
    assert [report.running for report in fleet.outbox] == list(range(20, 40))


def test_a_host_that_was_removed(machine, server):
    """Says so in the log and in status, and goes on."""
    server.secrets.clear()
    daemon(machine).look()
    found = view.status(machine.host())
    assert "The token is not known" in found.server.error
    assert health(found, now=machine.clock.now()).level == Level.WARNING
    assert machine.livepatches() == []


def test_a_broken_memory_is_none(machine, server):
    """What the server said is said again."""
    machine.host().paths.fleet.write_text("{")
    CheckIns().check_in(machine.host())
    assert len(server.reports) == 1


def test_a_kill_at_any_write_loses_no_report(machine, server, monkeypatch):
    """Whichever file was the last to be written, the server hears of the quarantine."""
    real = checkin.write_atomic
    machine.log_on_load = ["BUG: unable to handle page fault for address: ffff"]
    server.offer = make_offer("apply", 1)
    daemon(machine).look()
    quarantined = server.reports[-1].quarantined
    for writes in range(3):
        left = [writes]

        def killed(*words, left=left, **more):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            real(*words, **more)

        server.reports.clear()
        machine.clock.seconds += 400
        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr("kmend.agent.checkin.write_atomic", killed)
            CheckIns().check_in(machine.host())
        CheckIns().check_in(machine.host())
        assert server.reports[-1].quarantined == quarantined
        assert load_fleet(machine.host().paths).outbox == ()


def test_enrolling_under_way_is_waited_for(machine, server):
    """Whoever holds the lock speaks to the server; the daemon does not stop for that."""
    with lock(machine.host().paths.server_lock, what="test"):
        assert CheckIns().check_in(machine.host()) is False
    assert server.reports == []


def test_status_says_it_all(machine, server):
    """Server, last check-in and last offer with its reason; a server that went away beside what it said last."""
    CheckIns().check_in(machine.host())
    text = status_text(view.status(machine.host()))
    assert f"server     {server.address} (h1)" in text
    assert "check-in   last heard 20" in text
    assert "offer      stay: because of a test" in text
    server.failing = (503, None)
    machine.clock.seconds += 400
    CheckIns().check_in(machine.host())
    text = status_text(view.status(machine.host()))
    assert "says: not now; last heard 20" in text
    assert text.count("1 reports to send") == 1


@pytest.mark.parametrize("policy", list(UpdatePolicy))
def test_a_foreign_kernels_offer_is_none(policy):
    """What was said of another kernel lets nothing be loaded on this one."""
    fleet = Fleet(offer=make_offer("apply", 1, kernel=OTHER_KERNEL), succeeded=NOW)
    order = read_offer(fleet, policy, build_id=KERNEL.build_id, channel="edge", now=NOW)
    assert order.rule == (Rule.NOTHING if policy == UpdatePolicy.REMOTE else Rule.OWN)


def test_a_hold_ends_a_day_after_the_server_went_away():
    """A host that goes by its own rules does not wait for ever; a block stays."""
    fleet = Fleet(offer=make_offer(holds=True, blocked=(2,)), succeeded=NOW)

    def rule(now):
        return read_offer(fleet, UpdatePolicy.LOCAL_FIRST, build_id=KERNEL.build_id, channel="edge", now=now)

    assert rule(NOW + timedelta(hours=23)).rule == Rule.NOTHING
    later = rule(NOW + timedelta(hours=25))
    assert (later.rule, later.blocked) == (Rule.OWN, (2,))


def test_a_host_without_a_server_is_as_before(machine):
    """No check-in, no order, one sleep for each pause."""
    slept = []
    CheckIns().rest(
        machine.host(), 300, sleep=lambda seconds: (slept.append(seconds), machine.clock.sleep(seconds))
    )
    assert slept == [300]
    assert not machine.host().paths.fleet.exists()
    assert read_offer(Fleet(), UpdatePolicy.LOCAL, build_id="x", channel="edge", now=NOW) == OWN


def test_the_switch_goes_before_a_rollback(machine, server):
    """While the agent is off nothing is taken out; the server hears why."""
    sync.update(machine.host(settings=LOCAL_FIRST, soak=0))
    (machine.root / "etc/kmend/disabled").touch()
    server.offer = make_offer("take-out")
    daemon(machine).look()
    assert machine.livepatches() == ["kmend_1"]
    assert server.reports[-1].held.endswith("disabled exists")


def test_a_full_disk_is_said(machine, server, monkeypatch, caplog):
    """And stops nothing."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kmend.agent.checkin.write_atomic", full)
    assert CheckIns().check_in(machine.host()) is False
    assert "The disk is full" in caplog.text
    with pytest.raises(MachineError):
        checkin._save(machine.host(), Fleet())


def test_the_doctor_knows_the_server(machine, server, tmp_path):
    """Unknown before the first report, well after it, a problem when it fails; the credential is never packed."""

    def looked():
        found = examine(machine.host(), tmp_path / "out.tar.gz")
        return next(one.outcome for one in found.symptoms if one.what == "server")

    assert looked() == Outcome.UNKNOWN
    CheckIns().check_in(machine.host())
    assert looked() == Outcome.OK
    server.failing = (500, None)
    machine.clock.seconds += 400
    CheckIns().check_in(machine.host())
    assert looked() == Outcome.PROBLEM
    secret = membership.load_membership(machine.host().paths).secret
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        texts = {one.name: archive.extractfile(one).read().decode() for one in archive}
    assert "kmend-doctor/fleet.json" in texts
    assert not any(secret in text for text in texts.values())
