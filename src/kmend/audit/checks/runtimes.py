"""Checks of runtimes and engines: known holes, old programs that still run, programs that nobody updates."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from kmend.audit.check import Case, Check, Verdict, bad, check, good, not_here, unknown
from kmend.audit.holes import HOLES, PROGRAMS, Hole
from kmend.audit.packages import is_closed, said_of
from kmend.audit.versions import is_fixed, upstream
from kmend.linux.versions import debian_compare
from kmend.model.facts import Package, Program
from kmend.model.finding import Area, Severity

_runtimes = partial(check, Area.RUNTIMES)
# Packages of the projects themselves: their versions are the projects', nothing is brought back into older ones.
_UPSTREAM_PACKAGES = ("containerd.io", "docker-ce", "kubelet", "cri-o", "docker-buildx-plugin")
_OWN_NAME = {"containerd.io": "containerd", "docker-ce": "dockerd", "kubelet": "kubelet", "cri-o": "crio"}


class _State(NamedTuple):
    """What is known of one hole in one program; ``closed`` is None when it could not be told."""

    hole: Hole
    closed: bool | None
    why: str


def describe(program: Program) -> str:
    """One line: ``runc 1.1.5+ds1-1 (/usr/bin/runc, runs as 812)``."""
    version = program.build_version if program.replaced else program.package_version or program.build_version
    pids = f", runs as {', '.join(map(str, program.pids[:3]))}" if program.pids else ""
    old = ", replaced on the disk" if program.replaced else ""
    return f"{program.name} {version or 'of unknown version'} ({program.path}{pids}{old})"


def _version_of(program: Program) -> str:
    """The upstream version of the very binary; a package's version only where the package is the program's own."""
    if program.build_version:
        return program.build_version
    if program.replaced:
        return ""  # the package's version is that of the file that took its place
    own = not program.package.startswith(_UPSTREAM_PACKAGES) or _OWN_NAME.get(program.package) == program.name
    return program.package_version if own else ""


def _by_distribution(program: Program) -> bool:
    return bool(program.package) and not program.package.startswith(_UPSTREAM_PACKAGES)


def _state(program: Program, hole: Hole, case: Case) -> _State:
    version = upstream(_version_of(program))
    if version is not None:
        first = upstream(hole.since) if hole.since else None
        if first is not None and version < first:
            return _State(hole, closed=True, why="older than the hole")
        if is_fixed(version, hole.fixed):
            return _State(hole, closed=True, why="fixed upstream")
    if program.package and not program.replaced and (known := _by_package(program, hole, case)):
        return known
    if version is None:
        return _State(hole, None, "its version was not seen")
    if _by_distribution(program) or (program.replaced and _was_distributed(program, case)):
        return _State(hole, None, "the distribution may have brought the fix back (give --advisories)")
    return _State(hole, closed=False, why=f"fixed in {', '.join(hole.fixed)}")


def _was_distributed(program: Program, case: Case) -> bool:
    """Whether the distribution has what is now at the path of a program that was replaced while it ran."""
    return any(one.path == program.path and _by_distribution(one) for one in case.facts.programs)


def _by_package(program: Program, hole: Hole, case: Case) -> _State | None:
    """What the distribution says of its package's version; None when it says nothing."""
    package = _package(program, case)
    for advisory, version in said_of(package, case.facts.distribution, case.advisories):
        if advisory.cve == hole.cve:
            closed = is_closed(advisory, version, kind=package.origin)
            return _State(hole, closed, f"{package.name}: {advisory.fixed or 'no fix yet'}, says the advisory")
    fixed = dict(hole.packages).get(case.facts.distribution)
    if fixed and _by_distribution(program) and program.package_version:
        closed = debian_compare(program.package_version, fixed) >= 0
        return _State(hole, closed, f"fixed in {fixed} of {case.facts.distribution}")
    return None


