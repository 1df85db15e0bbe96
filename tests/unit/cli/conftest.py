"""What the tests of the verbs share."""

import sys

import pytest

from kmend.cli.main import kmend, run_command


@pytest.fixture
def type_in(monkeypatch, capsys):
    """Runs kmend with words; gives back exit code, output and error output."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["kmend", *map(str, words)])
        code = run_command(kmend)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
