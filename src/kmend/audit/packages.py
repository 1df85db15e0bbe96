"""Packages against advisories: which holes does a newer package close."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kmend.audit.check import Advisory
from kmend.linux.releases import is_of
from kmend.linux.versions import comparison
from kmend.model.facts import Package

_MODULE = ".module"


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
        found += [
            (one, version)
            for one in advisories.get(name, ())
            if is_of(one.release, distribution) and _of_one_stream(one, version)
        ]
    return tuple(found)


def _of_one_stream(advisory: Advisory, version: str) -> bool:
    """Not so when one is a module's build of Red Hat's kind (``.module+el8…``) and the other is none."""
    return not advisory.fixed or (_MODULE in advisory.fixed) == (_MODULE in version)


def is_closed(advisory: Advisory, version: str, *, kind: str) -> bool:
    """Whether a version of a package of some kind (``Package.origin``) has the fix."""
    if not advisory.fixed or advisory.fixed == "0":
        return bool(advisory.fixed)
    return comparison(kind)(version, advisory.fixed) >= 0


def open_holes(
    packages: Iterable[Package], distribution: str, advisories: Mapping[str, tuple[Advisory, ...]]
) -> tuple[str, ...] | None:
    """``CVE (package)``: each hole that a newer package closes; None when nothing is said of the distribution."""
    if not any(is_of(one.release, distribution) for all_of in advisories.values() for one in all_of):
        return None
    return tuple(
        dict.fromkeys(
            f"{one.cve} ({package.name})"
            for package in packages
            for one, version in said_of(package, distribution, advisories)
            if one.fixed and not is_closed(one, version, kind=package.origin)
        )
    )