def _package(program: Program, case: Case) -> Package:
    known = next((one for one in case.facts.packages or () if one.name == program.package), None)
    return known or Package(name=program.package, version=program.package_version)


def _holes(name: str, case: Case) -> Iterator[Verdict]:
    programs = [one for one in case.facts.programs if one.name == name]
    for program in programs:
        states = [_state(program, hole, case) for hole in HOLES if hole.program == name]
        yield _verdict(program, states)
    if not programs:
        yield not_here(f"{name} is not here.")


def _verdict(program: Program, states: list[_State]) -> Verdict:
    subject = describe(program)
    opened = [one for one in states if one.closed is False]
    open_ones = "; ".join(f"{one.hole.cve}: {one.hole.what} ({one.why})" for one in opened)
    doubtful = [one for one in states if one.closed is None]
    if opened:
        worst = max((one.hole.severity for one in opened), key=lambda one: one.rank)
        return bad(f"{open_ones}.", subject=subject, severity=worst)
    if doubtful:
        names = ", ".join(one.hole.cve for one in doubtful)
        return unknown(f"{names}: {doubtful[0].why}.", subject=subject)
    return good(f"None of {len(states)} known holes.", subject=subject)


def _replaced(case: Case) -> Iterator[Verdict]:
    running = [one for one in case.facts.programs if one.pids]
    for program in running:
        seen = f"{program.path} was replaced while it ran." if program.replaced else "It is the file on the disk."
        yield (bad if program.replaced else good)(seen, subject=describe(program))
    if not running:
        yield not_here("No engine or runtime runs.")


def _packaged(case: Case) -> Iterator[Verdict]:
    known = case.facts.packages is not None
    for program in case.facts.programs:
        if program.replaced:
            continue
        subject = describe(program)
        if program.package:
            yield good(f"Package {program.package} updates it.", subject=subject)
        elif known:
            yield bad("No package owns it.", subject=subject)
        else:
            yield unknown("There is no package database here that is known.", subject=subject)
    if not case.facts.programs:
        yield not_here("No engine or runtime is here.")


def _twice(case: Case) -> Iterator[Verdict]:
    """The same program at several places: an update of one leaves the others.

    Only files that no package owns are hashed, so a package's file and a copy of it count as two.
    """
    for name in sorted({one.name for one in case.facts.programs}):
        there = [one for one in case.facts.programs if one.name == name and not one.replaced]
        paths = sorted({one.path for one in case.facts.programs if one.name == name})
        alike = len({one.sha256 for one in there}) == 1 and all(one.sha256 for one in there)
        several = len({one.path for one in there}) > 1 and not alike
        yield (bad if several else good)(f"{', '.join(paths)}.", subject=name)
    if not case.facts.programs:
        yield not_here("No engine or runtime is here.")


CHECKS: tuple[Check, ...] = (
    *(
        _runtimes(
            f"runtime-{name}",
            f"{name} has none of the well-known holes",
            Severity.HIGH,
            partial(_holes, name),
            source="The projects' advisories; the distribution's (--advisories)",
            remedy=f"Update {name}, and restart what runs the old one; running containers keep their shim.",
        )
        for name in PROGRAMS
    ),
    _runtimes(
        "runtime-replaced",
        "What runs is what is installed",
        Severity.HIGH,
        _replaced,
        source="Linux manual, proc_pid_exe(5)",
        remedy="Restart the service (with live-restore, containers of Docker go on; containerd's do always).",
    ),
    _runtimes(
        "runtime-packaged",
        "A package updates each engine and runtime",
        Severity.MEDIUM,
        _packaged,
        source="dpkg(1), rpm(8)",
        remedy="Install it from a package, or put it under an update of your own and waive this check.",
    ),
    _runtimes(
        "runtime-once",
        "Each engine and runtime is here once",
        Severity.LOW,
        _twice,
        source="hier(7)",
        remedy="Remove the copies that nothing needs.",
    ),
)
