"""Packages against advisories: which holes does a newer package close."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kmend.audit.check import Advisory
from kmend.audit.versions import debian_compare
from kmend.model.facts import Package


def said_of(
    package: Package, distribution: str, advisories: Mapping[str, tuple[Advisory, ...]]
) -> tuple[tuple[Advisory, str], ...]:
    """The advisories on a package of a distribution, each with the version that it is about."""
    found = []
    for name, version in dict.fromkeys(
        (
            (package.source or package.name, package.source_version or package.version),
            (package.name, package.version),
        )
    ):
        found += [(one, version) for one in advisories.get(name, ()) if one.release in {distribution, ""}]
    return tuple(found)


def is_closed(advisory: Advisory, version: str) -> bool:
    """Whether a version has the fix."""
    return bool(advisory.fixed) and (advisory.fixed == "0" or debian_compare(version, advisory.fixed) >= 0)


def open_holes(
    packages: Iterable[Package], distribution: str, advisories: Mapping[str, tuple[Advisory, ...]]
) -> tuple[str, ...] | None:
    """``CVE (package)``: each hole that a newer package closes; None when nothing is said of the distribution."""
    name = distribution.partition(" ")[0]
    if not any(one.release in {distribution, ""} for all_of in advisories.values() for one in all_of):
        return None
    if name not in {"debian", "ubuntu"}:
        return None  # their versions are counted in another way
    return tuple(
        dict.fromkeys(
            f"{one.cve} ({package.name})"
            for package in packages
            for one, version in said_of(package, distribution, advisories)
            if one.fixed and not is_closed(one, version)
        )
    )
