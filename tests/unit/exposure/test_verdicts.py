"""The verdict on a CVE, and what it stands on."""

import json
from dataclasses import replace

import pytest

from kmend.exposure.known import known, livepatched, of_advisories, of_changelog
from kmend.exposure.presence import Finder
from kmend.exposure.records import Affected, Span
from kmend.exposure.verdicts import Known, Takes, judge
from kmend.kit.errors import InputError
from kmend.linux.changelog import ChangelogItem
from kmend.model.exposure import Evidence, Verdict
from kmend.model.facts import KernelFacts, LoadedLivepatch, Package
from makers.exposures import FILES, cve, manifest
from makers.facts import facts

RECORD = cve()
KNOWN = Known(version="6.1.176", takes=Takes.NOTHING, files=Finder(FILES))


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
        *[({}, {"takes": takes}, Verdict.UNKNOWN) for takes in (Takes.REPAIRS, Takes.SERIES, Takes.ANYTHING)],
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
    assert of_advisories(path, facts()).cves == {"CVE-2026-1000": "6.1.176-1"}


def host_of(distribution, version, *, stable="", source="linux-signed", origin="deb"):
    """A host of another distribution, whose kernel comes from a package."""
    name = "linux-image-x" if origin == "deb" else "kernel-core"
    owner = Package(name=name, version=version, source=source, source_version=version, origin=origin)
    kernel = replace(facts().kernel, version="#1 SMP", package=name, package_version=version, stable=stable)
    return facts(distribution=distribution, kernel=kernel, packages=(owner,))


def osv(path, *said):
    """A file of one record: ecosystem, package, version with the fix."""
    affected = [
        {
            "package": {"ecosystem": ecosystem, "name": name},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, *[{"fixed": one} for one in fixed]]}],
        }
        for ecosystem, name, *fixed in said
    ]
    path.write_text(json.dumps({"schema_version": "1.7.0", "id": "UBUNTU-CVE-2026-1000", "affected": affected}))
    return path


UBUNTU = ("Ubuntu:22.04:LTS", "linux")


@pytest.mark.parametrize(
    ("host", "said", "closed", "still_open"),
    [
        (host_of("ubuntu 22.04", "5.15.0-100.110"), (*UBUNTU, "5.15.0-100.110"), "5.15.0-100.110", None),
        (host_of("ubuntu 22.04", "5.15.0-100.110"), (*UBUNTU, "5.15.0-101.111"), None, "5.15.0-101.111"),
        (host_of("ubuntu 22.04", "5.15.0-100.110"), UBUNTU, None, ""),
        (host_of("ubuntu 24.04", "5.15.0-100.110"), (*UBUNTU, "5.15.0-100.110"), None, None),
        (host_of("ubuntu 22.04", "5.15.0-100.110", source="linux-signed-aws"), UBUNTU, None, None),
        (
            host_of("ubuntu 22.04", "6.8.0-45.45~22.04.1", source="linux-signed-hwe-6.8"),
            ("Ubuntu:22.04:LTS", "linux-hwe-6.8", "6.8.0-48.48~22.04.1"),
            None,
            "6.8.0-48.48~22.04.1",
        ),
        (
            host_of("rhel 9.4", "5.14.0-427.20.1.el9_4", source="kernel", origin="rpm"),
            ("Red Hat:enterprise_linux:9::baseos", "kernel-core", "0:5.14.0-427.13.1.el9_4"),
            "0:5.14.0-427.13.1.el9_4",
            None,
        ),
        (
            host_of("rhel 9.4", "5.14.0-427.20.1.el9_4", source="kernel", origin="rpm"),
            ("Red Hat:enterprise_linux:8::baseos", "kernel", "0:4.18.0-553.el8_10"),
            None,
            None,
        ),
    ],
)
def test_what_a_distribution_says_of_its_own_kernel(tmp_path, host, said, closed, still_open):
    """Of that package in that release only; what it has not closed is open, whatever the version looks like."""
    statement = of_advisories(osv(tmp_path / "osv.json", said), host)
    assert statement.cves == ({} if closed is None else {"CVE-2026-1000": closed})
    assert statement.still_open == ({} if still_open is None else {"CVE-2026-1000": still_open})
    verdict = judge(replace(RECORD, cve="CVE-2026-1000"), known(host, statements=[statement])).verdict
    if closed or still_open is not None:
        assert verdict is (Verdict.CLOSED_BY_VERSION if closed else Verdict.OPEN)


