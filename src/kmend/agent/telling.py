"""What the server is told of a look: audit and exposure, cut to what `kmend.model.look` allows. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from kmend.exposure.assess import counts
from kmend.kit.printable import printable
from kmend.model import wire
from kmend.model.exposure import CveExposure, Exposure, Reach, Verdict
from kmend.model.finding import AuditReport, Finding, Outcome
from kmend.model.fix import CVE_ID
from kmend.model.look import (
    CHECKS,
    CVES,
    GROUPS,
    LINE,
    NAMES,
    SCORES,
    SUBJECTS,
    WORD,
    AreaScore,
    AuditLook,
    ExposureLook,
    FailedCheck,
    Look,
    NotHere,
    OpenCve,
    ReachGroup,
    Told,
)

LARGEST = 200 * 1024
"""Bytes of a look as JSON; the server takes no more than 256 KiB."""
_LONGEST_CVE = 32
_HIGHEST = 10.0
_NOT_HERE = frozenset((Verdict.NOT_BUILT, Verdict.NOT_AFFECTED))
_WAYS = {Reach.REACHABLE: Told.REACHABLE, Reach.UNKNOWN: Told.UNKNOWN}


class _Limits(NamedTuple):
    """How much of each kind is told."""

    checks: int
    groups: int
    names: int
    cves: int


def look_of(
    audit: AuditReport | None,
    exposure: Exposure | None,
    *,
    at: datetime,
    version: str,
    errors: Iterable[str] = (),
    lifted: Iterable[str] = (),
) -> Look:
    """What is told; where that would be too long, less of each kind.

    Args:
        audit: What the audit came to, if there was one.
        exposure: What the exposure came to, if there was one.
        at: When the host was looked at.
        version: Of kmend.
        errors: Why a part failed.
        lifted: CVEs whose mitigations were taken out.
    """
    part = 1
    while True:
        limits = _Limits(*(max(1, most // part) for most in (CHECKS, GROUPS, NAMES, CVES)))
        look = Look(
            at=at,
            version=version,
            audit=_audit(audit, limits) if audit else None,
            exposure=_exposure(exposure, limits) if exposure else None,
            errors=_lines(errors, most=SCORES),
            lifted=_lines(lifted, most=SCORES),
        )
        if len(json.dumps(wire.plain(look))) <= LARGEST:
            return look
        part *= 2


def not_here(exposure: Exposure) -> NotHere:
    """CVEs that the kernel cannot have."""
    found = tuple(one.cve for one in exposure.cves if one.verdict in _NOT_HERE)
    return NotHere(build_id=exposure.kernel.build_id, cves=found)


def _audit(report: AuditReport, limits: _Limits) -> AuditLook:
    failed: dict[str, list[Finding]] = defaultdict(list)
    for one in report.findings:
        if one.outcome is Outcome.FAIL and not one.waived:
            failed[one.check].append(one)
    checks = [_check(name, findings) for name, findings in failed.items()]
    checks.sort(key=lambda one: (-one.severity.rank, -one.count, one.check))
    scores = (
        AreaScore(area=one.area, percent=one.percent, failed=one.failed, unknown=one.unknown)
        for one in report.scores[-SCORES:]
    )
    return AuditLook(scores=tuple(scores), failed=tuple(checks[: limits.checks]))


def _check(name: str, findings: Sequence[Finding]) -> FailedCheck:
    return FailedCheck(
        check=name,
        severity=max((one.severity for one in findings), key=lambda severity: severity.rank),
        count=sum(one.count for one in findings),
        subjects=_lines((one.subject for one in findings), most=SUBJECTS, longest=WORD),
    )


def _exposure(found: Exposure, limits: _Limits) -> ExposureLook:
    told: dict[tuple[Told, tuple[str, ...]], list[OpenCve]] = {}
    reachable, left_out = 0, 0
    room = limits.cves
    for one in found.cves:  # the most urgent come first
        ways = _containers(one)
        reachable += Told.REACHABLE in ways
        new = [way for way in ways.items() if way not in told]
        if not ways:
            continue
        if room < len(ways) or len(told) + len(new) > limits.groups or not _is_plain(one.cve):
            left_out += 1
            continue
        room -= len(ways)
        for way in ways.items():
            told.setdefault(way, []).append(_open(one))
    return ExposureLook(
        verdicts={verdict.value: count for verdict, count in counts(found.cves).items()},
        reachable=reachable,
        containers=len(found.containers),
        groups=tuple(_group(*way, cves, limits) for way, cves in told.items()),
        left_out=left_out,
        missing=_lines(found.missing, most=SCORES),
    )


def _containers(one: CveExposure) -> dict[Told, tuple[str, ...]]:
    """Who can reach a CVE, and of whom that could not be told: all, where nobody can tell whether it is open."""
    found: dict[Told, list[str]] = defaultdict(list)
    for group in one.reach:
        way = _WAYS.get(group.reach)
        if way is not None:
            found[way if one.verdict is Verdict.OPEN else Told.UNKNOWN] += group.containers
    return {way: tuple(sorted(names)) for way, names in found.items() if names}


def _group(way: Told, names: tuple[str, ...], cves: list[OpenCve], limits: _Limits) -> ReachGroup:
    first = _lines(names, most=limits.names, longest=WORD)
    return ReachGroup(reach=way, containers=first, count=len(names), cves=tuple(cves))


def _open(one: CveExposure) -> OpenCve:
    score = min(max(float(one.score), 0.0), _HIGHEST)
    return OpenCve(cve=one.cve, score=score, exploited=bool(one.exploited_since))


def _is_plain(cve: str) -> bool:
    return cve.isascii() and len(cve) <= _LONGEST_CVE and bool(CVE_ID.fullmatch(cve))


def _lines(texts: Iterable[str], *, most: int, longest: int = LINE) -> tuple[str, ...]:
    """Texts without what no reader sees; they come from containers, whoever made those."""
    shown = (printable(" ".join(text.split()), most=longest)[:longest] for text in texts)
    return tuple(text for _, text in zip(range(most), shown, strict=False))
