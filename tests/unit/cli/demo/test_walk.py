"""The demo's own folder, its web server, and the verbs that run beside it."""

import sys
import time
import urllib.error
import urllib.request

import pytest

from kmend.cli.demo import beside
from kmend.cli.demo.walk import _clear
from kmend.kit.errors import InputError, MachineError


def test_an_earlier_run_is_cleared_away(tmp_path):
    """Only what a demo leaves, and hidden leftovers, may be there."""
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "keys").mkdir()
    (tmp_path / ".keys-x").mkdir()
    _clear(tmp_path)
    assert not (tmp_path / "report.json").exists()
    assert not (tmp_path / "keys").exists()


def test_somebody_elses_folder_is_left_alone(tmp_path):
    """A folder with other things in it is refused, and nothing of it is touched."""
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        _clear(tmp_path)
    assert (tmp_path / "report.json").exists()


def test_the_server_serves_the_folder_on_loopback(tmp_path):
    """Files of the folder are served, and nothing after the block."""
    (tmp_path / "timestamp.json").write_text("signed")
    with beside.served(tmp_path) as port:
        address = f"http://127.0.0.1:{port}/timestamp.json"
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert answer.read() == b"signed"
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=10)


def test_a_verb_beside_is_heard_when_it_has_ended(tmp_path):
    """It runs as a program of its own; its end is told with its seconds, and what it said is kept."""
    log, told = tmp_path / "logs" / "x.log", []
    with beside.kmend_beside(["--version"], log=log, ended=lambda *end: told.append(end)) as job:
        job.wait()
        job.look()
    ((code, seconds),) = told
    assert code == 0
    assert seconds > 0
    assert "kmend" in log.read_text()


def test_a_verb_that_fails_says_why(tmp_path):
    """The error has its last words."""
    told = []
    with beside.kmend_beside(["no-such-verb"], log=tmp_path / "x.log", ended=lambda *end: told.append(end)) as job:
        with pytest.raises(MachineError, match="no-such-verb"):
            job.wait()
        with pytest.raises(MachineError, match="no-such-verb"):
            job.look()
    assert told[0][0] == 1


def test_leaving_early_lets_a_verb_clean_up(tmp_path, monkeypatch):
    """It is asked to end and given time for it, so that no scratch folder stays."""
    script = tmp_path / "slow.py"
    script.write_text(
        "import signal, sys, time, pathlib\n"
        f"there = pathlib.Path({str(tmp_path / 'there')!r})\n"
        "def end(*_):\n    there.unlink()\n    sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "there.touch()\n"
        "time.sleep(60)\n"
    )
    wrapper = tmp_path / "python"
    wrapper.write_text(f"#!/bin/sh\nexec {sys.executable} {script}\n")
    wrapper.chmod(0o755)
    monkeypatch.setattr(beside.sys, "executable", str(wrapper))
    told = []
    with beside.kmend_beside([], log=tmp_path / "x.log", ended=lambda *end: told.append(end)):
        deadline = time.monotonic() + 20
        while not (tmp_path / "there").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (tmp_path / "there").exists()
    assert not (tmp_path / "there").exists()
    assert told == []
