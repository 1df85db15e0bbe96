"""Known holes by package version, by what is brought back, and by what runs."""

import pytest

from kmend.audit.check import Advisory, Verdict
from kmend.audit.registry import CHECKS
from kmend.model.facts import Facts
from kmend.model.finding import Outcome, Severity
from makers.audited import case_of, right_host, with_program

RUNC = next(one for one in CHECKS if one.rule.id == "runtime-runc")


def judge(facts: Facts, **more: object) -> Verdict:
    """What is found about runc."""
    (verdict,) = RUNC.judge(case_of(facts, **more))
    return verdict


def debian(version: str, build: str = "1.1.5+ds1") -> Facts:
    """A host with Debian's runc."""
    return with_program(right_host(), "runc", package="runc", package_version=version, build_version=build)


def test_a_backport_closes_a_hole_and_leaves_others_in_doubt():
    """Debian 12's 1.1.5 has the fix of CVE-2024-21626; of newer holes its version says nothing."""
    verdict = judge(debian("1.1.5+ds1-1+deb12u1"))
    assert verdict.outcome is Outcome.UNKNOWN
    assert "CVE-2024-21626" not in verdict.evidence
    assert "CVE-2025-31133" in verdict.evidence
    assert "--advisories" in verdict.evidence


def test_without_the_backport_it_is_open():
    """The version before it has the hole, and it is critical."""
    verdict = judge(debian("1.1.5+ds1-1"))
    assert verdict.outcome is Outcome.FAIL
    assert verdict.severity is Severity.CRITICAL
    assert "CVE-2024-21626" in verdict.evidence


@pytest.mark.parametrize(("fixed", "outcome"), [("1.1.5+ds1-1+deb12u2", Outcome.PASS), ("", Outcome.FAIL)])
def test_advisories_decide_what_was_in_doubt(fixed: str, outcome: Outcome):
    """With the distribution's word there is no doubt left."""
    cves = ("CVE-2024-45310", "CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881")
    said = {"runc": tuple(Advisory(cve, "runc", "debian 12", fixed) for cve in cves)}
    assert judge(debian("1.1.5+ds1-1+deb12u2"), advisories=said).outcome is outcome


def test_advisories_of_another_release_say_nothing():
    """What holds for Debian 13 does not hold here."""
    said = {"runc": (Advisory("CVE-2025-31133", "runc", "debian 13", "0"),)}
    assert "CVE-2025-31133" in judge(debian("1.1.5+ds1-1+deb12u1"), advisories=said).evidence


@pytest.mark.parametrize(
    ("version", "outcome"), [("1.1.11", Outcome.FAIL), ("1.2.8", Outcome.PASS), ("", Outcome.UNKNOWN)]
)
def test_a_binary_of_no_package_is_judged_by_what_is_written_in_it(version: str, outcome: Outcome):
    """Nobody brings fixes back into it."""
    facts = with_program(right_host(), "runc", package="", package_version="", build_version=version)
    assert judge(facts).outcome is outcome


def test_a_package_of_docker_itself_is_judged_by_the_binary_in_it():
    """containerd.io 1.7 holds a runc 1.1: the package's version is not runc's."""
    facts = with_program(
        right_host(), "runc", package="containerd.io", package_version="1.7.29-1", build_version="1.1.11"
    )
    assert judge(facts).outcome is Outcome.FAIL
    unseen = with_program(
        right_host(), "runc", package="containerd.io", package_version="1.7.29-1", build_version=""
    )
    assert judge(unseen).outcome is Outcome.UNKNOWN


def test_what_runs_counts_and_not_what_took_its_place():
    """An old dockerd goes on after an update until it is restarted."""
    facts = right_host()
    old = with_program(
        facts, "runc", replaced=True, package="", package_version="", build_version="1.1.11"
    ).programs[0]
    both = right_host(programs=(*facts.programs, old))
    outcomes = [one.outcome for one in RUNC.judge(case_of(both))]
    assert outcomes[0] is Outcome.PASS
    assert outcomes[1] in {Outcome.FAIL, Outcome.UNKNOWN}
    assert "replaced" in list(RUNC.judge(case_of(both)))[1].subject


def test_a_version_before_the_hole_is_closed():
    """CVE-2024-21626 came with 1.0.0-rc93; that older one has others."""
    facts = with_program(right_host(), "runc", package="", package_version="", build_version="1.0.0-rc92")
    assert "CVE-2024-21626" not in judge(facts).evidence
