"""An audit as Markdown, for tickets and pull requests."""

from __future__ import annotations

import re
from collections.abc import Iterator

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
from kmend.model.finding import AuditReport, Difference, Finding, Outcome, Rule

# What Markdown or the HTML that it lets through could read as more than text.
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|<>~&$@:-])")
_LONGEST = 600


def markdown(report: AuditReport) -> str:
    """The report as Markdown text."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: AuditReport) -> Iterator[str]:
    rules = rules_of(report)
    yield f"# Audit of {_plain(heading(report))}"
    yield ""
    yield "| area | score | pass | fail | could not tell | waived |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for row in report.scores:
        yield f"| {row.area} | {percent(row)} | {row.passed} | {row.failed} | {row.unknown} | {row.waived} |"
    if report.difference:
        yield from _difference(report.difference)
    yield from _section("Failed")
    for first, found in by_check(failed(report)):
        yield from _failure(first, found, rules[first.check])
    for title, some in (("Could not tell", of_outcome(report, Outcome.UNKNOWN)), ("Waived", waived(report))):
        if some:
            yield from _section(title)
            for one in some:
                yield f"- `{one.check}` {_plain(one.subject)}: {_plain(one.waived or one.evidence)}"
    if report.notes:
        yield from _section("Notes")
        yield from (f"- {_plain(one)}" for one in report.notes)


def _section(title: str) -> Iterator[str]:
    yield ""
    yield f"## {title}"
    yield ""


def _failure(first: Finding, found: tuple[Finding, ...], rule: Rule) -> Iterator[str]:
    number = reference(rule)
    yield f"### {first.severity.value}: {_plain(rule.title)}"
    yield ""
    yield f"`{rule.id}`{f', {number}' if number else ''}. {_plain(rule.source)}."
    yield ""
    for one in found:
        yield f"- {_plain(one.subject)}: {_plain(one.evidence)}"
    yield ""
    remedies = dict.fromkeys(one.remedy for one in found)
    yield f"**Remedy:** {_plain(' '.join([*list(remedies)[:3], *notes_on(rule)]))}"
    yield ""


def _difference(difference: Difference) -> Iterator[str]:
    yield from _section(f"Since {difference.since:%Y-%m-%d %H:%M} UTC")
    for word, found in (("New", difference.new), ("Gone", difference.gone)):
        for one in found:
            yield f"- {word}: {one.severity.value} `{one.check}` {_plain(one.subject)}"
    yield f"- Unchanged failures: {difference.stayed}"


def _plain(text: str) -> str:
    """Text that stays text."""
    return _MARKUP.sub(r"\\\1", printable(text, most=_LONGEST))
