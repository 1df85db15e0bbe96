"""The verdict on a CVE, and what it stands on."""

from dataclasses import replace

import pytest

from kmend.exposure.known import known, livepatched, of_advisories, of_changelog
from kmend.exposure.presence import Finder
from kmend.exposure.verdicts import Known, judge
from kmend.kit.errors import InputError
from kmend.linux.changelog import ChangelogItem
from kmend.model.exposure import Evidence, Verdict
from kmend.model.facts import KernelFacts, LoadedLivepatch
from makers.exposures import FILES, cve, manifest
from makers.facts import facts

RECORD = cve()
KNOWN = Known(version="6.1.176", follows_stable=True, files=Finder(FILES))


@pytest.mark.parametrize(
    ("record", "what", "verdict"),
    [
        ({}, {}, Verdict.OPEN),
        ({"files": ("drivers/x/x.c",)}, {}, Verdict.NOT_BUILT),
        ({"files": ("net/gone/gone.c",)}, {}, Verdict.UNKNOWN),
        ({"files": ("drivers/x/x.c", "include/linux/x.h")}, {}, Verdict.UNKNOWN),
        ({"files": ()}, {}, Verdict.UNKNOWN),
        ({"files": ("net/gone/gone.c",)}, {"files": None}, Verdict.OPEN),
        ({"files": ("arch/arm64/kvm/a.c",)}, {"files": None, "machine": "x86"}, Verdict.NOT_BUILT),
        ({"files": ("arch/arm64/kvm/a.c",)}, {"files": None}, Verdict.OPEN),
        ({"files": ("arch/arm64/a.c", "mm/a.c")}, {"files": None, "machine": "x86"}, Verdict.OPEN),
        ({"files": ("arch/x86/kvm/x86.c",)}, {"files": None, "machine": "x86"}, Verdict.OPEN),
        ({"files": ("Documentation/a.rst",)}, {"files": None, "machine": "x86"}, Verdict.OPEN),
        ({}, {"version": "6.1.178"}, Verdict.CLOSED_BY_VERSION),
        ({}, {"version": "5.2"}, Verdict.NOT_AFFECTED),
        ({}, {"version": ""}, Verdict.UNKNOWN),
        ({}, {"follows_stable": False}, Verdict.UNKNOWN),
        ({"affected": ()}, {}, Verdict.UNKNOWN),
        ({"affected": (), "files": ("drivers/x/x.c",)}, {}, Verdict.NOT_BUILT),
    ],
)
def test_verdicts(record, what, verdict):
    """Each verdict comes with its evidence."""
    found = judge(replace(RECORD, **record), replace(KNOWN, **what))
    assert found.verdict is verdict
    assert all(piece.source and piece.value for piece in found.evidence)
    assert found.evidence


def test_a_livepatch_comes_first_then_the_package():
    """Both stand above what the version says, and name who says so."""
    one = Evidence(source="changelog", value="closed in 6.1.176-1")
    two = Evidence(source="manifest of kmend_3", value="livepatch 3 is in effect")
    closed = judge(RECORD, replace(KNOWN, closed={RECORD.cve: one}))
    assert (closed.verdict, closed.evidence) == (Verdict.CLOSED_BY_VERSION, (one,))
    patched = judge(RECORD, replace(KNOWN, closed={RECORD.cve: one}, livepatched={RECORD.cve: two}))
    assert (patched.verdict, patched.evidence) == (Verdict.CLOSED_BY_LIVEPATCH, (two,))


@pytest.mark.parametrize(
    ("changes", "counts"),
    [({}, True), ({"enabled": False}, False), ({"in_transition": True}, False), ({"module": "kmend_9"}, False)],
)
def test_only_a_livepatch_in_effect_closes(changes, counts):
    """Enabled, done with its transition, and the very one that the manifest describes."""
    loaded = replace(LoadedLivepatch(module="kmend_3", enabled=True, in_transition=False, number=3), **changes)
    host = facts(kernel=replace(facts().kernel, livepatches=(loaded,)))
    assert ("CVE-2026-1000" in livepatched(host, manifest("CVE-2026-1000"))) is counts


def test_the_cves_that_facts_carry_need_no_manifest():
    """The agent wrote them into the facts."""
    loaded = LoadedLivepatch(module="kmend_3", enabled=True, in_transition=False, number=3, cves=("CVE-2026-7",))
    host = facts(kernel=replace(facts().kernel, livepatches=(loaded,)))
    assert set(livepatched(host, None)) == {"CVE-2026-7"}


def test_what_a_changelog_says_ends_with_the_version_that_runs():
    """Newer entries are not in the kernel; a changelog that does not know the version says nothing."""
    items = [
        ChangelogItem(version="6.1.187-1", subject="new", cves=("CVE-2026-3",)),
        ChangelogItem(version="6.1.176-1", subject="own", cves=("CVE-2026-2",)),
        ChangelogItem(version="6.1.170-3", subject="old", cves=("CVE-2026-1", "CVE-2026-2")),
    ]
    said = of_changelog(items, "6.1.176-1", name="changelog.gz")
    assert said.cves == {"CVE-2026-1": "6.1.170-3", "CVE-2026-2": "6.1.170-3"}
    assert of_changelog(items, "6.1.180-1", name="changelog.gz") is None
    found = known(facts(), statements=[said])
    assert found.closed["CVE-2026-1"] == Evidence(source="changelog.gz", value="closed in 6.1.170-3")


def test_what_advisories_say(tmp_path):
    """Versions up to the one that runs, of its series."""
    path = tmp_path / "tracker.json"
    entry = '{{"releases": {{"bookworm": {{"status": "resolved", "fixed_version": "{}"}}}}}}'
    rows = ", ".join(
        f'"CVE-2026-{at}": {entry.format(version)}'
        for at, version in enumerate(("6.1.176-1", "6.1.178-1", "6.12.1-1"), 1000)
    )
    path.write_text(f'{{"linux": {{{rows}}}}}')
    compare = lambda one, other: (one > other) - (one < other)  # noqa: E731
    assert of_advisories(path, "6.1.176-1", compare=compare).cves == {"CVE-2026-1000": "6.1.176-1"}


def test_lists_of_another_kernel_are_refused():
    """File list and manifest have a build id; it has to be the one of the kernel that runs."""
    other = facts(kernel=replace(facts().kernel, build_id="cd" * 20))
    with pytest.raises(InputError, match="file list is of another kernel"):
        known(other, files=FILES)
    with pytest.raises(InputError, match="manifest is of another kernel"):
        known(other, manifest=manifest())
    assert known(facts(), files=FILES, manifest=manifest()).version == "6.1.176"


@pytest.mark.parametrize(
    ("distribution", "package", "follows"),
    [("debian 12", "6.1.176-1", True), ("ubuntu 22.04", "5.15.0-91.101", False), ("", "", True)],
)
def test_whose_version_says_what_is_in_it(distribution, package, follows):
    """Ubuntu repairs without a change of the stable version; a kernel from no package is upstream's."""
    kernel = KernelFacts(
        release="6.1.176", version="", architecture="x86_64", build_id="", package_version=package
    )
    assert known(facts(distribution=distribution, kernel=kernel)).follows_stable is follows
