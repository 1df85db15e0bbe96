"""What every view of a report shares: order, words, and which findings count as failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from kmend.model.finding import Actionable, AuditReport, Finding, Livepatching, Outcome, Rule, Score

EFFECTS = {
    Actionable.RUNTIME: "",
    Actionable.BOOT: "Takes effect with the next boot.",
    Actionable.REBUILD: "Needs another kernel, or another image.",
}
LIVEPATCHING = {
    Livepatching.SAFE: "",
    Livepatching.CARE: "Care for livepatching: see what may break.",
    Livepatching.STOPS: "Livepatching would stop.",
}


def rules_of(report: AuditReport) -> Mapping[str, Rule]:
    """The rules by id."""
    return {one.id: one for one in report.rules}


def failed(report: AuditReport) -> tuple[Finding, ...]:
    """What failed and was not waived, worst first."""
    found = [one for one in report.findings if one.outcome is Outcome.FAIL and not one.waived]
    return tuple(sorted(found, key=lambda one: (-one.severity.rank, one.check)))


def waived(report: AuditReport) -> tuple[Finding, ...]:
    """What failed and somebody accepted."""
    return tuple(one for one in report.findings if one.waived)


def of_outcome(report: AuditReport, outcome: Outcome) -> tuple[Finding, ...]:
    """Findings of one outcome, in the order of the checks."""
    return tuple(one for one in report.findings if one.outcome is outcome and not one.waived)


def by_check(findings: Iterable[Finding]) -> Iterator[tuple[Finding, tuple[Finding, ...]]]:
    """Each check of some findings once: the first finding, and all of the same severity."""
    for _, group in groupby(findings, key=lambda one: (-one.severity.rank, one.check)):
        found = tuple(group)
        yield found[0], found


def notes_on(rule: Rule) -> tuple[str, ...]:
    """What a person should know before the remedy: when it takes effect, what it may break."""
    breaks = f"May break: {rule.breaks}" if rule.breaks else ""
    return tuple(one for one in (EFFECTS[rule.actionable], breaks, LIVEPATCHING[rule.livepatching]) if one)


def reference(rule: Rule) -> str:
    """``CIS Docker 5.4``, ``CIS Kubernetes 4.2.1``, or nothing."""
    if not rule.cis:
        return ""
    kind, colon, number = rule.cis.partition(":")
    return f"CIS Kubernetes {number}" if colon else f"CIS Docker {kind}"


def percent(score: Score) -> str:
    """``83 %``, or ``-`` where nothing passed or failed."""
    return "-" if score.percent is None else f"{score.percent} %"


def heading(report: AuditReport) -> str:
    """Host, time, number of checks."""
    when = f"{report.collected:%Y-%m-%d %H:%M} UTC"
    return f"{report.host or 'unnamed host'}, {when}, {len(report.rules)} checks (profile {report.profile})"
