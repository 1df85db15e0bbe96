"""What became of every CVE of a plan. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from kmend.model.update import (
    CveOutcome,
    CveState,
    FixResult,
    Outcome,
    PlannedCve,
    Together,
    UpdatePlan,
    UpdateReport,
)

WORDS = {
    Outcome.PROVEN: "built and proven",
    Outcome.BUILT: "built, not proven",
    Outcome.REFUSED: "refused",
    Outcome.FAILED: "failed",
    Outcome.PENDING: "not tried yet",
    Outcome.NOT_BUILT: "this kernel does not contain the code",
    Outcome.UNKNOWN: "could not be told",
}
_OF_STATE = {
    CveState.NOT_BUILT: Outcome.NOT_BUILT,
    CveState.REFUSED: Outcome.REFUSED,
    CveState.UNKNOWN: Outcome.UNKNOWN,
}


def report(plan: UpdatePlan, results: Sequence[FixResult], *, together: Together | None, lab: str) -> UpdateReport:
    """One row for each CVE of the plan."""
    by_name = {result.name: result for result in results}
    inside = frozenset(together.fixes) if together else frozenset()
    rows = tuple(_row(cve, by_name, inside) for cve in plan.cves)
    return UpdateReport(
        kernel=plan.kernel,
        to_version=plan.to_version,
        lab=lab,
        cves=rows,
        results=tuple(results),
        together=together,
    )


def _row(cve: PlannedCve, results: Mapping[str, FixResult], inside: frozenset[str]) -> CveOutcome:
    result = results.get(cve.fix) if cve.fix else None
    if result is not None:
        # What the plan says of a fix ("narrowed") stays beside a livepatch that was built of it.
        outcome, code, reason = result.outcome, result.code or cve.code, result.reason or cve.reason
    elif cve.state is CveState.FIX:
        outcome, code, reason = Outcome.PENDING, cve.code, cve.reason
    else:
        outcome, code, reason = _OF_STATE[cve.state], cve.code, cve.reason
    return CveOutcome(
        cve=cve.cve,
        title=cve.title,
        severity=cve.severity,
        score=cve.score,
        objects=cve.objects,
        fix=cve.fix,
        outcome=outcome,
        code=code,
        reason=reason,
        together=cve.fix in inside,
    )


def counts(made: UpdateReport) -> tuple[tuple[Outcome, int, tuple[tuple[str, int], ...]], ...]:
    """For each outcome that occurs how many CVEs, and how many for each code."""
    found = []
    for outcome in WORDS:
        rows = [row for row in made.cves if row.outcome is outcome]
        if rows:
            codes = Counter(row.code for row in rows if row.code).most_common()
            found.append((outcome, len(rows), tuple(codes)))
    return tuple(found)


def page(made: UpdateReport) -> str:
    """The report as one HTML page that needs nothing else."""
    environment = Environment(
        loader=PackageLoader("kmend.cli.update", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    order = list(WORDS)
    rows = sorted(made.cves, key=lambda row: (order.index(row.outcome), -row.score, row.cve))
    return environment.get_template("page.html.j2").render(
        report=made, rows=rows, counts=counts(made), words=WORDS
    )
