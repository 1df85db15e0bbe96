"""What a host's agent tells the server after it has looked at its host: the audit and the exposure, cut short.

Every list has a limit, so that a host with a thousand containers, or one that lies, tells no more than a page.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kmend.model.exposure import Reach
from kmend.model.finding import Severity

CHECKS = 300
"""Failed checks."""
SUBJECTS = 5
"""Named of a failed check."""
GROUPS = 64
"""Of containers that reach the same CVEs."""
NAMES = 50
"""Containers that are named of one group."""
CVES = 2500
"""In all groups together."""
SCORES = 20
"""Areas of the audit, and all of them together."""
WORD, LINE = 120, 300
"""Characters of a name, and of a sentence."""


class Told(StrEnum):
    """What containers can do with open CVEs, as far as the server is told."""

    REACHABLE = Reach.REACHABLE.value
    UNKNOWN = Reach.UNKNOWN.value


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaScore:
    """How one area of the audit came out, or all of them (``all``)."""

    area: str
    percent: int | None
    """None when nothing in it passed or failed."""
    failed: int
    unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCheck:
    """A check that failed and is not waived."""

    check: str
    """Id of its rule."""
    severity: Severity
    """The worst that it was for a subject."""
    count: int
    """Subjects."""
    subjects: tuple[str, ...]
    """The first of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLook:
    """What the audit came to."""

    scores: tuple[AreaScore, ...]
    failed: tuple[FailedCheck, ...]
    """The worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCve:
    """A CVE that is open in the kernel that runs."""

    cve: str
    score: float
    exploited: bool
    """Whether CISA knows of exploits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachGroup:
    """The containers that can reach some CVEs, or of which that could not be told."""

    reach: Told
    containers: tuple[str, ...]
    """The first of them by name."""
    count: int
    """All of them."""
    cves: tuple[OpenCve, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureLook:
    """What the exposure came to."""

    verdicts: dict[str, int]
    """Verdict → CVEs."""
    reachable: int
    """Open CVEs that a container can reach, also those that are left out below."""
    containers: int
    groups: tuple[ReachGroup, ...]
    left_out: int = 0
    """CVEs that found no room in the groups, the least urgent."""
    missing: tuple[str, ...] = ()
    """What was not given or seen, and what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotHere:
    """CVEs that a kernel cannot have, whatever its version: its code is not built in, or older than the fault."""

    build_id: str
    """Of the kernel."""
    cves: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at one host."""

    at: datetime
    version: str
    """Of kmend, whose rules were used."""
    audit: AuditLook | None = None
    """None when it was not asked for, or failed."""
    exposure: ExposureLook | None = None
    """None when there are no CVE records, or it failed."""
    errors: tuple[str, ...] = ()
    """Why a part of it failed."""
    lifted: tuple[str, ...] = ()
    """CVEs whose mitigations were taken out by this look, for they are closed."""
