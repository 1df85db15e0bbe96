"""Looks at the host: when, by whom, what is told of them, and what a look may not do to the daemon."""

import json
import sys
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from kmend.agent import membership, view
from kmend.agent.checkin import CheckIns
from kmend.agent.daemon import Daemon
from kmend.agent.look import Looker, load_look, look_command, next_look, save_look
from kmend.agent.orders import load_fleet
from kmend.agent.server import Link
from kmend.agent.telling import LARGEST, look_of, not_here
from kmend.cli.agent import texts
from kmend.fleet.checks import check_look
from kmend.model import wire
from kmend.model.exposure import ContainerReach, CveExposure, Exposure, Reach, Verdict
from kmend.model.finding import AuditReport, Finding, Outcome, Score, Severity
from kmend.model.look import CHECKS, CVES, GROUPS, NAMES, SUBJECTS, Told
from makers.fleet_server import TOKEN, fake_server
from makers.looks import make_look
from makers.nouns import KERNEL, NOW

HOUR = timedelta(hours=1)


def cve(number, *reach, verdict=Verdict.OPEN, **more):
    """A CVE with who reaches it: (reach, containers)."""
    groups = tuple(
        ContainerReach(containers=names, reach=how, way="socket AF_TIPC", gate="", evidence=())
        for how, names in reach
    )
    basis = {"title": "", "severity": "", "score": 5.5, "vector": "", "rationale": "", "exploited_since": ""}
    rest = {"files": (), "objects": (), "evidence": ()}
    return CveExposure(cve=f"CVE-2026-{number}", verdict=verdict, reach=groups, **{**basis, **rest, **more})


def exposure(*cves, containers=("db", "web"), **more):
    """What was found out."""
    basis = {"host": "h", "kernel": KERNEL, "package": "", "distribution": "debian 12", "architecture": "x86_64"}
    return Exposure(collected=NOW, actions=(), cves=cves, containers=containers, **{**basis, **more})


def audit(*findings):
    """A report with some findings."""
    scores = (Score(area="all", passed=1, failed=1, unknown=0, waived=0, percent=50),)
    return AuditReport(
        host="h", collected=NOW, version="1", profile="all", rules=(), findings=findings, scores=scores
    )


def finding(check="c-1", subject="host", **more):
    """A failure."""
    basis = {"severity": Severity.HIGH, "outcome": Outcome.FAIL, "evidence": "e"}
    return Finding(check=check, subject=subject, **{**basis, **more})


def told(report=None, found=None, **more):
    """What the server is told, checked as the server does."""
    look = look_of(report, found, at=NOW, version="1", **more)
    check_look(look)
    assert len(json.dumps(wire.plain(look))) <= LARGEST
    return look


def test_what_is_told_of_an_exposure():
    """CVEs that the same containers reach stand together; gates and what is closed are counted alone."""
    both, web = (Reach.REACHABLE, ("db", "web")), (Reach.REACHABLE, ("web",))
    look = told(
        None,
        exposure(
            cve(1001, both, exploited_since="2026-01-02"),
            cve(1002, (Reach.REACHABLE, ("web",)), (Reach.REACHABLE, ("db",))),
            cve(1003, web, (Reach.UNKNOWN, ("db",))),
            cve(1004, (Reach.GATED, ("db", "web"))),
            cve(1005, both, verdict=Verdict.UNKNOWN),
            cve(1006, verdict=Verdict.CLOSED_BY_LIVEPATCH),
            missing=("no changelog",),
        ),
    ).exposure
    assert (look.reachable, look.containers, look.left_out, look.missing) == (3, 2, 0, ("no changelog",))
    assert look.verdicts["open"] == 4
    assert look.verdicts["could-not-tell"] == look.verdicts["closed-by-livepatch"] == 1
    groups = {(group.reach, group.containers): [one.cve[-4:] for one in group.cves] for group in look.groups}
    assert groups == {
        (Told.REACHABLE, ("db", "web")): ["1001", "1002"],
        (Told.REACHABLE, ("web",)): ["1003"],
        (Told.UNKNOWN, ("db",)): ["1003"],
        (Told.UNKNOWN, ("db", "web")): ["1005"],
    }
    assert [one.exploited for one in look.groups[0].cves] == [True, False]


def test_what_the_kernel_cannot_have():
    """What is not built, and what came in later; what is closed, open or unknown may come back."""
    made = exposure(*(cve(number, verdict=verdict) for number, verdict in enumerate(Verdict)))
    found = not_here(made)
    verdicts = {one.verdict for one in made.cves if one.cve in found.cves}
    assert (found.build_id, verdicts) == (KERNEL.build_id, {Verdict.NOT_BUILT, Verdict.NOT_AFFECTED})


