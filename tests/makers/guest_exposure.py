"""A guest whose agent loads a livepatch and takes it out, and what ``kmend exposure`` says of it in each state."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema

from kmend.kit.progress import Silent
from kmend.lab.accelerator import accelerator
from kmend.lab.initramfs import link
from kmend.lab.quick import quick_guest
from kmend.model.facts import Facts
from kmend.model.kernel import Kit
from makers.exposures import saved
from makers.guest_facts import AGENT, facts_of_guest, make_agent
from makers.guest_python import plain, python_files
from makers.repository import SimulatedRepository

KMEND = Path(sys.executable).with_name("kmend")
SCHEMA = Path(__file__).with_name("openvex.schema.json")
ENROL = ("init", "--root", "/repo/root.json", "--repo", "/repo/served", "--channel", "edge")
STATES = (("before", ENROL), ("loaded", ("update", "--soak", "1")), ("out", ("unload",)))
DEBIAN = b'ID=debian\nVERSION_ID="12"\n'


def seen_in_guest(kit: Kit, release: SimulatedRepository) -> dict[str, Facts]:
    """State → facts of one guest: before livepatch 1 of the repository, with it, and after it was taken out."""
    folder = release.folder.parent
    files = python_files() | {
        AGENT.lstrip("/"): plain(make_agent(folder)),
        "etc/os-release": plain(DEBIAN),
        "bin/mkdir": link("busybox"),
        "repo/root.json": plain(release.root),
    }
    files |= {
        f"repo/served/{path.relative_to(release.repo)}": plain(path.read_bytes())
        for path in release.repo.rglob("*")
        if path.is_file()
    }
    found = {}
    with quick_guest(kit, folder, accelerator=accelerator(kit, Silent()), probes={}, files=files) as guest:
        guest.must(["mkdir", "-p", "/var/lib", "/tmp"])
        for state, words in STATES:
            guest.must(["python3", "-I", "-S", AGENT, *words], timeout=600)
            assert ("kmend_1" in guest.loaded_modules()) == (state == "loaded")
            found[state] = facts_of_guest(guest)
    return found


def asker(seen: Mapping[str, Facts], folder: Path, *usual: str | Path) -> Callable[..., str]:
    """Asks ``kmend exposure`` about the guest in one of its states: what is printed."""

    def asked(state: str, *words: str) -> str:
        facts = saved(folder, f"{state}.json", seen[state])
        command = [KMEND, "exposure", "--facts", facts, *usual, *words]
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return asked


def by_verdict(said: str) -> dict[str, set[str]]:
    """Verdict → CVEs, of what ``--json`` printed."""
    found: dict[str, set[str]] = {}
    for one in json.loads(said)["cves"]:
        found.setdefault(one["verdict"], set()).add(one["cve"])
    return found


def statements(said: str) -> dict[str, dict[str, Any]]:
    """CVE → statement, of what ``--openvex`` printed; the document follows the format's schema."""
    document = json.loads(said)
    checker = jsonschema.Draft202012Validator(
        json.loads(SCHEMA.read_text()), format_checker=jsonschema.FormatChecker()
    )
    checker.validate(document)
    found = {one["vulnerability"]["name"]: one for one in document["statements"]}
    assert len(found) == len(document["statements"]), "a CVE with two statements"
    return found
