"""LabReport: what happened in the VM."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kmend.model.kernel import Kernel


class ProbeResult(StrEnum):
    """What a probe says of the running kernel."""

    VULNERABLE = "vulnerable"
    FIXED = "fixed"
    UNKNOWN = "unknown"
    """The probe could not tell."""


class Profile(StrEnum):
    """How much of a container host the VM is."""

    QUICK = "quick"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabStep:
    """One step of the scenario."""

    name: str
    """E.g. ``probe-before``, ``load``, ``transition``, ``soak``, ``unload``, ``reload``."""
    passed: bool
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRecord:
    """What one probe said, each time it was asked."""

    name: str
    before: ProbeResult
    after: ProbeResult
    unloaded: ProbeResult


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRecord:
    """One container over the whole scenario."""

    name: str
    started_at: str
    """As the engine says it, before."""
    started_at_after: str
    restarts: int
    heartbeats: int
    longest_gap_ms: float
    """Longest pause between two heartbeats while the scenario ran."""
    connection_kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LabReport:
    """What happened in the VM, as in labreport.json."""

    kernel: Kernel
    livepatch_number: int
    livepatch_sha256: str
    """Of the module file that was loaded."""
    profile: Profile
    accelerator: str
    """``kvm`` or ``tcg``."""
    passed: bool
    failure: str
    """Empty when passed; else which step failed and why."""
    probe_before: ProbeResult
    probe_after: ProbeResult
    probe_unloaded: ProbeResult
    probes: tuple[ProbeRecord, ...]
    """Each probe by itself; empty when the livepatch came without any."""
    transition_ms: float
    """How long the first transition took by the kernel's own clock; 0 when it did not end."""
    boot_id_before: str
    boot_id_after: str
    containers: tuple[ContainerRecord, ...]
    steps: tuple[LabStep, ...]
    kernel_log_findings: tuple[str, ...]
    """Lines of the kernel log with an oops, WARN, BUG or stall; empty when clean."""
    console_tail: tuple[str, ...]
    """Last lines of the console; filled when the scenario failed."""
    started: datetime
    seconds: float
    series_place: int = 0
    """Its place among the livepatches that were tried one after the other in one boot, from 1; 0: it was alone."""
    unreached: tuple[str, ...] = ()
    """Modules that the livepatch is for and that cannot be loaded in the VM: there it was not applied."""