def test_what_is_told_of_an_audit():
    """Failures by check, the worst first; what is waived, passes or could not be told is not among them."""
    look = told(
        audit(
            finding("c-low", severity=Severity.LOW),
            finding("c-1", "container a"),
            finding("c-1", "container b", severity=Severity.CRITICAL),
            finding("c-2", waived="so be it"),
            finding("c-3", outcome=Outcome.UNKNOWN),
            finding("c-4", outcome=Outcome.PASS),
        )
    )
    assert [(one.check, one.severity, one.count, one.subjects) for one in look.audit.failed] == [
        ("c-1", Severity.CRITICAL, 2, ("container a", "container b")),
        ("c-low", Severity.LOW, 1, ("host",)),
    ]
    assert look.exposure is None


def test_a_host_that_has_too_much_to_tell_tells_less():
    """Ten thousand CVEs, a thousand containers with long names, every one in a group of its own: still no more."""
    names = tuple(f"{number:04d}-" + "n" * 200 for number in range(1000))
    many = [cve(10_000 + number, (Reach.REACHABLE, names[: 1 + number % 900])) for number in range(10_000)]
    failures = [
        finding(f"c-{number}", "s" * 300, severity=Severity.LOW) for number in range(2 * CHECKS) for _ in range(9)
    ]
    look = told(audit(*failures), exposure(*many, containers=names), errors=["e" * 9999] * 99)
    found = look.exposure
    assert len(found.groups) <= GROUPS
    assert all(len(group.containers) <= NAMES for group in found.groups)
    assert sum(len(group.cves) for group in found.groups) + found.left_out == found.reachable == 10_000
    assert {group.count for group in found.groups} <= set(range(1, 901))
    assert len(look.audit.failed) <= CHECKS
    assert all((len(one.subjects), one.count) == (SUBJECTS, 9) for one in look.audit.failed)


def test_a_host_with_many_cves_tells_them_all():
    """What a real kernel has fits."""
    many = [cve(10_000 + number, (Reach.REACHABLE, ("web",))) for number in range(CVES)]
    assert told(None, exposure(*many)).exposure.left_out == 0


def test_names_of_containers_are_only_text():
    """Escape sequences, NUL and halves of surrogate pairs are written out; what is no CVE is left out."""
    names = ("\x1b[2Jweb", "a\0b", "c\ud800d", "<b>")
    look = told(audit(finding(subject="\x1b]0;x\x07")), exposure(cve(1001, (Reach.REACHABLE, names)), cve("<i>")))
    assert look.exposure.groups[0].containers == (r"\x1b[2Jweb", "<b>", r"a\x00b", r"c\ud800d")
    assert look.audit.failed[0].subjects == (r"\x1b]0;x\x07",)
    assert "\x1b" not in texts.look_text(look)


def test_when_the_next_look_is_due():
    """After so many hours, never before the daemon has settled, an hour after a failure."""
    assert next_look(None, None, start=NOW, hours=24) == NOW
    assert next_look(NOW, None, start=NOW, hours=24) == NOW + 24 * HOUR
    assert next_look(NOW - 90 * HOUR, None, start=NOW, hours=24) == NOW
    assert next_look(NOW - 90 * HOUR, NOW, start=NOW, hours=24) == NOW + HOUR
    assert next_look(NOW, NOW + HOUR, start=NOW, hours=24) == NOW + 24 * HOUR


def test_the_child_is_started_like_the_daemon():
    """The same file, interpreter options and machine."""
    assert look_command(["python3", "-I", "/usr/bin/kmend-agent", "run"]) == (
        *(sys.executable, "-I", "/usr/bin/kmend-agent", "look", "--background"),
    )


def child(code, **more):
    """A looker whose children are a piece of Python."""
    return Looker(command=(sys.executable, "-c", code), **more)


def settle(looker, host):
    """Wait until the child has ended and was seen to."""
    while looker.busy:
        looker.turn(host)
        time.sleep(0.01)


