"""What became of every CVE of a plan. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from kmend.model.update import (
    CveOutcome,
    CveState,
    FixResult,
    Outcome,
    PartLeftOut,
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
_CLOSED = frozenset((Outcome.PROVEN, Outcome.BUILT))
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
    outcome, code, reason = _fate(cve, results.get(cve.fix) if cve.fix else None)
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
        together=cve.fix in inside and outcome in _CLOSED,
    )


def _fate(cve: PlannedCve, result: FixResult | None) -> tuple[Outcome, str, str]:
    """Outcome, code and reason of one CVE."""
    if result is None:
        outcome = Outcome.PENDING if cve.state is CveState.FIX else _OF_STATE[cve.state]
        return outcome, cve.code, cve.reason
    caution = f" Caution: {', '.join(result.cautions)}." if result.cautions else ""
    if result.outcome not in _CLOSED or not result.left_out:
        return result.outcome, result.code or cve.code, f"{result.reason or cve.reason}{caution}".strip()
    if cve.cve not in result.closes:
        part = next((one for one in result.left_out if one.file in cve.sources), result.left_out[0])
        return Outcome.REFUSED, part.code, f"The fix was built without its part. {_missing(part)}"
    parts = " ".join(_missing(part) for part in result.left_out)
    return result.outcome, "in-part", f"Built, but not the whole difference. {parts}{caution}"


def _missing(part: PartLeftOut) -> str:
    return f"Left out: {', '.join(part.names)} in {part.file} [{part.code}] {part.reason}"


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
    return _rendered("page.html.j2", made, rows=_ordered(made))


def table(made: UpdateReport) -> str:
    """The report as Markdown: the sums, and a row for each CVE whose code the kernel contains, or may contain."""
    concerned = [row for row in _ordered(made) if row.outcome not in {Outcome.NOT_BUILT, Outcome.UNKNOWN}]
    closed = sum(row.outcome in _CLOSED for row in concerned)
    share = f"{closed / len(concerned):.0%}" if concerned else "none"
    return _rendered("table.md.j2", made, concerned=concerned, closed=closed, share=share)


def _ordered(made: UpdateReport) -> list[CveOutcome]:
    order = list(WORDS)
    return sorted(made.cves, key=lambda row: (order.index(row.outcome), -row.score, row.cve))


def _rendered(name: str, made: UpdateReport, **values: object) -> str:
    environment = Environment(
        loader=PackageLoader("kmend.cli.update", "."),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(report=made, counts=counts(made), words=WORDS, **values)