def test_without_a_package_no_advisory_is_asked(tmp_path):
    """It could be of a kernel beside it (hwe, aws), whose versions look alike."""
    host = replace(host_of("ubuntu 22.04", "5.15.0-100.110"), packages=None)
    assert of_advisories(osv(tmp_path / "osv.json", UBUNTU), host) is None


# It came into mainline with 5.19; some stable releases of 5.15 took it over, and were repaired later.
TAKEN_OVER = (
    Affected(otherwise=True, spans=(Span("5.19", "", "", True), Span("0", "5.19", "", False))),
    Affected(otherwise=False, spans=(Span("5.15.53", "5.15.120", "", True),)),
)
# It was there from the beginning, and repaired in 5.10.
LONG_REPAIRED = (Affected(otherwise=True, spans=(Span("5.10", "", "*", False),)),)
CAME_LATER = (Affected(otherwise=True, spans=(Span("5.19", "", "", True), Span("0", "5.19", "", False))),)


@pytest.mark.parametrize(
    ("takes", "version", "affected", "verdict"),
    [
        (Takes.REPAIRS, "5.15.143", TAKEN_OVER, Verdict.NOT_AFFECTED),
        (Takes.REPAIRS, "5.15.60", TAKEN_OVER, Verdict.UNKNOWN),
        (Takes.SERIES, "5.15.0", TAKEN_OVER, Verdict.UNKNOWN),
        (Takes.SERIES, "5.15.0", CAME_LATER, Verdict.NOT_AFFECTED),
        (Takes.SERIES, "5.15.0", LONG_REPAIRED, Verdict.CLOSED_BY_VERSION),
        (Takes.ANYTHING, "5.14.0", CAME_LATER, Verdict.UNKNOWN),
        (Takes.ANYTHING, "5.14.0", LONG_REPAIRED, Verdict.CLOSED_BY_VERSION),
        (Takes.NOTHING, "5.15.0", TAKEN_OVER, Verdict.NOT_AFFECTED),
    ],
)
def test_a_version_that_does_not_say_all(takes, version, affected, verdict):
    """What a stable release took over by itself is in Ubuntu's kernel too; Red Hat's has much of later kernels."""
    record = replace(RECORD, affected=affected)
    assert judge(record, Known(version=version, takes=takes)).verdict is verdict


def test_lists_of_another_kernel_are_refused():
    """File list and manifest have a build id; it has to be the one of the kernel that runs."""
    other = facts(kernel=replace(facts().kernel, build_id="cd" * 20))
    with pytest.raises(InputError, match="file list is of another kernel"):
        known(other, files=FILES)
    with pytest.raises(InputError, match="manifest is of another kernel"):
        known(other, manifest=manifest())
    assert known(facts(), files=FILES, manifest=manifest()).version == "6.1.176"


@pytest.mark.parametrize(
    ("distribution", "package", "stable", "takes", "version"),
    [
        ("somebodys 1", "Debian 6.1.176-1", "", Takes.NOTHING, "6.1.176"),
        ("debian 12", "Ubuntu 6.8.0-52.53", "", Takes.SERIES, "6.8.0"),
        ("debian 12", "6.1.176-1", "", Takes.NOTHING, "6.1.176"),
        ("ubuntu 22.04", "5.15.0-91.101", "", Takes.SERIES, "5.15.0"),
        ("ubuntu 22.04", "5.15.0-91.101", "5.15.131", Takes.REPAIRS, "5.15.131"),
        ("rhel 9.4", "5.14.0-427.13.1.el9_4", "", Takes.ANYTHING, "5.14.0"),
        ("rhel 9.4", "", "", Takes.ANYTHING, "6.1.176"),
        ("opensuse-leap 15.6", "6.4.0-150600.23.7.1", "", Takes.ANYTHING, "6.4.0"),
        ("amzn 2023", "6.1.90-99.173.amzn2023", "", Takes.NOTHING, "6.1.90"),
        ("somebodys 1", "6.1.2-1", "", Takes.ANYTHING, "6.1.2"),
        ("", "", "", Takes.NOTHING, "6.1.176"),
    ],
)
def test_whose_version_says_what_is_in_it(distribution, package, stable, takes, version):
    """What it calls itself comes first; one from no package is upstream's, but for those who have no such."""
    says, _, package = package.rpartition(" ")
    kernel = KernelFacts(
        release="6.1.176",
        version=f"#1 SMP {says} {package}",
        architecture="x86_64",
        build_id="",
        package_version=package,
        stable=stable,
    )
    found = known(facts(distribution=distribution, kernel=kernel))
    assert (found.takes, found.version) == (takes, version)
