"""The host profile, once: a real Debian container host, a real livepatch, and what only such a host can show."""

import functools
import hashlib
import http.server
import os
import threading

import pytest

from kmend.kit.progress import Silent
from kmend.lab.host import FORWARDED, container_host
from kmend.lab.lab import run_lab
from kmend.model.lab import ProbeResult, Profile
from makers.fixes import CMDLINE_PROBE, GOOD_DIFF

pytestmark = [pytest.mark.vm, pytest.mark.kit, pytest.mark.skipif(os.geteuid() != 0, reason="needs root once")]

SIZE = 300_000
FETCH = """
import concurrent.futures, hashlib, urllib.request
def get(_):
    return hashlib.sha256(urllib.request.urlopen("{url}/blob", timeout=60).read()).hexdigest()
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(*set(pool.map(get, range(8))))
"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def served(tmp_path):
    """A web server on loopback with one file: its port, and the file's SHA-256."""
    content = os.urandom(SIZE)
    (tmp_path / "blob").write_bytes(content)
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], hashlib.sha256(content).hexdigest()
        server.shutdown()


def test_containers_live_through_a_livepatch(kit, built):
    """They see the bug, the fix and the bug again, and none restarts, pauses or loses a connection."""
    report = run_lab(kit, built(GOOD_DIFF, CMDLINE_PROBE), profile=Profile.HOST, soak=5, progress=Silent())
    assert report.passed, report.failure
    assert (report.probe_before, report.probe_after, report.probe_unloaded) == (
        ProbeResult.VULNERABLE,
        ProbeResult.FIXED,
        ProbeResult.VULNERABLE,
    )
    assert {record.name for record in report.containers} == {"web", "database", "queue"}
    for record in report.containers:
        assert record.restarts == 0
        assert record.started_at == record.started_at_after
        assert record.heartbeats > 50
        assert 0 < record.longest_gap_ms < 5000
        assert record.connection_kept
    assert report.boot_id_before == report.boot_id_after != ""


def test_what_the_demo_needs(kit, served):
    """The guest reaches the forwarded port and nothing else; files go in, beats and verdicts come out."""
    port, digest = served
    probe = "int main(void) { return 1; }"
    with container_host(kit, probes={"always": probe}, forward_port=port) as host:
        assert host.run(["python3", "-c", FETCH.format(url=FORWARDED)], timeout=120) == (0, f"{digest}\n", "")
        outside = "import socket; socket.create_connection(('10.0.2.2', {}), 5)"
        assert host.run(["python3", "-c", outside.format(port)], timeout=60)[0] == 1
        host.put("/root/blob", bytes(range(256)) * 4000)
        assert host.get("/root/blob") == bytes(range(256)) * 4000
        assert host.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=60) == (3, "out\n", "err\n")
        assert host.run(["sleep", "99"], timeout=1)[0] == 124
        assert host.run(["python3", "-c", "import cryptography"], timeout=60)[0] == 0
        assert host.probe() == {"always": ProbeResult.VULNERABLE}
        assert {result for _, result in host.verdicts()} == {ProbeResult.VULNERABLE}
        assert all(len(beats) > 20 for beats in host.heartbeats().values())
        status = host.run(["sh", "-c", "cat /proc/$(pidof -s beat)/status"], timeout=60)[1]
        assert "CapEff:\t0000000000000000" in status
        assert "Seccomp:\t2" in status
        assert "Uid:\t65534" in status
        assert kit.kernel.release in host.kernel_log()
