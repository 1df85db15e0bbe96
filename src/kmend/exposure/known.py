"""What is known of the kernel that runs, from facts, changelog, advisories, manifest and file list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from kmend.exposure import advisories, versions
from kmend.exposure.presence import Finder
from kmend.exposure.verdicts import Known, Takes
from kmend.kit.errors import InputError
from kmend.linux.changelog import ChangelogItem
from kmend.linux.versions import comparison, series_of
from kmend.model.exposure import Evidence, KernelFiles
from kmend.model.facts import Facts
from kmend.model.livepatch import Livepatch

_MACHINES = {
    "x86_64": "x86",
    "aarch64": "arm64",
    "riscv64": "riscv",
    "s390x": "s390",
    "ppc64le": "powerpc",
    "loongarch64": "loongarch",
}
_OWN_WORD = re.compile(r"\b(Debian|Ubuntu)\b")
"""What a kernel calls itself (``uname -v``), wherever it was installed."""
_WHOLE_RELEASES = frozenset((
    "debian", "devuan", "raspbian", "kali", "alpine", "arch", "manjaro", "fedora", "opensuse-tumbleweed", "nixos",
    "gentoo", "void", "amzn", "azurelinux", "mariner", "photon", "flatcar", "cos", "bottlerocket", "talos",
))  # fmt: skip
"""IDs (os-release) whose kernels are a stable release whole, with its number in the package version."""
_ONE_SERIES = frozenset(("ubuntu", "linuxmint", "pop", "neon", "zorin", "elementary"))
"""Those whose kernels follow one series, under the number of its first release."""
_OWN_WAY = frozenset((
    "rhel", "centos", "rocky", "almalinux", "ol", "scientific", "virtuozzo", "openEuler", "anolis",
    "sles", "sled", "sle-micro", "sl-micro", "opensuse-leap", "opensuse-leap-micro",
))  # fmt: skip
"""Those whose kernels take over much from later ones."""


class Statement(NamedTuple):
    """What somebody says that a package version closes."""

    source: str
    """Name of the file."""
    cves: Mapping[str, str]
    """CVE → version that closed it."""
    still_open: Mapping[str, str] = MappingProxyType({})
    """CVE → the later version that closes it; empty for none yet."""


def known(
    facts: Facts,
    *,
    statements: Iterable[Statement] = (),
    manifest: Livepatch | None = None,
    files: KernelFiles | None = None,
) -> Known:
    """Everything that a verdict needs.

    Args:
        facts: Of the host.
        statements: Of changelogs and advisories, already limited to what the running version has.
        manifest: Of a livepatch: when it is the one in effect, its CVEs are closed.
        files: Which code the kernel contains.

    Raises:
        InputError: Manifest or file list are of another kernel.
    """
    _check_same(facts, "The file list", files.kernel.build_id if files else "")
    _check_same(facts, "The manifest", manifest.kernel.build_id if manifest else "")
    closed: dict[str, Evidence] = {}
    said_open: dict[str, Evidence] = {}
    for statement in statements:
        for cve, version in statement.cves.items():
            closed.setdefault(cve, Evidence(source=statement.source, value=f"closed in {version}"))
        for cve, version in statement.still_open.items():
            said = f"closed in {version}, which is newer" if version else "affected, and no version closes it yet"
            said_open.setdefault(cve, Evidence(source=statement.source, value=said))
    kernel = facts.kernel
    return Known(
        version=kernel.stable or versions.upstream(kernel.package_version or kernel.release),
        takes=_takes(facts),
        closed=closed,
        said_open=said_open,
        livepatched=livepatched(facts, manifest),
        files=Finder(files) if files else None,
        machine=_MACHINES.get(facts.kernel.architecture, ""),
    )


def livepatched(facts: Facts, manifest: Livepatch | None) -> dict[str, Evidence]:
    """The CVEs that livepatches in effect close: enabled, and done with their transition."""
    found: dict[str, Evidence] = {}
    for one in facts.kernel.livepatches:
        if not one.enabled or one.in_transition:
            continue
        same = manifest is not None and one.module == manifest.module
        cves = {*one.cves, *(manifest.cves if manifest is not None and same else ())}
        number = f"livepatch {one.number}" if one.number is not None else "livepatch"
        found |= {
            cve: Evidence(source=f"manifest of {one.module}", value=f"{number} is in effect") for cve in cves
        }
    return found


def of_changelog(items: Iterable[ChangelogItem], version: str, *, name: str) -> Statement | None:
    """What a changelog says that a version has closed; None when it does not know the version.

    All that stands in it from that version downwards counts.
    """
    entries = list(items)
    start = next((at for at, item in enumerate(entries) if item.version == version), None)
    if start is None:
        return None
    cves: dict[str, str] = {}
    for item in entries[start:]:
        cves |= dict.fromkeys(item.cves, item.version)
    return Statement(source=name, cves=cves)


def of_advisories(path: Path, facts: Facts) -> Statement | None:
    """What advisories say that the kernel's package has closed, or has not; None when they cannot be asked.

    Of a distribution that takes over stable releases whole every release's fix counts that is of the same series;
    of others only what is said of that very package in that very release.

    Raises:
        InputError: It is no file of advisories.
        SourceError: The archive is damaged.
    """
    version = facts.kernel.package_version
    owner = next((one for one in facts.packages or () if one.name == facts.kernel.package), None)
    compare = comparison(owner.origin if owner else "")
    if _takes(facts) is Takes.NOTHING:
        series = series_of(version)
        found = advisories.closed(path, older="0", newer=version, series=series, compare=compare)
        return Statement(source=path.name, cves={one.cve: one.version for one in found})
    if owner is None:
        return None
    names = {owner.name, (owner.source or owner.name).replace("-signed", "", 1)}
    said = advisories.standing(
        path, packages=names, distribution=facts.distribution, version=version, compare=compare
    )
    return Statement(source=path.name, cves=said.closed, still_open=said.still_open)


def _takes(facts: Facts) -> Takes:
    own = _OWN_WORD.search(facts.kernel.version)
    name = own[1].lower() if own else facts.distribution.partition(" ")[0]
    if name in _WHOLE_RELEASES:
        return Takes.NOTHING
    if name in _ONE_SERIES:
        return Takes.REPAIRS if facts.kernel.stable else Takes.SERIES
    from_package = facts.kernel.package_version or facts.kernel.package
    return Takes.ANYTHING if name in _OWN_WAY or from_package else Takes.NOTHING


def _check_same(facts: Facts, what: str, build_id: str) -> None:
    running = facts.kernel.build_id
    if build_id and running and build_id != running:
        raise InputError(
            f"{what} is of another kernel (build id {build_id[:12]}…, the host runs {running[:12]}…).",
            hint=f"Give the one of {facts.kernel.release or 'the kernel that the host runs'}.",
        )
