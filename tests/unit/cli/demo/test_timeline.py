"""The timeline on screen and in logs, and the table at the end."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from tests.makers import demo

from kmend.cli.demo.ending import ending
from kmend.cli.demo.timeline import Timeline
from kmend.kit.errors import MachineError


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.at


def make(*, terminal: bool = False, width: int = 80) -> tuple[Timeline, io.StringIO, Clock]:
    """A timeline, what it prints, and its clock."""
    file, clock = io.StringIO(), Clock()
    # The console's own environment: the tests mean the same on every terminal.
    console = Console(file=file, force_terminal=terminal, width=width, highlight=False, _environ={"TERM": "xterm"})
    return Timeline(console, now=clock), file, clock


def test_a_log_gets_one_plain_line_per_stage():
    """Time since the beginning, area, result, duration; no control characters, long lines stay whole."""
    timeline, file, clock = make()
    with timeline.shown():
        with timeline.stage("build", "Building [it]") as came:
            timeline.step("detail")
            timeline.amount(1, 2, unit="bytes")
            clock.at += 62.5
            came.append("kmend_1.ko [x] " + "long " * 30 + "end")
        timeline.say("lab", "passed")
    first, second = file.getvalue().splitlines()
    assert first.startswith("   1:02  build      kmend_1.ko [x] long")
    assert first.endswith("end  62.5 s")
    assert second == "   1:02  lab        passed"


def test_a_terminal_wraps_under_the_text():
    """Long results go on under their first word, in colours."""
    timeline, file, _ = make(terminal=True, width=60)
    timeline.say("build", "word " * 20)
    lines = file.getvalue().splitlines()
    assert len(lines) > 1
    assert lines[1].startswith(" " * 20 + "word")
    assert "\x1b[" in lines[0]


def test_a_stage_that_fails_is_not_shown_as_done():
    """Its line says what did not work; an interrupted one has no line."""
    timeline, file, _ = make()
    with pytest.raises(MachineError), timeline.stage("build", "Building"):
        raise MachineError("no")
    with pytest.raises(KeyboardInterrupt), timeline.stage("lab", "Proving"):
        raise KeyboardInterrupt
    assert file.getvalue() == "   0:00  build      Building: this did not work\n"


def test_moments_are_what_was_shown():
    """The report's timeline is the one on screen."""
    timeline, _, clock = make()
    with timeline.stage("kit", "Fetching") as came:
        clock.at += 2
        came += ["one", "two"]
    (moment,) = timeline.moments
    assert (moment.seconds, moment.took, moment.area, moment.text) == (2.0, 2.0, "kit", "one; two")


def test_the_end_shows_before_and_after():
    """The table has each probe, boot id and container, and says where the reports are."""
    report = demo.run().story().report
    lines = [line.plain for line in ending(report, page=Path("a.html"), figures=Path("b.json"))]
    text = "\n".join(lines)
    assert any(line.split() == ["probe", "inside", "a", "container", "vulnerable", "fixed"] for line in lines)
    assert any("web is running since" in line and "the same" in line for line in lines)
    assert "✓ CVE-2026-52928 is closed" in text
    assert "a.html" in text
    assert "b.json" in text
    assert "did not hold" not in text


def test_the_end_of_a_failed_run_names_what_did_not_hold():
    """No tick, but the claim and its evidence."""
    report = demo.run(boot_id_after="another").story().report
    text = "\n".join(line.plain for line in ending(report, page=Path("a"), figures=Path("b")))
    assert "did not hold: The host did not reboot (boot id another)" in text
    assert "✓" not in text
