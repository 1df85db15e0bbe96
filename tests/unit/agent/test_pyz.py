"""kmend-agent.pyz: one file, no other library, Debian's Python, a repository on loopback."""

import functools
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from kmend.agent.checkin import CheckIns
from kmend.cli.facts import load_facts
from kmend.model import wire
from makers.cve_records import record, write_records
from makers.fleet_server import TOKEN, fake_server
from makers.machine import FakeMachine
from makers.nouns import KERNEL
from makers.repository import flip_bit

ROOT = Path(__file__).parents[3]
SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def agent_file(tmp_path_factory):
    """The agent as one file."""
    path = tmp_path_factory.mktemp("dist") / "kmend-agent.pyz"
    subprocess.run([sys.executable, ROOT / "packaging/make-agent-pyz", path], check=True, capture_output=True)
    return path


@pytest.fixture
def address(made):
    """The repository behind a plain static web server."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(made.repo)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def machine(tmp_path):
    """A fake machine; the agent is a process of its own, so nothing is loaded here."""
    return FakeMachine(tmp_path / "machine")


def run(agent_file, machine, *words):
    """Run the agent without site-packages, environment or the current folder."""
    return subprocess.run(
        [SYSTEM_PYTHON, "-I", "-S", agent_file, "--machine-root", machine.root, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=120,
    )


def test_enrol_check_status(agent_file, machine, made, address):
    """The verbs and exit codes of the manual, over http."""
    (machine.root / "root.json").write_bytes(made.root)
    done = run(
        agent_file,
        machine,
        *("init", "--root", str(machine.root / "root.json"), "--repo", address, "--channel", "edge"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    done = run(agent_file, machine, "check")
    assert (done.returncode, done.stdout) == (10, "available: livepatch 1 closes 2 CVEs\n")
    done = run(agent_file, machine, "status", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["running"] == []
    flip_bit(made.entry_path())
    done = run(agent_file, machine, "update", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["reason"] == "altered"
    done = run(agent_file, machine, "update")
    assert done.returncode == 1
    assert "altered" in done.stderr


def test_a_host_that_is_not_enrolled(agent_file, machine):
    """Check could not tell: exit 1, with advice."""
    done = run(agent_file, machine, "check")
    assert done.returncode == 1
    assert "not enrolled" in done.stderr
    assert "kmend-agent init" in done.stderr


@pytest.mark.parametrize("words", [["no-such-verb"], ["update", "--no-such-option"], ["init"]])
def test_wrong_words(agent_file, machine, words):
    """A wrong verb or option is exit 1, never 2 or a traceback."""
    done = run(agent_file, machine, *words)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_it_looks_at_its_host(agent_file, machine):
    """Audit and exposure come with the file; a child of the daemon makes them in bounded memory, and is silent."""
    records = write_records(machine.root / "records", record("CVE-2026-1001", "net/core/sock.c"))
    settings = machine.root / "etc/kmend/agent.toml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(f'cve_records = "{records}"\n')
    done = run(agent_file, machine, "look", "--background", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    made = json.loads(done.stdout)
    assert made["errors"] == []
    assert made["audit"]["scores"][-1]["area"] == "all"
    assert sum(made["exposure"]["verdicts"].values()) == 1
    status = json.loads(run(agent_file, machine, "status", "--json").stdout)["look"]
    assert (status["at"], status["failed"]) == (made["at"], len(made["audit"]["failed"]))
    reports = machine.root / "var/lib/kmend/reports"
    assert (reports / "audit.json").exists()
    assert json.loads((reports / "not-here.json").read_text()) == {"build_id": KERNEL.build_id, "cves": []}


def test_it_says_what_it_sees(agent_file, machine, tmp_path):
    """The facts of its host, as JSON, in words, and as a file that the judging verbs read."""
    saved = tmp_path / "facts.json"
    done = run(agent_file, machine, "facts", "-o", saved)
    assert (done.returncode, done.stderr) == (0, "")
    assert KERNEL.version in done.stdout
    assert done.stdout.endswith(f"Saved in {saved}.\n")
    found = load_facts(saved)
    assert found.kernel.build_id == KERNEL.build_id
    answer = json.loads(run(agent_file, machine, "facts", "--json").stdout)
    assert answer["kernel"] == wire.plain(found)["kernel"]
    nowhere = machine.root / "file"
    nowhere.touch()
    done = run(agent_file, machine, "facts", "-o", nowhere / "x", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["kind"]) == (1, "MachineError")


def test_the_file_holds_the_agent_only(agent_file):
    """No signing, building or lab code, nothing compiled by another compiler than Python's, licences included."""
    names = zipfile.ZipFile(agent_file).namelist()
    packages = {name.split("/")[1] for name in names if name.startswith("kmend/") and name.count("/") > 1}
    assert packages == {"agent", "audit", "cli", "exposure", "kit", "linux", "model", "trust"}
    tops = {name.split("/")[0] for name in names}
    assert not tops & {"cryptography", "rich", "jinja2", "capstone", "requests"}
    assert not [name for name in names if name.endswith((".so", ".pyd"))]
    assert any("licenses/" in name for name in names)


def test_the_same_bytes_every_time(agent_file, tmp_path):
    """Made again, in another process and with another hash seed, the file is the same."""
    again = tmp_path / "again.pyz"
    subprocess.run(
        [sys.executable, ROOT / "packaging/make-agent-pyz", again],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
    )
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(agent_file.read_bytes()).digest()


PEAK = """
import re, runpy, sys, time
sys.argv = [sys.argv[1], "--version"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit:
    # Not getrusage: its figure is never below that of the program that started this one.
    print(re.search("VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1], time.process_time())
"""


def test_it_stays_small(agent_file):
    """Under 3 MB on disk, under 64 MB of memory and under 2 s of processor time to start."""
    assert agent_file.stat().st_size < 3_000_000
    words = [SYSTEM_PYTHON, "-I", "-S", "-c", PEAK, agent_file]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    memory, seconds = done.stdout.split()[-2:]
    assert int(memory) < 64_000
    assert float(seconds) < 2


def test_it_joins_a_server(agent_file, machine, tmp_path):
    """With nothing but the file: enrolled; and status says what the server said."""
    (tmp_path / "token").write_text(TOKEN)
    with fake_server() as server:
        words = ("--server", server.address, "--token-file", tmp_path / "token", "--name", "web-1")
        assert "Enrolled with http://127.0.0.1:" in run(agent_file, machine, "enroll", *words).stdout
        CheckIns().check_in(machine.host())
        assert len(server.reports) == 1
    assert "offer      stay: because of a test" in run(agent_file, machine, "status").stdout