def test_a_child_looks_when_it_is_due(machine, tmp_path, caplog):
    """Once, then not before the time has come; never with a kill switch, or when the owner wants none."""
    place = tmp_path / "looks"
    looker = child(f"open({str(place)!r}, 'a').write('x')")
    host = machine.host()
    looker.turn(host)
    assert not looker.busy
    machine.clock.seconds += 3600
    looker.turn(replace(host, settings=replace(host.settings, look_hours=0)))
    assert not looker.busy
    host.paths.switch.parent.mkdir(parents=True, exist_ok=True)
    host.paths.switch.write_text("")
    looker.turn(host)
    assert not looker.busy
    host.paths.switch.unlink()
    looker.turn(host)
    assert looker.busy
    settle(looker, host)
    assert place.read_text() == "x"
    save_look(host.paths, make_look(at=machine.clock.now()))
    machine.clock.seconds += 23 * 3600
    looker.turn(host)
    assert not looker.busy
    machine.clock.seconds += 3700
    looker.turn(host)
    assert looker.busy
    settle(looker, host)
    assert place.read_text() == "xx"


FAILURES = {
    "ends badly": ("raise SystemExit('no luck')", {}, "failed (1): no luck"),
    "takes too long": ("import time; time.sleep(600)", {"longest": 0.0}, "took longer than 0 s"),
    "is killed": ("import os; os.kill(os.getpid(), 9)", {}, "failed (-9)"),
}


@pytest.mark.parametrize(("code", "more", "words"), FAILURES.values(), ids=FAILURES)
def test_a_look_that_fails_is_said_and_made_again_an_hour_later(machine, caplog, code, more, words):
    """It leaves no process behind and does not disturb the daemon."""
    looker = child(code, **more)
    host = machine.host()
    looker.turn(host)
    machine.clock.seconds += 3600
    looker.turn(host)
    process = looker._running
    settle(looker, host)
    assert process.poll() is not None
    assert words in caplog.text
    machine.clock.seconds += 3500
    looker.turn(host)
    assert not looker.busy
    machine.clock.seconds += 200
    looker.turn(host)
    assert looker.busy
    looker.close()


def test_the_daemon_ends_the_look_with_itself(machine):
    """Asked to end, it leaves no child."""
    looker = child("import time; time.sleep(600)")
    daemon = Daemon(host=replace(machine.host(), patient=True), looker=looker)
    seen = []

    def tick():
        if looker.busy:
            seen.append(looker._running)
            raise KeyboardInterrupt

    machine.clock.ticks.append(tick)
    with pytest.raises(KeyboardInterrupt):
        daemon.run()
    assert seen[0].poll() is not None
    assert not looker.busy


@pytest.fixture
def server(machine):
    """A server that has taken the machine in."""
    with fake_server() as fake:
        link = Link(address=fake.address)
        membership.join(machine.host().paths, link, token=TOKEN, name="web", labels={}, now=NOW)
        yield fake


def check_in(machine):
    """A check-in that is due."""
    machine.clock.seconds += 4000
    CheckIns(chance=lambda: 0.5).check_in(machine.host())


def test_the_server_is_told_once(machine, server):
    """At the check-in after the look, and again after the next look."""
    check_in(machine)
    assert server.looks == []
    look = make_look()
    save_look(machine.host().paths, look)
    check_in(machine)
    check_in(machine)
    assert server.looks == [look]
    later = make_look(at=NOW + HOUR)
    save_look(machine.host().paths, later)
    check_in(machine)
    assert server.looks == [look, later]
    assert len(server.reports) == 4


def test_a_server_that_takes_no_looks_is_tolerated(machine, server, caplog):
    """It is not asked a second time for the same look, and check-ins go on."""
    server.takes_looks = False
    save_look(machine.host().paths, make_look())
    check_in(machine)
    check_in(machine)
    assert [path for _, path, _ in server.asked].count("/api/v1/agent/look") == 1
    assert len(server.reports) == 2
    assert load_fleet(machine.host().paths).error == ""


def test_a_look_that_cannot_be_read_is_none(machine, server):
    """The agent goes on without it."""
    paths = machine.host().paths
    paths.look.parent.mkdir(parents=True, exist_ok=True)
    paths.look.write_text('{"at": 3}')
    check_in(machine)
    assert server.looks == []
    assert load_look(paths) is None
    assert view.status(machine.host()).look is None


def test_status_names_the_look(machine):
    """Date and counts, for people and programs."""
    save_look(machine.host().paths, make_look(errors=("exposure: no records",)))
    status = view.status(machine.host())
    assert (status.look.score, status.look.failed, status.look.open, status.look.reachable) == (74, 1, 3, 3)
    text = texts.status_text(status)
    assert "audit 74%, 1 checks failed; 3 open CVEs, containers reach 3" in text
    assert "exposure: no records" in text
