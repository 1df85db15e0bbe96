"""What has to hold for the demo to have succeeded."""

from dataclasses import replace

import pytest
from tests.makers import demo

from kmend.cli.demo.report import DemoReport, longest_gap, typical_gap
from kmend.model import wire
from kmend.model.lab import ProbeResult


def broken(report: DemoReport) -> list[str]:
    """The texts of the claims that do not hold."""
    return [claim.text for claim in report.claims if not claim.holds]


def test_a_good_run_passes_with_its_figures():
    """When everything held, the report says so, and its figures are those that were measured."""
    report = demo.run().story().report
    assert report.passed
    assert broken(report) == []
    assert (report.probe_before, report.probe_after) == ("vulnerable", "fixed")
    assert (report.containers, report.containers_restarted, report.connections_kept) == (3, 0, 3)
    assert report.transition_ms == 1400
    assert report.max_heartbeat_gap_ms == 205
    assert 50 <= report.typical_heartbeat_gap_ms <= 55
    assert 0 < report.probe_flip_ms < 1400
    assert report.boot_id_before == report.boot_id_after


def test_the_report_survives_its_file():
    """report.json holds the whole report."""
    report = demo.run().story().report
    assert wire.load(DemoReport, wire.dump(report), what="report.json") == report


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"build_id": "cd" * 20}, "kernel that the livepatch was built for"),
        ({"probe_before": ProbeResult.UNKNOWN}, "hole"),
        ({"probe_after": ProbeResult.VULNERABLE}, "hole"),
        ({"boot_id_after": "another"}, "reboot"),
        ({"boot_id_after": "", "boot_id_before": ""}, "reboot"),
        ({"kernel_log_findings": ("WARNING: CPU: 0",)}, "kernel log"),
        ({"containers": ()}, "No container was restarted"),
    ],
)
def test_each_thing_that_went_wrong_fails_the_demo(changes, word):
    """A demo is not passed when any one of its claims does not hold, and the report names that claim."""
    report = demo.run(**changes).story().report
    assert not report.passed
    assert any(word in text for text in broken(report))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"restarts": 1}, "restarted"),
        ({"started_at_after": "2026-11-24T03:20:00Z"}, "restarted"),
        ({"connection_kept": False}, "connection"),
        ({"heartbeats": 0}, "heart"),
        ({"longest_gap_ms": 60_000.0}, "heart"),
    ],
)
def test_one_container_that_suffered_fails_the_demo(change, word):
    """One container of three is enough."""
    containers = demo.host().containers
    report = demo.run(containers=(*containers[:2], replace(containers[2], **change))).story().report
    assert not report.passed
    assert any(word in text for text in broken(report))


def test_a_heart_that_stopped_at_the_load_fails_the_demo():
    """Containers whose heartbeats end before the transition does are not alive, whatever the engine says."""
    seen = demo.observation()
    ended = {name: tuple(at for at in beats if at < demo.LOADED) for name, beats in seen.heartbeats.items()}
    report = demo.run(observation=replace(seen, heartbeats=ended)).story().report
    assert broken(report) == ["Every container's heart beat all the way through"]


def test_a_probe_that_never_flipped_inside_the_container_fails_the_demo():
    """The verdict must change in the container's own notes."""
    seen = demo.observation()
    verdicts = tuple((at, ProbeResult.VULNERABLE) for at, _ in seen.verdicts)
    report = demo.run(observation=replace(seen, verdicts=verdicts)).story().report
    assert report.probe_flip_ms is None
    assert not report.passed


def test_the_agent_must_answer_with_the_right_exit_codes():
    """`check` that says 0 where a livepatch is available fails the demo."""
    runs = demo.host().agent
    report = demo.run(agent=(runs[0], replace(runs[1], exit_code=0), *runs[2:])).story().report
    assert broken(report) == ["The agent found a livepatch for this very kernel"]
    assert "instead of 10" in next(claim.evidence for claim in report.claims if not claim.holds)


def test_a_lab_report_of_another_module_fails_the_demo():
    """What the lab proved must be what was loaded."""
    run = demo.run()
    story = replace(run, lab=replace(run.lab, livepatch_sha256="ff" * 32)).story()
    assert not story.report.passed


def test_gaps_are_counted_where_they_touch_the_time_asked_for():
    """A pause that begins before the time asked for counts, one that ends before it does not."""
    beats = (0, 100, 400, 450, 1000)
    assert longest_gap(beats, 200, 450) == 550
    assert longest_gap(beats, 200, 420) == 300
    assert longest_gap((5,), 0, 10) == 0
    assert typical_gap([beats, (0, 100)]) == 100
