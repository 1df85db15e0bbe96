"""Rollout: how a livepatch reaches a fleet, wave by wave, and how the hosts that have it are doing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which livepatch a rollout brings to one kernel."""

    build_id: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackTo:
    """What hosts with one kernel go back to in a rollback."""

    build_id: str
    number: int | None
    """None: the livepatch is taken out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """The hosts that join at one step: those that the selector chooses, of these ``percent`` by their share.

    A host belongs to the first wave that takes it, so percentages count with those of the waves before.
    """

    percent: float = 100.0
    selector: str = ""
    soak: int = 3600
    """Seconds that the wave's last host has to run the livepatch before the next wave begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """By how many percentage points hosts that were offered the livepatch may do worse than those that wait."""

    failed: float = 5.0
    quarantined: float = 1.0
    rebooted: float = 1.0
    silent: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """What somebody asks for."""

    name: str
    channel: str
    livepatches: tuple[Target, ...]
    """One for each kernel."""
    waves: tuple[Wave, ...] = (Wave(percent=1.0), Wave(percent=10.0), Wave())
    selector: str = ""
    """Only hosts that it chooses take part at all."""
    max_concurrent: int = 0
    """How many hosts may be loading or watching at a time; 0 is no limit."""
    limits: Limits = field(default_factory=Limits)


class RolloutState(StrEnum):
    """Where a rollout stands."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    """By itself, because hosts got worse; a person may resume it."""
    ABORTED = "aborted"
    FINISHED = "finished"
    """Every wave is done. Hosts that come later are still offered the livepatch."""
    ROLLED_BACK = "rolled-back"
    """Hosts that run its livepatch are asked to go back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many hosts of one kind there are, and how many of them had what trouble."""

    hosts: int = 0
    failed: int = 0
    quarantined: int = 0
    rebooted: int = 0
    """Without an orderly shutdown."""
    silent: int = 0
    """Not heard of for longer than hosts may be silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the hosts of a rollout are doing."""

    updated: Tally = field(default_factory=Tally)
    """Those that were offered the livepatch; troubles since then."""
    waiting: Tally = field(default_factory=Tally)
    """Those that will be; troubles since the rollout began or was resumed."""
    in_flight: int = 0
    """Offered and not settled: loading, watching, or not heard of since."""
    pending: int = 0
    """Hosts of the open waves that have to settle first: in flight or not offered yet, and not silent."""
    done: int = 0
    """Hosts that run the livepatch and have watched it."""
    settled: datetime | None = None
    """When the last host of them did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A plan and how far it has come."""

    id: str
    plan: RolloutPlan
    cuts: tuple[int, ...]
    """For each wave the share below which hosts belong to it; the first wave's reaches one host at least."""
    state: RolloutState
    reason: str
    """Why it is in this state."""
    wave: int
    """Index of the open wave; the waves before it are open too."""
    wave_opened: datetime
    created: datetime
    counted_from: datetime
    """Troubles before this moment do not count: when it was made, or resumed after it had stopped."""
    back_to: tuple[BackTo, ...] = ()
    """Only of a rollback."""
    health: Health = field(default_factory=Health)
    """As it was counted last."""
    judged: datetime | None = None
    """When that was."""
    running: int | None = None
    """Hosts that run one of its livepatches now, its own or not; None where nobody counted."""


class Stage(StrEnum):
    """Where one host stands in a rollout."""

    WAITING = "waiting"
    HELD = "held"
    """It cannot take it: switched off, pinned, or the number is quarantined or blocked."""
    OFFERED = "offered"
    SOAKING = "soaking"
    DONE = "done"
    TROUBLED = "troubled"
    """It failed, or quarantined the number, after the offer."""


IN_FLIGHT = frozenset({Stage.OFFERED, Stage.SOAKING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One rollout as one host sees it."""

    rollout: Rollout
    health: Health
    stage: Stage = Stage.WAITING
