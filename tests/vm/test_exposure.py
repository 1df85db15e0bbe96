"""What a livepatch closes is shown closed as long as it is in the kernel: loaded by the agent, seen, and told."""

from dataclasses import replace

import pytest

from kmend.build.builder import build
from kmend.build.plan import plan
from kmend.kit.progress import Silent
from kmend.model import wire
from kmend.model.livepatch import Livepatch
from makers import fixes
from makers.exposures import cve, write_cna
from makers.guest_exposure import asker, by_verdict, seen_in_guest, statements
from makers.nouns import make_report
from makers.repository import SimulatedRepository

pytestmark = [pytest.mark.vm, pytest.mark.kit]
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of everything here."""
    return tmp_path_factory.mktemp("exposure")


@pytest.fixture(scope="module")
def release(folder):
    """The repository that the guest knows."""
    return SimulatedRepository(folder / "release")


@pytest.fixture(scope="module")
def livepatch(kit, release, folder):
    """The manifest of the livepatch in the repository."""
    repaired = [
        replace(fixes.make_fix(diff), name=f"fix-{number}", cves=names)
        for number, (names, diff) in enumerate(REPAIRED.items())
    ]
    made = build(plan(repaired, kit.kernel, number=1), kit, out=folder / "built", progress=Silent())
    assert isinstance(made, Livepatch), made
    (folder / "built/labreport.json").write_text(wire.dump(make_report(made)))
    release.publish_folder(folder / "built")
    return made


@pytest.fixture(scope="module")
def seen(kit, livepatch, release):
    """Facts of one guest before the livepatch, with it, and after it was taken out."""
    assert livepatch.number == 1
    return seen_in_guest(kit, release)


@pytest.fixture(scope="module")
def ask(seen, folder):
    """Asks ``kmend exposure`` about the guest in one of its states: what is printed."""
    return asker(seen, folder, "--records", write_cna(folder / "vulns", *RECORDS))


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
