"""What a cumulative livepatch of `kmend update` closes is shown closed in a kernel that has it.

The livepatch takes an hour to make, so it is given: KMEND_UPDATE names the folder of a `kmend update`, and
KMEND_CVE_RECORDS the records of the kernel's CNA.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kmend.kernels import store
from kmend.model import wire
from kmend.model.livepatch import Livepatch
from makers.guest_exposure import KMEND, asker, by_verdict, seen_in_guest, statements
from makers.repository import SimulatedRepository

UPDATE, RECORDS = os.environ.get("KMEND_UPDATE", ""), os.environ.get("KMEND_CVE_RECORDS", "")
CLOSED = "closed-by-livepatch"

pytestmark = [
    pytest.mark.vm,
    pytest.mark.long,
    pytest.mark.kit,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(not UPDATE or not RECORDS, reason="KMEND_UPDATE or KMEND_CVE_RECORDS names nothing"),
]


@pytest.fixture(scope="module")
def livepatch():
    """The manifest of the one livepatch of all fixes."""
    return wire.load(Livepatch, (Path(UPDATE) / "together/livepatch.json").read_bytes(), what="livepatch")


@pytest.fixture(scope="module")
def ask(livepatch, tmp_path_factory):
    """Asks ``kmend exposure`` about a guest before the livepatch, with it, and after it was taken out."""
    folder = tmp_path_factory.mktemp("update")
    kit = store.fetch(livepatch.kernel.release)
    release = SimulatedRepository(folder / "release")
    release.publish_folder(Path(UPDATE) / "together")
    files = folder / "kernel-files.json"
    subprocess.run([KMEND, "kernel", "files", kit.kernel.release, "-o", files], check=True)
    return asker(seen_in_guest(kit, release), folder, "--records", RECORDS, "--kernel-files", files)


def test_every_cve_of_the_manifest_is_closed(ask, livepatch):
    """With the livepatch, and only with it; and no other CVE is."""
    named = set(livepatch.cves)
    before, loaded, out = (by_verdict(ask(state, "--json")) for state in ("before", "loaded", "out"))
    sys.stdout.write(
        f"{len(livepatch.fixes)} fixes, {len(livepatch.functions)} functions, {len(named)} CVEs, "
        f"{len(loaded[CLOSED])} of them closed; {len(before['open'])} open before, {len(loaded['open'])} after\n"
    )
    assert loaded[CLOSED] == named
    assert before == out
    assert CLOSED not in before
    assert before["open"] - loaded["open"] == named & before["open"]
    assert f"{len(named)}  closed by livepatch" in ask("loaded")


@pytest.mark.parametrize(("state", "with_it"), [("before", False), ("loaded", True), ("out", False)])
def test_scanners_are_told(ask, livepatch, state, with_it):
    """OpenVEX says fixed, and CycloneDX resolved, of each CVE while the livepatch is in effect."""
    named, reason = set(livepatch.cves), "livepatch 1 is in effect"
    told = statements(ask(state, "--openvex"))
    because = {name for name, one in told.items() if reason in one["status_notes"]}
    assert because == (named if with_it else set())
    assert all(told[name]["status"] == "fixed" for name in because)
    found = {one["id"]: one["analysis"] for one in json.loads(ask(state, "--cyclonedx"))["vulnerabilities"]}
    assert {name for name, one in found.items() if reason in one["detail"]} == because
    assert all(found[name]["state"] == "resolved" for name in because)
