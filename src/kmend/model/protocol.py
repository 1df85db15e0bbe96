"""What goes over the wire between the server and those who talk to it: agents, people, programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from kmend.model.finding import Severity
from kmend.model.fleet import (
    AuditRecord,
    Block,
    Channel,
    Event,
    Group,
    Host,
    HostReport,
    Offer,
    Role,
    Token,
)
from kmend.model.kernel import Kernel
from kmend.model.lab import LabReport
from kmend.model.livepatch import Livepatch
from kmend.model.look import Look, Told
from kmend.model.rollout import BackTo, Rollout, RolloutPlan, Stage
from kmend.model.webhook import Delivery, Happening, Webhook


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    hint: str = ""
    """What to do next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What an agent sends to be taken in."""

    name: str
    """Of the host, for people."""
    secret: str
    """64 hex digits that the agent drew at random and keeps: its half of the credential."""
    labels: dict[str, str] = field(default_factory=dict)
    """The enrolment token's labels go before these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What an agent hears when it was taken in; the same again when it asks again with the same secret."""

    host: str
    """The host's id: the other half of the credential."""
    channel: str
    labels: dict[str, str]
    interval: int
    """Seconds between check-ins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedIn:
    """What an agent hears when its report is on the disk."""

    offer: Offer
    interval: int
    """Seconds until the next check-in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """The secret that an agent wants to use from now on; the first check-in with it makes it the only one."""

    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostChange:
    """What is to be different about a host; what is left out stays."""

    name: str | None = None
    channel: str | None = None
    labels: dict[str, str] | None = None
    """All labels that it shall have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelChange:
    """Whether a channel is paused, and why."""

    paused: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChange:
    """Whom a group chooses."""

    selector: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why somebody does something."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocking:
    """Why a livepatch is offered to no host any more; hosts show it."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRollout:
    """A rollout to begin."""

    plan: RolloutPlan
    group: str = ""
    """Only hosts of this group take part; the plan's selector holds beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """What hosts go back to; where nothing is said of a kernel, the livepatch is taken out."""

    back_to: tuple[BackTo, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A token to make."""

    name: str
    role: Role
    days: int | None = None
    """Until it expires; None: never."""
    uses: int | None = None
    """Of an enrolment token: how many hosts it enrols; None: any number."""
    channel: str = ""
    """Of an enrolment token: what its hosts follow; empty: stable."""
    labels: dict[str, str] = field(default_factory=dict)
    """Of an enrolment token: what its hosts get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token just made; its text is shown this once."""

    token: Token
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReport:
    """A report of a host's history."""

    taken: datetime
    """When the server took it."""
    report: HostReport


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutHost:
    """Where one host stands in a rollout."""

    host: str
    name: str
    stage: Stage
    changed: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPage:
    """Some hosts; ``next`` is the cursor of those that follow, None at the end."""

    items: tuple[Host, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPage:
    """Some rollouts, the newest first."""

    items: tuple[Rollout, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutHostPage:
    """Some hosts of a rollout: those that were offered its livepatch, or could not take it."""

    items: tuple[RolloutHost, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Some events: the newest first, or with ``after`` the oldest first."""

    items: tuple[Event, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """Some changes, the newest first."""

    items: tuple[AuditRecord, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportList:
    """The latest reports of a host that differ from the one before them, the newest first."""

    items: tuple[KeptReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelList:
    """All channels."""

    items: tuple[Channel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupList:
    """All groups."""

    items: tuple[Group, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockList:
    """All blocks."""

    items: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenList:
    """All tokens."""

    items: tuple[Token, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSummary:
    """The fleet at a glance."""

    hosts: int
    silent: int
    """Not heard of for longer than hosts may be silent."""
    safe: int
    """Run a livepatch, and are not silent."""
    soaking: int
    """Are loading or watching one, and are not silent."""
    troubled: int
    """Failed to load a livepatch that a rollout offered, or quarantined it."""
    rollouts: dict[str, int]
    """State → how many rollouts are in it."""
    looked_at: int = 0
    """Hosts whose agents have sent a look: an audit, an exposure."""
    failing: int = 0
    """Hosts of these on which a check of high or critical severity failed."""
    exposed: int = 0
    """Hosts of these with a container that can reach an open CVE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequest:
    """A webhook to make."""

    name: str
    url: str
    """http:// or https://, as the server reaches it."""
    happenings: tuple[Happening, ...] = ()
    """What it is told of; empty: of everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWebhook:
    """A webhook just made; its secret is shown this once."""

    webhook: Webhook
    secret: str
    """The key of the signatures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookList:
    """All webhooks."""

    items: tuple[Webhook, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPage:
    """Notices to a webhook, the newest first."""

    items: tuple[Delivery, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLook:
    """The newest look at a host."""

    taken: datetime
    """When the server took it."""
    look: Look


@dataclass(frozen=True, slots=True, kw_only=True)
class HostContainers:
    """Containers of one host that can reach a CVE, or of which that could not be told."""

    host: str
    name: str
    """The host's, for people."""
    looked: datetime
    """When the agent looked."""
    reach: Told
    containers: tuple[str, ...]
    """The first of them by name, as the host has named them."""
    count: int
    """All of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostContainersPage:
    """Some hosts with containers that can reach a CVE, by the hosts' ids."""

    items: tuple[HostContainers, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachedCve:
    """A CVE that is open on some hosts, and that containers there can reach."""

    cve: str
    score: float
    exploited: bool
    hosts: int
    containers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachedCveList:
    """The most urgent of them first: known exploits, then by score, then by containers."""

    items: tuple[ReachedCve, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetCheck:
    """A check that failed on some hosts."""

    check: str
    severity: Severity
    """The worst that it was anywhere."""
    title: str
    """Empty when this server does not know the check."""
    hosts: int
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetCheckList:
    """The worst first: by severity, then by hosts."""

    items: tuple[FleetCheck, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLivepatch:
    """A livepatch for a kernel of the fleet, as the signed repository has it."""

    kernel: Kernel
    number: int
    cves: tuple[str, ...]
    channels: tuple[str, ...]
    """Where it was seen."""
    published: datetime | None
    hosts: int
    """That run it now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLivepatchList:
    """The kernel learned last first, highest numbers first."""

    items: tuple[FleetLivepatch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LivepatchProof:
    """One livepatch with its proof, and what the fleet does with it."""

    livepatch: Livepatch
    report: LabReport | None
    """Of the lab, where the channel lists it."""
    channels: tuple[str, ...]
    published: datetime | None
    hosts: int
    """That run it now."""
    blocked: str
    """Why no host is offered it; empty when it is not blocked."""
    rollouts: tuple[str, ...]
    """That bring it, the newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetCve:
    """How many hosts stand how with a CVE that a livepatch for their kernel closes."""

    cve: str
    open: int
    closed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetCveList:
    """Those that are open on most hosts first."""

    items: tuple[FleetCve, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CveStanding:
    """How many hosts stand how with one CVE."""

    cve: str
    open: int
    closed: int
    unknown: int
    """Hosts for whose kernel no known livepatch speaks of it."""
