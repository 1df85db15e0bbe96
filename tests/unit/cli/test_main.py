"""The one place that prints errors and exits."""

import io
import sys

import click
import pytest

from kmend.cli.main import kmend, run_command
from kmend.cli.output import Seconds


@pytest.fixture
def outcome(monkeypatch, capsys):
    """Runs a command that does something; gives back the exit code and what was said."""

    def run(work):
        monkeypatch.setattr(sys, "argv", ["kmend"])
        code = run_command(click.Command("verb", callback=work))
        return code, *capsys.readouterr()

    return run


def test_what_nobody_foresaw_is_one_message(outcome):
    """No traceback reaches a person: the message says what it was and where."""
    code, out, err = outcome(lambda: {}["no such key"])
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    assert err.startswith("error: kmend did not expect this: KeyError: 'no such key'")
    assert "report it" in err


def test_a_file_that_cannot_be_read_is_not_called_unwritable(outcome, tmp_path):
    """Where nobody said what was done to the file, the message names the file and the reason."""
    code, _, err = outcome(lambda: tmp_path.read_bytes() and None)
    assert code == 1
    assert err == f"error: {tmp_path} cannot be used: Is a directory.\n"


def test_a_terminal_without_unicode(monkeypatch):
    """What it cannot show becomes a question mark, not an error."""

    def show() -> None:
        sys.stdout.write("4f61d8… ok\n")

    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "argv", ["kmend"])
    assert run_command(click.Command("verb", callback=show)) == 0
    assert screen.buffer.getvalue() == b"4f61d8? ok\n"


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "soon"])
def test_times_without_an_end_are_refused(text):
    """A timeout of ``nan`` or ``inf`` would wait for ever, or not at all."""
    with pytest.raises(click.BadParameter):
        Seconds().convert(text, None, None)


def test_seconds():
    """Parts of a second and none at all are fine."""
    assert [Seconds().convert(text, None, None) for text in ("0", "2.5")] == [0, 2.5]


def test_exit_codes_are_named(monkeypatch, capsys):
    """The first page says what every verb's exit code means."""
    monkeypatch.setattr(sys, "argv", ["kmend", "--help"])
    assert run_command(kmend) == 0
    assert "Exit codes: 0 done" in capsys.readouterr().out


@pytest.mark.parametrize(("value", "wanted"), [("1", False), ("", None)])
def test_colours_can_be_switched_off(value, wanted, monkeypatch):
    """NO_COLOR counts when it is not empty; else a terminal decides."""
    seen = []
    monkeypatch.setenv("NO_COLOR", value)
    monkeypatch.setattr(sys, "argv", ["kmend"])
    run_command(click.Command("verb", callback=lambda: seen.append(click.get_current_context().color)))
    assert seen == [wanted]
