"""What long work shows on a terminal, and what it writes into a log."""

import io

import pytest
from rich.console import Console

from kmend.cli import progress


def test_a_log_gets_one_plain_line_per_step_and_note():
    """Without a terminal there are neither bars nor control characters."""
    file = io.StringIO()
    with progress.shown(console=Console(file=file)) as shown:
        shown.step("Downloading [all]")
        shown.amount(1, 4, unit="bytes")
        shown.note("4 packages")
    assert file.getvalue() == "Downloading [all] ...\n4 packages\n"


def test_a_log_hears_of_a_long_step_now_and_then(monkeypatch):
    """A step that takes long reports its amount every ten seconds, and its time at the end."""
    clock = iter(range(0, 1000, 11))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    file = io.StringIO()
    lines = progress.PlainLines(file)
    lines.step("Downloading")
    lines.amount(2_000_000, 4_000_000, unit="bytes")
    lines.end()
    said = file.getvalue().splitlines()
    assert said[1] == "Downloading: 2.0 MB of 4.0 MB"
    assert said[2].startswith("Downloading: done after")


def test_a_terminal_keeps_what_was_done():
    """Each ended step stays as one line with its time, names shown as they are."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100)
    with progress.shown(console=console) as shown:
        shown.step("Downloading [bold]")
        shown.amount(3, 0)
        shown.note("note [x]")
        shown.step("Unpacking")
    text = file.getvalue()
    assert "✓" in text
    assert "Downloading [bold]" in text
    assert "note [x]" in text
    assert "Unpacking" in text


def test_an_error_inside_does_not_tick_the_step_off():
    """A step that failed is not shown as done."""
    file = io.StringIO()

    def fail():
        with progress.shown(console=Console(file=file, force_terminal=True)) as shown:
            shown.step("Downloading")
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert "✓" not in file.getvalue()
