"""What a distribution update closes, and what becomes of it: the plan of `kmend update`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kmend.model.kernel import Kernel


class CveState(StrEnum):
    """What the plan says of one CVE."""

    FIX = "fix"
    """A derived fix is there to be built."""
    NOT_BUILT = "not-built"
    """This kernel does not contain the code."""
    REFUSED = "refused"
    """It concerns this kernel, but no fix could be derived; code and reason say why."""
    UNKNOWN = "unknown"
    """It could not be told whether this kernel is concerned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCve:
    """One CVE that the update closes."""

    cve: str
    title: str
    severity: str
    """``low`` to ``critical``; empty when the record does not say."""
    score: float
    """CVSS base score; 0 when the record does not say."""
    files: tuple[str, ...]
    """As its record names them."""
    sources: tuple[str, ...]
    """Those of them, by their names here, that concern this kernel and differ between the two versions."""
    named: tuple[str, ...]
    """Functions and types in ``sources`` that differ and that the record's text speaks of."""
    objects: tuple[str, ...]
    """``vmlinux`` and modules that hold its .c files; empty when none does."""
    commit: str
    """Upstream stable commit that closed it in this series; empty when not known."""
    state: CveState
    code: str
    """Short word for the reason; empty for ``fix``."""
    reason: str
    fix: str
    """Name of the fix that closes it; empty when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFix:
    """One derived fix, in ``fixes/NAME`` beside the plan."""

    name: str
    cves: tuple[str, ...]
    files: tuple[str, ...]
    """Of its CVEs; it changes others too where those need it."""
    objects: tuple[str, ...]
    exact: bool
    """Whether it is an upstream commit; else it is derived, and parts of it may be left out when it is built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePlan:
    """plan.json: every CVE that was closed between two versions, and the fixes derived for them."""

    kernel: Kernel
    to_version: str
    cves: tuple[PlannedCve, ...]
    fixes: tuple[PlannedFix, ...]


class Outcome(StrEnum):
    """What became of a fix or a CVE."""

    PROVEN = "proven"
    """Built, and everything held in the VM."""
    BUILT = "built"
    """Built; no VM was asked for."""
    NOT_BUILT = "not-built"
    """This kernel does not contain the code."""
    REFUSED = "refused"
    """It cannot be livepatched as it is; code and reason say why."""
    FAILED = "failed"
    """It went wrong: in the VM, or an error of kmend or this machine."""
    UNKNOWN = "unknown"
    """It could not be told whether this kernel is concerned."""
    PENDING = "pending"
    """Its turn did not come yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLeftOut:
    """A part of a derived fix that the builder objected to, so that the fix was built without it."""

    file: str
    names: tuple[str, ...]
    """Functions, types or variables of that part."""
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FixResult:
    """What became of one fix, as in results/NAME.json."""

    name: str
    build_id: str
    """Of the kernel that it was built for."""
    sha256: str
    """Of the fix's diff."""
    outcome: Outcome
    code: str
    """Code of the first Objection, ``lab`` when it did not hold in the VM, ``error`` or ``crash``; else empty."""
    reason: str
    advice: str
    functions: int
    """How many functions its livepatch replaces."""
    left_out: tuple[PartLeftOut, ...]
    """Parts without which it was built; the fix as it was built is in ``taken/NAME`` then."""
    closes: tuple[str, ...]
    """The CVEs that are closed by what was built; none when nothing was."""
    build_seconds: float
    lab_seconds: float
    cautions: tuple[str, ...] = ()
    """What to know before it is applied: code and place of each Caution in its manifest."""
    taken: tuple[str, ...] = ()
    """Where the changes begin that were taken of the update (file, old and new line) when not all were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A fix that holds alone but not together with the others."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The one livepatch of everything that held alone, as in together.json."""

    fixes: tuple[str, ...]
    """What it contains; empty when there is none."""
    asked: tuple[str, ...]
    """Hashes of the diffs of all fixes that were to be in it."""
    left_out: tuple[LeftOut, ...]
    outcome: Outcome
    reason: str
    functions: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CveOutcome:
    """One row of the report."""

    cve: str
    title: str
    severity: str
    score: float
    objects: tuple[str, ...]
    fix: str
    outcome: Outcome
    code: str
    reason: str
    together: bool
    """Whether the livepatch of all fixes closes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReport:
    """report.json: every CVE of the plan and what became of it."""

    kernel: Kernel
    to_version: str
    lab: str
    """``quick`` or ``none``."""
    cves: tuple[CveOutcome, ...]
    results: tuple[FixResult, ...]
    together: Together | None
