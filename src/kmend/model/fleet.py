"""Host, HostReport, Channel, Group, Block and Event: what the server knows of the machines under its care."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kmend.model.host import AgentPhase, Quarantine
from kmend.model.kernel import Kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An attempt to load a livepatch that did not succeed; the host runs what it ran before."""

    build_id: str
    number: int
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """What an agent saw on its host once."""

    at: datetime
    """By the host's own clock: for people to read, never compared with the server's."""
    kernel: Kernel
    boot_id: str
    phase: AgentPhase
    running: int | None
    """Number of kmend's livepatch in effect; None when there is none."""
    quarantined: tuple[Quarantine, ...] = ()
    failure: Failure | None = None
    """The last attempt, if it failed."""
    unexpected_reboot: bool = False
    """Whether the boot before this one ended without an orderly shutdown, as far as the agent can tell."""
    held: str = ""
    """Why nothing is loaded on this host now (a switch, a pin, somebody else's livepatch), or empty."""
    agent: str = ""
    """The agent and its version."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine under care."""

    id: str
    name: str
    channel: str
    labels: dict[str, str]
    enrolled: datetime
    seen: datetime | None
    """When the server took its last report; None before the first."""
    report: HostReport | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A named stream that hosts follow. While it is paused, nothing is offered in it but rollbacks."""

    name: str
    paused: bool = False
    reason: str = ""
    """Why it is paused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A label selector with a name."""

    name: str
    selector: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A livepatch that no host of the fleet is offered any more; numbers count per kernel, so both name it."""

    build_id: str
    number: int
    reason: str
    since: datetime


class OfferAction(StrEnum):
    """What an Offer asks of the host."""

    STAY = "stay"
    """Go on with what runs."""
    APPLY = "apply"
    """Load ``number``, which is higher than what runs."""
    GO_BACK = "go-back"
    """A rollback: load ``number``, which is lower than what runs."""
    TAKE_OUT = "take-out"
    """A rollback: take kmend's livepatch out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The livepatch that a host should run, or none, and because of what."""

    action: OfferAction
    number: int | None
    """What should run; None when none should."""
    build_id: str
    """Of the kernel that the offer is for."""
    channel: str
    """Where the repository has it."""
    because: str
    rollout: str = ""
    """Id of the rollout that asks for it; empty when none does."""
    holds: bool = False
    """Whether something higher than what runs is held back from this host: the channel is paused, or a rollout
    does not bring it now. A host that goes by its own rules waits then."""
    blocked: tuple[int, ...] = ()
    """Numbers that no host of the fleet is to load on this kernel."""


class EventKind(StrEnum):
    """What happened."""

    ENROLLED = "host-enrolled"
    UPDATED = "host-updated"
    OFFERED = "host-offered"
    FAILED = "host-failed"
    QUARANTINED = "host-quarantined"
    REBOOTED = "host-rebooted"
    """Without an orderly shutdown."""
    KERNEL = "host-kernel"
    """It runs another kernel than before."""
    REMOVED = "host-removed"
    ROLLOUT = "rollout"
    """Its state or its wave changed."""
    CHANNEL = "channel"
    BLOCKED = "livepatch-blocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened, in the order of ``id``."""

    id: int
    at: datetime
    kind: EventKind
    host: str
    """Id, or empty."""
    rollout: str
    """Id, or empty."""
    text: str


class Role(StrEnum):
    """What the bearer of a token may do; each role may do what those before it may, but for ENROL."""

    ENROL = "enrol"
    """Enrol hosts, nothing else."""
    VIEWER = "viewer"
    OPERATOR = "operator"
    """Everything but tokens, webhooks and the audit log."""
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of a token; its secret is not kept."""

    id: str
    name: str
    role: Role
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    last_used: datetime | None
    uses_left: int | None
    """Of an enrolment token; None when it can be used without limit."""
    channel: str
    """That hosts enrolled with it follow."""
    labels: dict[str, str]
    """That hosts enrolled with it get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One change that somebody made."""

    id: int
    at: datetime
    actor: str
    """E.g. ``token:ID NAME``."""
    action: str
    subject: str
    detail: str
