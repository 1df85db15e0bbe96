"""Looks at hosts, as agents send them."""

from kmend.model.exposure import Verdict
from kmend.model.finding import Severity
from kmend.model.look import AreaScore, AuditLook, ExposureLook, FailedCheck, Look, OpenCve, ReachGroup, Told
from makers.nouns import NOW


def make_cves(*numbers, year=2026, score=7.8, exploited=False):
    """Open CVEs."""
    return tuple(OpenCve(cve=f"CVE-{year}-{number}", score=score, exploited=exploited) for number in numbers)


def make_group(*names, cves, reach=Told.REACHABLE, count=None):
    """Containers that reach the same CVEs."""
    return ReachGroup(reach=reach, containers=names, count=len(names) if count is None else count, cves=cves)


def make_exposure(*groups, **more):
    """An exposure with some groups."""
    reached = {one.cve for group in groups if group.reach is Told.REACHABLE for one in group.cves}
    basis = {"verdicts": {Verdict.OPEN.value: len(reached)}, "reachable": len(reached), "containers": 3}
    return ExposureLook(groups=groups, **{**basis, **more})


def make_audit(failed=(("container-privileged", Severity.HIGH, 2),)):
    """An audit with some failures: (check, severity, count)."""
    checks = tuple(
        FailedCheck(check=check, severity=severity, count=count, subjects=("container web",))
        for check, severity, count in failed
    )
    scores = (
        AreaScore(area="containers", percent=60, failed=3, unknown=1),
        AreaScore(area="all", percent=74, failed=5, unknown=2),
    )
    return AuditLook(scores=scores, failed=checks)


def make_look(**more):
    """A whole look."""
    groups = (
        make_group("db", "web", cves=make_cves(1001, 1002)),
        make_group("web", cves=make_cves(1003, score=9.8, exploited=True)),
        make_group("db", cves=make_cves(1003, score=9.8, exploited=True), reach=Told.UNKNOWN),
    )
    basis = {"at": NOW, "version": "1.0", "audit": make_audit(), "exposure": make_exposure(*groups)}
    return Look(**{**basis, **more})
