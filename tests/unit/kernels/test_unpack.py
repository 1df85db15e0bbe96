"""Unpacking side by side: whole or marked as not done, and nothing left when killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kmend.kernels.unpack import Job, unpack
from kmend.kit.errors import MachineError, ProgramError
from kmend.kit.progress import Silent


class _Amounts(Silent):
    def __init__(self):
        self.seen = []

    def amount(self, done, total, *, unit=""):
        self.seen.append((done, total))


@pytest.fixture
def job(tmp_path):
    """Makes a job whose archive has ``size`` bytes and whose program is a line of shell."""

    def make(name, line, *, size=300_000):
        archive = tmp_path / name
        archive.write_bytes((b"x" * 7999 + b"\n") * (size // 8000))
        return Job(archive=archive, command=("sh", "-c", line), done=tmp_path / "done" / name)

    return make


def test_every_program_gets_its_whole_archive(job, tmp_path):
    """Two archives at once, larger than a pipe, arrive byte for byte."""
    jobs = [job("one", f"cat > {tmp_path}/1"), job("two", f"sleep 0.2; cat > {tmp_path}/2", size=2_000_000)]
    heard = _Amounts()
    unpack(jobs, progress=heard)
    assert (tmp_path / "1").read_bytes() == jobs[0].archive.read_bytes()
    assert (tmp_path / "2").read_bytes() == jobs[1].archive.read_bytes()
    assert all(each.done.exists() for each in jobs)
    assert heard.seen == sorted(heard.seen)
    assert heard.seen[-1][0] == heard.seen[-1][1]


def test_what_is_marked_as_done_is_skipped(job, tmp_path):
    """A second run starts nothing."""
    first = job("one", f"echo x >> {tmp_path}/count; cat > /dev/null")
    unpack([first], progress=Silent())
    unpack([first], progress=Silent())
    assert (tmp_path / "count").read_text() == "x\n"


def test_a_program_that_fails_is_not_marked_and_is_named(job):
    """Its last words are in the error, also when it never read its archive."""
    bad = job("one", "echo broken archive >&2; exit 2", size=2_000_000)
    with pytest.raises(ProgramError, match=r"one cannot be unpacked.*broken archive"):
        unpack([bad], progress=Silent())
    assert not bad.done.exists()


def test_a_full_disk_is_said_so(job):
    """The remedy is space, not another try."""
    with pytest.raises(MachineError, match="disk became full") as caught:
        unpack([job("one", "echo 'tar: write: No space left on device' >&2; exit 2")], progress=Silent())
    assert not isinstance(caught.value, ProgramError)


def test_a_kill_ends_what_the_programs_have_started(tmp_path):
    """Grandchildren, which no signal reaches, end because their input ends."""
    marker = f"kmend-test-{os.getpid()}"
    (tmp_path / "archive").write_bytes((b"x" * 7999 + b"\n") * 1000)
    code = f"""
from pathlib import Path
from kmend.kernels.unpack import Job, unpack
from kmend.kit.progress import Silent
line = "(while read -r line; do sleep 0.02; done); : {marker}"
folder = Path({str(tmp_path)!r})
unpack([Job(archive=folder / "archive", command=("sh", "-c", line), done=folder / "done")], progress=Silent())
"""
    with subprocess.Popen([sys.executable, "-c", code]) as child:
        _until(lambda: len(_running(marker)) >= 2)
        os.kill(child.pid, signal.SIGKILL)
    _until(lambda: not _running(marker))
    assert not (tmp_path / "done").exists()


def _running(marker):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == b"sh" and marker.encode() in b" ".join(words):
            found.append(process.name)
    return found


def _until(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen within 10 s")
