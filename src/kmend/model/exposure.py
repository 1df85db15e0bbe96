"""Exposure: which kernel CVEs are open on a host, and what each of its containers can reach of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kmend.model.kernel import Kernel

FORMAT = 1
"""Rises when a reader of an older format would misread newer results."""


class Verdict(StrEnum):
    """What a CVE is to the kernel that runs."""

    OPEN = "open"
    UNKNOWN = "could-not-tell"
    CLOSED_BY_LIVEPATCH = "closed-by-livepatch"
    CLOSED_BY_VERSION = "closed-by-version"
    NOT_BUILT = "not-built"
    """This kernel does not contain the code."""
    NOT_AFFECTED = "not-affected"
    """The hole came in later than this version."""


class Reach(StrEnum):
    """What stands between a container and the code."""

    REACHABLE = "reachable"
    UNKNOWN = "could-not-tell"
    GATED = "behind-a-gate"
    NOT_REACHABLE = "not-reachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One thing that was seen, and where, so that a person can look again."""

    source: str
    """``modules.alias``, ``/proc/sys/kernel/io_uring_disabled``, ``record``, …"""
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerReach:
    """How some containers stand to the code of a CVE; those for which all of it is the same stand together."""

    containers: tuple[str, ...]
    """Names, sorted; two of one name are told apart by their id."""
    reach: Reach
    way: str
    """The entry that was looked at: ``socket AF_TIPC``; of several the one that is open, or the nearest to it."""
    gate: str
    """What stands before it: id of a gate; empty where nothing does."""
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CveExposure:
    """One CVE on this host."""

    cve: str
    title: str
    verdict: Verdict
    severity: str
    score: float
    vector: str
    rationale: str
    """The CNA's, for the metrics that say who can reach it; of open ones only."""
    exploited_since: str
    """Date on which CISA's list of known exploited holes took it up; empty when it is not there."""
    files: tuple[str, ...]
    objects: tuple[str, ...]
    """``vmlinux`` and modules that hold the code; empty when that is not known."""
    evidence: tuple[Evidence, ...]
    reach: tuple[ContainerReach, ...] = ()
    """Of open ones, and those of which nobody can tell; the most exposed containers first."""

    @property
    def worst(self) -> Reach | None:
        """The most that any container can; None when there are none."""
        return self.reach[0].reach if self.reach else None


class ActionKind(StrEnum):
    """What can be done."""

    LIVEPATCH = "apply-livepatch"
    REBOOT = "reboot"
    BLOCK = "block-module"
    SYSCTL = "set-sysctl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing to do, and what it would close."""

    kind: ActionKind
    what: str
    """Livepatch number, kernel, module, ``sysctl=value``"""
    text: str
    cves: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A CVE record that does not follow the format."""

    cve: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Everything that `kmend exposure` found out."""

    format: int = FORMAT
    host: str
    kernel: Kernel
    package: str
    distribution: str
    architecture: str
    collected: datetime
    """When the host was looked at."""
    actions: tuple[Action, ...]
    cves: tuple[CveExposure, ...]
    """The most urgent first."""
    containers: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    """Containers that do not run, or run on a kernel of their own."""
    unread: tuple[Unread, ...] = ()
    missing: tuple[str, ...] = ()
    """What was not given, or could not be seen, and what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFiles:
    """Which source files are in one Kernel: exported once by `kmend kernel files`."""

    format: int = FORMAT
    kernel: Kernel
    objects: dict[str, tuple[str, ...]]
    """Source file → ``vmlinux`` and names of modules that hold it; files that others include among them."""
    sources: dict[str, tuple[str, ...]]
    """Folder → names of all files of code in the kernel's source, built or not."""
