"""What `kmend update watch` knows of the kernels in care: watch.json, and state.json of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kmend.model.kernel import Kernel


class WatchOutcome(StrEnum):
    """How it stands with one kernel."""

    CURRENT = "current"
    """The sources offer nothing newer than the kernel itself."""
    PUBLISHED = "published"
    """The livepatch for the newest version is in the repository."""
    WAITS = "waits"
    """It is built, but a person has to let it out; reason and advice say why and how."""
    NOTHING = "nothing"
    """Nothing of the newest version could be made into a livepatch."""
    FAILED = "failed"
    """Something went wrong; the next round tries again what was not finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelWatch:
    """One kernel in care."""

    release: str
    kernel: Kernel | None
    """None as long as its kit could not be had."""
    newest: str
    """The newest version of its series that the sources offered last."""
    worked_off: str
    """The newest version for which all work but publishing is done; empty when there is none."""
    outcome: WatchOutcome
    reason: str
    advice: str
    fates: dict[str, int]
    """What became of the CVEs of ``worked_off``, and of how many; report.json has each."""
    number: int
    """Of the livepatch for ``worked_off``; 0 when there is none."""
    sha256: str
    """Of that livepatch.ko, unsigned; empty when there is none."""
    cves: tuple[str, ...]
    """What it closes."""
    folder: str
    """Where it lies; empty when there is none."""
    at: datetime
    """When this was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchReport:
    """watch.json: one round."""

    begun: datetime
    ended: datetime
    problems: tuple[str, ...]
    """What went wrong before any kernel was looked at: lists or records that could not be renewed."""
    kernels: tuple[KernelWatch, ...]
