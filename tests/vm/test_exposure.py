"""What a livepatch closes is shown closed as long as it is in the kernel: loaded by the agent, seen, and told."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from kmend.build.builder import build
from kmend.build.plan import plan
from kmend.kit.progress import Silent
from kmend.lab.accelerator import accelerator
from kmend.lab.initramfs import link
from kmend.lab.quick import quick_guest
from kmend.model import wire
from kmend.model.livepatch import Livepatch
from makers import fixes
from makers.exposures import cve, saved, write_cna
from makers.guest_facts import AGENT, facts_of_guest, make_agent
from makers.guest_python import plain, python_files
from makers.nouns import make_report
from makers.repository import SimulatedRepository

pytestmark = [pytest.mark.vm, pytest.mark.kit]
KMEND = Path(sys.executable).with_name("kmend")
SCHEMA = Path(__file__).parents[1] / "makers/openvex.schema.json"
RECORDS = (
    cve(1000, "fs/proc/cmdline.c"),
    cve(1001, "fs/proc/cmdline.c"),
    cve(1002, "drivers/net/dummy.c"),
    cve(1003, "fs/proc/version.c"),
)
# Of the kernel itself, and of a module that is not loaded.
REPAIRED = {("CVE-2026-1000", "CVE-2026-1001"): fixes.GOOD_DIFF, ("CVE-2026-1002",): fixes.DUMMY_DIFF}
CLOSED = {name for names in REPAIRED for name in names}
OPEN = {"CVE-2026-1003"}
ENROL = ("init", "--root", "/repo/root.json", "--repo", "/repo/served", "--channel", "edge")
DEBIAN = b'ID=debian\nVERSION_ID="12"\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of everything here."""
    return tmp_path_factory.mktemp("exposure")


@pytest.fixture(scope="module")
def livepatch(kit, folder):
    """The manifest of the livepatch in the repository below ``folder``."""
    repaired = [
        replace(fixes.make_fix(diff), name=f"fix-{number}", cves=names)
        for number, (names, diff) in enumerate(REPAIRED.items())
    ]
    made = build(plan(repaired, kit.kernel, number=1), kit, out=folder / "built", progress=Silent())
    assert isinstance(made, Livepatch), made
    (folder / "built/labreport.json").write_text(wire.dump(make_report(made)))
    release = SimulatedRepository(folder / "release")
    release.publish_folder(folder / "built")
    return made


@pytest.fixture(scope="module")
def seen(kit, livepatch, folder):
    """Facts of one guest before the livepatch, with it, and after it was taken out."""
    files = python_files() | {
        AGENT.lstrip("/"): plain(make_agent(folder)),
        "etc/os-release": plain(DEBIAN),
        "bin/mkdir": link("busybox"),
        "repo/root.json": plain((folder / "release/keys/root/1.root.json").read_bytes()),
    }
    served = folder / "release/repo"
    files |= {
        f"repo/served/{path.relative_to(served)}": plain(path.read_bytes())
        for path in served.rglob("*")
        if path.is_file()
    }
    found = {}
    with quick_guest(kit, folder, accelerator=accelerator(kit, Silent()), probes={}, files=files) as guest:
        guest.must(["mkdir", "-p", "/var/lib", "/tmp"])
        for state, words in (("before", ENROL), ("loaded", ("update", "--soak", "1")), ("out", ("unload",))):
            guest.must(["python3", "-I", "-S", AGENT, *words], timeout=300)
            assert ("kmend_1" in guest.loaded_modules()) == (state == "loaded")
            found[state] = facts_of_guest(guest)
    return found


@pytest.fixture(scope="module")
def ask(seen, folder):
    """Asks ``kmend exposure`` about the guest in one of its states: what is printed."""
    records = write_cna(folder / "vulns", *RECORDS)

    def asked(state, *words):
        facts = saved(folder, f"{state}.json", seen[state])
        command = [KMEND, "exposure", "--facts", facts, "--records", records, *words]
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return asked


def by_verdict(said):
    """Verdict → CVEs, of what ``--json`` printed."""
    found = {}
    for one in json.loads(said)["cves"]:
        found.setdefault(one["verdict"], set()).add(one["cve"])
    return found


def statements(said):
    """CVE → statement, of what ``--openvex`` printed; the document follows the format's schema."""
    document = json.loads(said)
    checker = jsonschema.Draft202012Validator(
        json.loads(SCHEMA.read_text()), format_checker=jsonschema.FormatChecker()
    )
    checker.validate(document)
    assert len(document["statements"]) == len(RECORDS)
    return {one["vulnerability"]["name"]: one for one in document["statements"]}


def test_the_facts_name_what_the_manifest_names(seen, livepatch):
    """The agent tells which CVEs its livepatch closes; without it there is none."""
    (one,) = seen["loaded"].kernel.livepatches
    assert (one.module, one.enabled, one.in_transition) == ("kmend_1", True, False)
    assert set(one.cves) == set(livepatch.cves) == CLOSED
    assert seen["before"].kernel.livepatches == seen["out"].kernel.livepatches == ()
    assert {facts.kernel.build_id for facts in seen.values()} == {livepatch.kernel.build_id}


@pytest.mark.parametrize("state", ["before", "out"])
def test_without_the_livepatch_all_are_open(ask, state):
    """Before it was loaded, and once it was taken out."""
    assert by_verdict(ask(state, "--json")) == {"open": CLOSED | OPEN}
    assert f"{len(RECORDS)}  open" in ask(state)
    assert {one["status"] for one in statements(ask(state, "--openvex")).values()} == {"affected"}


def test_with_the_livepatch_its_cves_are_closed(ask):
    """In JSON, in the table, and one by one with what says so; the fourth stays open."""
    assert by_verdict(ask("loaded", "--json")) == {"closed-by-livepatch": CLOSED, "open": OPEN}
    table = ask("loaded")
    assert "1  open" in table
    assert "3  closed by livepatch" in table
    for name in CLOSED:
        assert name not in table
        alone = ask("loaded", "--cve", name)
        assert name in alone
        assert "manifest of kmend_1: livepatch 1 is in effect" in alone


def test_scanners_are_told_that_they_are_fixed(ask):
    """OpenVEX: fixed, with the livepatch as the reason; the open one says what to do."""
    told = statements(ask("loaded", "--openvex"))
    for name in CLOSED:
        assert told[name]["status"] == "fixed"
        assert "livepatch 1 is in effect" in told[name]["status_notes"]
        assert "action_statement" not in told[name]
    for name in OPEN:
        assert told[name]["status"] == "affected"
        assert told[name]["action_statement"]
