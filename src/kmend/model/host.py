"""Channel, Offer and what an agent knows of its host."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from kmend.model.kernel import Kernel
from kmend.model.livepatch import Livepatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelEntry:
    """What a channel holds for one kernel: the newest livepatch's manifest and where its signed module lies."""

    livepatch: Livepatch
    module_target: str
    """TUF target path of the signed module, under the channel's prefix."""
    module_sha256: str
    """Of the signed module."""
    published: datetime | None = None
    """When it came into the channel; None in entries of releases that did not write it."""


class AgentPhase(StrEnum):
    """Where the agent stands; it is written down before and after each change."""

    IDLE = "idle"
    LOADING = "loading"
    """A livepatch was about to be loaded; found after a start, it means that the load was cut short."""
    SOAKING = "soaking"
    """Loaded and being watched; a reboot found in this phase quarantines the number."""
    APPLIED = "applied"
    REVERTING = "reverting"
    UNLOADING = "unloading"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """A livepatch that is not applied again on this host; numbers count per kernel, so both name it."""

    build_id: str
    number: int
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRuns:
    """How often a container was started again by its runtime."""

    runtime: str
    id: str
    name: str
    restarts: int
    steady: bool
    """False when it was started again a short while ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How a host was before a livepatch was loaded: what the watch afterwards compares with."""

    began: float
    """By the clock that only rises, in seconds; it counts for this boot only."""
    log_mark: int
    """Number of the newest kernel record."""
    failed_units: tuple[str, ...]
    containers: tuple[ContainerRuns, ...]
    unseen: tuple[str, ...]
    """What cannot be looked at on this host."""
    runs: int = 0
    """How many runs of the agent have watched; more than one means that the others were killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockingTask:
    """A thread that keeps a transition from ending."""

    pid: int
    thread: int
    name: str
    stack: tuple[str, ...]
    """Kernel functions, innermost first; empty when nobody could tell."""

    def __str__(self) -> str:
        """For a message: who, and where."""
        where = f" in {', '.join(self.stack[:3])}" if self.stack else ""
        return f"{self.name} ({self.thread}){where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """A transition that did not end; it is tried again later, and nothing is forced."""

    number: int
    tasks: tuple[BlockingTask, ...]
    """Who kept it from ending; empty when no task in /proc did."""
    at: datetime
    tries: int

    @property
    def again(self) -> datetime:
        """From when on the agent tries again by itself: after 15 minutes, then twice as long, at most 8 hours."""
        return self.at + timedelta(minutes=min(15 * 2 ** min(self.tries - 1, 5), 480))


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """What the agent remembers across restarts and reboots."""

    phase: AgentPhase
    boot_id: str
    """Of the boot in which this was written."""
    livepatch: Livepatch | None
    """Which one the phase speaks of."""
    quarantined: tuple[Quarantine, ...]
    changed: datetime
    note: str = ""
    watch: Watch | None = None
    """While the phase is loading or soaking."""
    stalled: Stall | None = None
    """The last transition, if it did not end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKernel:
    """The running kernel of a host: identity and boot."""

    kernel: Kernel
    boot_id: str
