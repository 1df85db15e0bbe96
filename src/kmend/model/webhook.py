"""Webhook: whom the server tells of what happens, and how far each notice has come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Happening(StrEnum):
    """What a webhook may tell of."""

    STARTED = "rollout.started"
    WAVE = "rollout.wave"
    """A further wave began."""
    PAUSED = "rollout.paused"
    RESUMED = "rollout.resumed"
    STOPPED = "rollout.stopped"
    """By itself, because hosts got worse."""
    ABORTED = "rollout.aborted"
    FINISHED = "rollout.finished"
    ROLLED_BACK = "rollout.rolled-back"
    QUARANTINED = "host.quarantined"
    """A host holds a livepatch back because it got worse with it."""
    TEST = "test"
    """Nothing happened: somebody wants to see whether a notice arrives. It is sent whatever was chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a webhook is sent."""

    id: str
    """The same at every attempt: a receiver that knows it already has nothing more to do."""
    happening: Happening
    at: datetime
    text: str
    host: str = ""
    """Id, or empty."""
    rollout: str = ""
    """Id, or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An address that is told of what happens."""

    id: str
    name: str
    url: str
    happenings: tuple[Happening, ...]
    """What it is told of; empty: of everything."""
    created: datetime


class DeliveryState(StrEnum):
    """How far a notice has come."""

    WAITING = "waiting"
    """To be sent, for the first time or again."""
    DONE = "done"
    FAILED = "failed"
    """Given up after the last attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A notice on its way to one webhook."""

    id: int
    webhook: str
    notice: Notice
    state: DeliveryState
    tries: int
    due: datetime
    """When it is sent next, if it waits."""
    status: int | None
    """Of the last answer, if there was one."""
    error: str
    """Why the last attempt did not do; empty when it did."""
