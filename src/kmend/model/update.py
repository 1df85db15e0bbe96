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
    objects: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePlan:
    """plan.json: every CVE that was closed between two versions, and the fixes derived for them."""

    kernel: Kernel
    to_version: str
    cves: tuple[PlannedCve, ...]
    fixes: tuple[PlannedFix, ...]
