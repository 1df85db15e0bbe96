"""The audit itself: checks over a case, their verdicts as findings, and scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from kmend.audit.check import Case, Check, Verdict
from kmend.audit.pods import remedy_for_pods
from kmend.audit.waivers import Waiver, reason_for
from kmend.model.facts import Container
from kmend.model.finding import Area, AuditReport, Finding, Outcome, Rule, Score

_WEIGHTS = (1, 3, 6, 10)
_COUNTED = (Outcome.PASS, Outcome.NOT_APPLICABLE)
_ORDER = list(Outcome)
_SHORTEST_ID = 4


def audit(
    case: Case,
    checks: Sequence[Check],
    *,
    version: str,
    profile: str = "all",
    waivers: Sequence[Waiver] = (),
    now: datetime,
) -> AuditReport:
    """Judge a case.

    Args:
        case: Facts, and what else was given.
        checks: Which checks to make.
        version: Of kmend.
        profile: Name of the choice of checks, for the report.
        waivers: What was accepted, until when.
        now: For waivers that have run out.
    """
    findings = [found for check in checks for found in _findings(check, case)]
    findings = [_waived(one, waivers, now) for one in findings]
    findings.sort(key=lambda one: (one.outcome is not Outcome.FAIL or bool(one.waived), -one.severity.rank))
    return AuditReport(
        host=case.facts.host,
        machine_id=case.facts.machine_id,
        collected=case.facts.collected,
        version=version,
        profile=profile,
        rules=tuple(check.rule for check in checks),
        findings=tuple(findings),
        scores=scores(findings, [check.rule for check in checks]),
        unseen=tuple(f"{one.what}: {one.why}" for one in case.facts.unseen),
        notes=tuple(_notes(waivers, findings, now)),
    )


def only_containers(case: Case, wanted: Iterable[str]) -> Case | None:
    """The case with the containers that are named (by name, or by the begin of an id), and their images alone.

    None when no container fits.
    """
    names = tuple(wanted)
    chosen = tuple(one for one in case.facts.containers if any(_is_called(one, name) for name in names))
    if not chosen:
        return None
    used = {one.image_id for one in chosen}
    images = tuple(one for one in case.facts.images if one.id in used)
    return replace(case, facts=replace(case.facts, containers=chosen, images=images))


def _is_called(one: Container, name: str) -> bool:
    if len(name) >= _SHORTEST_ID and one.id.startswith(name):
        return True
    return name in {one.title, one.name.lstrip("/"), one.name, one.pod}


def _findings(check: Check, case: Case) -> Iterator[Finding]:
    """Failures and doubts one by one; passes, and what does not apply, put together."""
    counted: dict[Outcome, list[Verdict]] = defaultdict(list)
    for verdict in check.judge(case):
        if verdict.outcome in _COUNTED:
            counted[verdict.outcome].append(verdict)
        else:
            yield _finding(check.rule, verdict)
    for outcome in _COUNTED:
        if found := counted.get(outcome):
            yield _together(check.rule, found)


def _finding(rule: Rule, verdict: Verdict) -> Finding:
    failed = verdict.outcome is Outcome.FAIL
    return Finding(
        check=rule.id,
        severity=verdict.severity or rule.severity,
        outcome=verdict.outcome,
        subject=verdict.subject,
        evidence=verdict.evidence,
        remedy=_remedy(rule, verdict) if failed else "",
    )


def _remedy(rule: Rule, verdict: Verdict) -> str:
    of_pods = remedy_for_pods(rule.id) if verdict.in_pod else ""
    return verdict.remedy or of_pods or rule.remedy


def _together(rule: Rule, verdicts: list[Verdict]) -> Finding:
    first = _finding(rule, verdicts[0])
    if len(verdicts) == 1:
        return first
    kind = first.subject.partition(" ")[0]
    same = kind if all(one.subject.startswith(f"{kind} ") for one in verdicts) else "subject"
    return replace(
        first,
        subject=f"{len(verdicts)} {same}s",
        evidence=f"For example {first.subject}: {first.evidence}",
        count=len(verdicts),
    )


def _waived(one: Finding, waivers: Sequence[Waiver], now: datetime) -> Finding:
    if one.outcome is not Outcome.FAIL:
        return one
    reason = reason_for(one, waivers, now=now)
    return replace(one, waived=reason) if reason else one


def _notes(waivers: Sequence[Waiver], findings: Sequence[Finding], now: datetime) -> Iterator[str]:
    for waiver in waivers:
        if waiver.is_over(now):
            over = waiver.expires.isoformat()
            yield f"The waiver for {waiver.check} ({waiver.subject}) ran out on {over}: {waiver.reason}"
        elif not any(one.waived and waiver.covers(one) for one in findings):
            yield f"The waiver for {waiver.check} ({waiver.subject}) covers nothing: {waiver.reason}"


def scores(findings: Iterable[Finding], rules: Iterable[Rule]) -> tuple[Score, ...]:
    """One score for each area that has findings, and one for all."""
    areas = {rule.id: rule.area for rule in rules}
    by_area: dict[Area, list[Finding]] = defaultdict(list)
    for one in findings:
        by_area[areas[one.check]].append(one)
    found = [_score(area.value, by_area[area]) for area in Area if area in by_area]
    return (*found, _score("all", [one for all_of in by_area.values() for one in all_of]))


def _score(area: str, findings: Sequence[Finding]) -> Score:
    """A check counts by the share of its subjects that pass, and with the weight of its severity.

    So one bad container of a thousand costs little, and one check with a thousand subjects does not count for more
    than one with a single subject.
    """
    passed: dict[str, int] = defaultdict(int)
    failed: dict[str, int] = defaultdict(int)
    weights: dict[str, int] = defaultdict(int)
    for one in findings:
        if one.outcome is Outcome.PASS:
            passed[one.check] += one.count
        elif one.outcome is Outcome.FAIL and not one.waived:
            failed[one.check] += one.count
        else:
            continue
        weights[one.check] = max(weights[one.check], _WEIGHTS[one.severity.rank])
    whole = sum(weights.values())
    won = sum(weight * passed[name] / (passed[name] + failed[name]) for name, weight in weights.items())
    return Score(
        area=area,
        passed=sum(passed.values()),
        failed=sum(failed.values()),
        unknown=sum(one.count for one in findings if one.outcome is Outcome.UNKNOWN),
        waived=sum(one.count for one in findings if one.waived),
        percent=int(100 * won / whole) if whole else None,
    )
