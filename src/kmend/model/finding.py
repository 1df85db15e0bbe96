"""Findings: what an audit of a container host came to, and the evidence for each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

FORMAT = 1
"""Rises when a reader of an older format would misread a newer report."""


class Severity(StrEnum):
    """How bad it is when a check does not hold; the order of the members is from harmless to worst."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """From 0 (low) to 3 (critical)."""
        return list(Severity).index(self)


class Outcome(StrEnum):
    """What a check came to for one subject."""

    PASS = "pass"  # noqa: S105 - an outcome, no password
    FAIL = "fail"
    UNKNOWN = "could-not-tell"
    """The facts do not show it; counts as neither pass nor fail."""
    NOT_APPLICABLE = "not-applicable"


class Area(StrEnum):
    """What a check is about."""

    HOST = "host"
    DAEMON = "daemon"
    FILES = "files"
    IMAGES = "images"
    CONTAINERS = "containers"
    SWARM = "swarm"
    KUBERNETES = "kubernetes"
    RUNTIMES = "runtimes"
    MODULES = "modules"
    KERNEL = "kernel"


class Actionable(StrEnum):
    """When the remedy takes effect."""

    RUNTIME = "runtime"
    """At once, or with a restart of a service or a container."""
    BOOT = "boot"
    """With the next boot."""
    REBUILD = "rebuild"
    """Only with another kernel or another image."""


class Livepatching(StrEnum):
    """What a remedy means for livepatching."""

    SAFE = "safe"
    CARE = "care"
    """It goes on working when what stands under ``breaks`` is heeded."""
    STOPS = "stops"
    """No livepatch can be loaded, or built, after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a check asks for, without the code that judges it."""

    id: str
    """``container-privileged``"""
    title: str
    area: Area
    severity: Severity
    source: str
    """Where the demand comes from, for who wants to read more."""
    remedy: str
    cis: str = ""
    """Number in the CIS Docker Benchmark 1.6, or ``kubernetes:4.2.1``; only a reference."""
    level: int = 0
    """CIS level 1 or 2; 0 for checks that are ours alone."""
    actionable: Actionable = Actionable.RUNTIME
    breaks: str = ""
    """What may stop working with the remedy; empty when nothing is known to."""
    livepatching: Livepatching = Livepatching.SAFE


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One audit result."""

    check: str
    """Id of the Rule."""
    severity: Severity
    outcome: Outcome
    subject: str
    """``host``, ``container web (1a2b3c4d5e6f)``, ``image nginx:1.27``, a path; for what was put together
    (``count`` above 1) how many of what."""
    evidence: str
    """What was seen."""
    remedy: str = ""
    """What to do; empty when there is nothing to do."""
    count: int = 1
    """Subjects that this stands for: passes and what does not apply are counted, not listed."""
    waived: str = ""
    """The reason of the waiver that covers it; a waived failure counts as neither pass nor fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How one area, or all, came out. Counts are subjects; what does not apply is left out."""

    area: str
    """An Area, or ``all``."""
    passed: int
    failed: int
    unknown: int
    waived: int
    percent: int | None
    """Of the checks that passed or failed, weighted by severity; None when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What changed from an older report to a newer one."""

    since: datetime
    """When the facts of the older one were seen."""
    new: tuple[Finding, ...]
    """Failures that were none before."""
    gone: tuple[Finding, ...]
    """Failures of the older report that are none now."""
    stayed: int
    """Failures in both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What an audit of one host came to."""

    format: int = FORMAT
    host: str
    machine_id: str = ""
    collected: datetime
    """When the facts were seen."""
    version: str
    """Of kmend, whose checks these are."""
    profile: str
    rules: tuple[Rule, ...]
    """The checks that were made."""
    findings: tuple[Finding, ...]
    scores: tuple[Score, ...]
    unseen: tuple[str, ...] = ()
    """What the facts could not show, and why."""
    notes: tuple[str, ...] = ()
    """What a reader should know: a waiver that has expired, …"""
    difference: Difference | None = None
    """To an older report, where one was given."""
