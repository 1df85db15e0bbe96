"""An audit on the terminal: scores, what failed with evidence and remedy, what could not be told."""

from __future__ import annotations

from collections.abc import Iterator

import click

from kmend.audit.views.common import (
    by_check,
    failed,
    heading,
    notes_on,
    of_outcome,
    percent,
    reference,
    rules_of,
    waived,
)
from kmend.kit.printable import printable
from kmend.model.finding import AuditReport, Difference, Finding, Outcome, Rule, Severity

_COLOURS = {
    Severity.CRITICAL: "bright_red",
    Severity.HIGH: "red",
    Severity.MEDIUM: "yellow",
    Severity.LOW: "cyan",
}
_FEW = 5
_LONGEST = 500


def lines(report: AuditReport, *, everything: bool = False) -> Iterator[str]:
    """The report line by line; with ``everything`` each subject, what passed, and what does not apply."""
    yield heading(report) if report.host.isprintable() else printable(heading(report))
    yield ""
    yield from _scores(report)
    if report.difference:
        yield from _difference(report.difference)
    yield from _failures(report, everything=everything)
    yield from _doubts(report, everything=everything)
    if found := waived(report):
        yield from _plain("Waived", found, everything=everything)
    if everything:
        yield from _plain("Passed", of_outcome(report, Outcome.PASS), everything=True)
        yield from _plain("Does not apply", of_outcome(report, Outcome.NOT_APPLICABLE), everything=True)
    for note in report.notes:
        yield f"note: {_text(note)}"
    yield ""
    yield _last(report)


def _scores(report: AuditReport) -> Iterator[str]:
    yield click.style(f"{'area':<12} {'score':>6} {'pass':>7} {'fail':>6} {'?':>6} {'waived':>7}", bold=True)
    for one in report.scores:
        line = f"{one.area:<12} {percent(one):>6} {one.passed:>7} {one.failed:>6} {one.unknown:>6} {one.waived:>7}"
        yield click.style(line, bold=one.area == "all")


def _failures(report: AuditReport, *, everything: bool) -> Iterator[str]:
    rules = rules_of(report)
    for first, found in by_check(failed(report)):
        rule = rules[first.check]
        yield ""
        word = click.style(first.severity.value.upper(), fg=_COLOURS[first.severity], bold=True)
        number = f" [{reference(rule)}]" if rule.cis else ""
        yield f"{word} {click.style(rule.title, bold=True)}{number}"
        yield click.style(f"  {rule.id}", dim=True)
        shown = found if everything else found[:_FEW]
        for one in shown:
            yield f"  {_text(one.subject)}: {_text(one.evidence)}"
        if len(found) > len(shown):
            yield f"  … and {len(found) - len(shown)} more (--all shows them)"
        yield from _remedy(rule, found)


def _remedy(rule: Rule, found: tuple[Finding, ...]) -> Iterator[str]:
    remedies = list(dict.fromkeys(one.remedy for one in found if one.remedy))
    for one in remedies[:_FEW]:
        yield click.style("  → ", fg="green") + _text(one)
    for note in notes_on(rule):
        yield click.style(f"    {note}", dim=True)


def _doubts(report: AuditReport, *, everything: bool) -> Iterator[str]:
    """What could not be told, with one line for each check: the reason is mostly the same for all its subjects."""
    found = of_outcome(report, Outcome.UNKNOWN)
    if everything or not found:
        if found:
            yield from _plain("Could not tell", found, everything=True)
        return
    yield ""
    yield click.style("Could not tell", bold=True)
    checks: dict[str, list[Finding]] = {}
    for one in found:
        checks.setdefault(one.check, []).append(one)
    for name, some in checks.items():
        subject = _text(some[0].subject) if len(some) == 1 else f"{len(some)} subjects"
        yield f"  {name}: {subject}: {_text(some[0].evidence)}"


def _plain(title: str, found: tuple[Finding, ...], *, everything: bool) -> Iterator[str]:
    yield ""
    yield click.style(title, bold=True)
    for one in found if everything else found[: _FEW * 4]:
        yield f"  {one.check}: {_text(one.subject)}: {_text(one.waived or one.evidence)}"
    if not everything and len(found) > _FEW * 4:
        yield f"  … and {len(found) - _FEW * 4} more"


def _difference(difference: Difference) -> Iterator[str]:
    yield ""
    yield click.style(f"Since {difference.since:%Y-%m-%d %H:%M} UTC", bold=True)
    for sign, colour, found in (("+", "red", difference.new), ("-", "green", difference.gone)):
        for one in found:
            yield click.style(f"  {sign} {one.check}: {_text(one.subject)}", fg=colour)
    yield f"  {len(difference.new)} new, {len(difference.gone)} gone, {difference.stayed} as before"


def _last(report: AuditReport) -> str:
    found = failed(report)
    counts = [f"{number} {one.value}" for one in reversed(Severity) if (number := _count(found, one))]
    doubts = sum(one.count for one in of_outcome(report, Outcome.UNKNOWN))
    return f"{len(found)} failed ({', '.join(counts) or 'none'}); {doubts} could not be told."


def _count(found: tuple[Finding, ...], severity: Severity) -> int:
    return sum(one.severity is severity for one in found)


def _text(text: str) -> str:
    return printable(text, most=_LONGEST)
