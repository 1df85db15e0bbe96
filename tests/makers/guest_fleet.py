"""A real fleet for guests: `kmend serve` on the loopback, a signed repository, real livepatches, agents in VMs."""

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import urllib3

from kmend.agent.timing import place_of
from kmend.build.builder import build
from kmend.build.plan import plan
from kmend.kit.progress import Silent
from kmend.lab.machine import FORWARDED
from kmend.model.fix import Fix
from kmend.model.livepatch import Livepatch
from makers.folders import make_edited
from makers.listening import serving

ADDRESS = f"https://{FORWARDED}"
AGENT = "/usr/bin/kmend-agent"
CHANNEL = "edge"
NOBODY = 65534
SOON = 0.1
RESIDENT_KIB = 40 * 1024
"""What the daemon may keep in memory at most."""
EVERY = 10
"""Seconds between check-ins."""
SETTINGS = 'ca_file = "/etc/kmend/server.pem"\nsoak_minutes = 1\n'
SHOWN = ("\tseq_putc(m, '\\n');", '\tseq_puts(m, " livepatched={}\\n");')
FIRST = "\tseq_puts(m, saved_command_line);\n"
FAULT = "\tif (uid_eq(current_uid(), KUIDT_INIT(65534)))\n\t\t{}\n"
WARNS = 'WARN_ONCE(1, "kmend-test: read by nobody\\n");'
PANICS = 'panic("kmend-test: read by nobody\\n");'


def cmdline_livepatch(kit, number, out, *, fault=""):
    """Build a livepatch that shows its number in /proc/cmdline, and does ``fault`` when user 65534 reads that.

    What only the users of unprivileged containers meet, the lab does not meet.
    """
    edits = [(SHOWN[0], SHOWN[1].format(number))]
    if fault:
        edits.append((FIRST, FAULT.format(fault) + FIRST))
    diff = make_edited(kit.source, "fs/proc/cmdline.c", *edits)
    fix = Fix(name=f"visible-{number}", cves=("CVE-2026-00001",), title="A test", diff=diff, origin="a test")
    made = build(plan([fix], kit.kernel, number=number), kit, out=out, progress=Silent())
    assert isinstance(made, Livepatch), made
    return made


def until(look, what, *, limit=300):
    """What ``look`` returns once that is something; looks again and again for ``limit`` seconds.

    Not more often than every other second: most looks start a program, on processors that the guests need.
    """
    deadline = time.monotonic() + limit
    while not (found := look()):
        assert time.monotonic() < deadline, f"In {limit} s it did not come to this: {what}"
        time.sleep(2)
    return found


class RealFleet:
    """The running server, asked as people ask it."""

    def __init__(self, folder, release, said):
        self.release = release
        self.port = int(said["listening"].rpartition(":")[2])
        self.fingerprint = said["fingerprint"].strip()
        self.certificate = (folder / "server/certificate.pem").read_bytes()
        self.environment = {
            **os.environ,
            "KMEND_SERVER": f"https://127.0.0.1:{self.port}",
            "KMEND_FINGERPRINT": self.fingerprint,
            "KMEND_TOKEN_FILE": str(folder / "admin-token"),
        }

    def ask(self, *words):
        """`kmend fleet WORDS --json`: what it prints."""
        command = [sys.executable, "-m", "kmend", "fleet", *words, "--json"]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def reports(self, name):
        """What a host has reported, the newest first."""
        path = f"/api/v1/hosts/{self.host(name)['id']}/reports"
        token = Path(self.environment["KMEND_TOKEN_FILE"]).read_text().strip()
        pool = urllib3.PoolManager(cert_reqs="CERT_NONE", assert_fingerprint=self.fingerprint)
        headers = {"Authorization": f"Bearer {token}"}
        answer = pool.request("GET", self.environment["KMEND_SERVER"] + path, headers=headers).json()
        return [one["report"] for one in answer["items"]]

    def roll_out(self, name, folders, *words):
        """Begin a rollout and return its id."""
        made = self.ask("rollout", "create", *map(str, folders), "--name", name, "--channel", CHANNEL, *words)
        return made["id"]

    def state(self, rollout):
        """The rollout's state and its reason."""
        found = self.ask("rollout", "show", rollout)
        return found["state"], found["reason"]

    def stages(self, rollout):
        """Name of a host → where it stands; hosts that wait since the beginning may be missing."""
        return {one["name"]: one["stage"] for one in self.ask("rollout", "hosts", rollout)}

    def host(self, name):
        """One host as the server knows it."""
        return next(one for one in self.ask("host", "list") if one["name"] == name)

    def until_heard(self, name):
        """Wait until a host has checked in after this moment, and return it as the server knows it then."""
        before = self.host(name)["seen"]
        until(lambda: self.host(name)["seen"] != before, f"{name} checks in")
        return self.host(name)

    def until_state(self, rollout, wanted, *, limit=300):
        """Wait until the rollout is in a state, and return the reason."""

        def look():
            state, reason = self.state(rollout)
            return state == wanted and (reason or "no reason")

        return until(look, f"rollout {rollout} is {wanted}", limit=limit)


@contextmanager
def real_fleet(folder, release, *, every=EVERY):
    """`kmend serve` with TLS by a certificate of its own, serving the repository too."""
    words = ("--repository", release.repo, "--name", FORWARDED.partition(":")[0], "--interval", str(every))
    words += ("--admin-token-file", folder / "admin-token")
    with serving(folder / "server", *words) as (_, said):
        yield RealFleet(folder, release, said)


def enrol(guest, fleet, name, *labels):
    """Make a guest with the agent's program a member of the fleet; the daemon is not started by that."""
    token = fleet.ask("token", "create", name, "--role", "enrol", "--uses", "1", "--channel", CHANNEL)["text"]
    guest.must(["mkdir", "-p", "/etc/kmend", "/root", "/var/lib"])
    files = {
        "/etc/machine-id": f"{machine_id(name)}\n".encode(),
        "/etc/kmend/agent.toml": SETTINGS.encode(),
        "/etc/kmend/server.pem": fleet.certificate,
        "/root/root.json": fleet.release.root,
        "/root/token": token.encode(),
    }
    for path, content in files.items():
        guest.put(path, content)
    repository = f"{ADDRESS}/repository"
    guest.must(
        [AGENT, "init", "--root", "/root/root.json", "--repo", repository, "--channel", CHANNEL], timeout=180
    )
    words = ["--fingerprint", fleet.fingerprint, "--name", name, *(f"--label={label}" for label in labels)]
    guest.must([AGENT, "enroll", "--server", ADDRESS, "--token-file", "/root/token", *words], timeout=180)


def machine_id(name):
    """One for each name, of a host whose agent looks soon after its start."""
    ids = (hashlib.md5(f"{name} {n}".encode(), usedforsecurity=False).hexdigest() for n in itertools.count())
    return next(one for one in ids if place_of(one) < SOON)


def last_offer(guest):
    """What the server told a guest last."""
    return json.loads(guest.get("/var/lib/kmend/fleet.json"))["offer"]


def status(guest):
    """`kmend-agent status --json`."""
    return json.loads(guest.must([AGENT, "status", "--json"], timeout=180))


def read_by_nobody(guest):
    """/proc/cmdline as an unprivileged user reads it."""
    return guest.answer(["cat", "/proc/cmdline"], uid=NOBODY).text


def resident_kib(guest, pid):
    """What a process of the guest keeps in memory now."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", guest.must(["cat", f"/proc/{pid}/status"]))[1])
