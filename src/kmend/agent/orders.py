"""What the server lets this host load: its last offer, read by update_policy. Pure but for reading one file.

An order only ever narrows what the repository offers: what is loaded is signed, for this kernel, in the host's
channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from kmend.agent.config import Paths, load_config
from kmend.agent.membership import load_membership
from kmend.agent.settings import Settings, UpdatePolicy
from kmend.kit.errors import InputError
from kmend.model import wire
from kmend.model.fleet import HostReport, Offer, OfferAction

FRESH = timedelta(minutes=15)
"""How long an offer to load something holds: a host that is silent for longer loses its place at the server."""
_HOLDS = timedelta(hours=24)
"""How long a host that goes by its own rules waits after a server that held something back went away."""


class Rule(StrEnum):
    """What may be loaded."""

    OWN = "own"
    """What the host's own rules say."""
    ONLY = "only"
    """One number."""
    NOTHING = "nothing"
    OUT = "out"
    """Nothing, and what runs is to be taken out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What may be loaded, and because of what."""

    rule: Rule = Rule.OWN
    number: int | None = None
    """With ``ONLY``."""
    back: bool = False
    """A rollback: ``number`` is loaded although a higher one runs, and neither windows nor delays count."""
    blocked: tuple[int, ...] = ()
    because: str = ""


OWN = Order()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An offer that the owner's settings do not allow, or that the repository does not have."""

    build_id: str
    number: int
    because: str
    until: datetime
    """Then the server is asked for it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What the server said last, and what it has not heard yet."""

    boot_id: str = ""
    """The boot that the last report was made in."""
    unexpected_reboot: bool = False
    """Whether the boot before that one ended without an orderly shutdown."""
    outbox: tuple[HostReport, ...] = ()
    """Reports that are not known to be on the server's disk, the oldest first."""
    tried: datetime | None = None
    succeeded: datetime | None = None
    error: str = ""
    """Why the last try failed; empty when it did not."""
    look_told: datetime | None = None
    """When the look was made that the server was told of last."""
    failures: int = 0
    """How many tries in a row have failed."""
    due: datetime | None = None
    """When the next check-in is due."""
    offer: Offer | None = None
    """Of the last check-in that succeeded."""
    refused: Refused | None = None


def load_fleet(paths: Paths) -> Fleet:
    """What was remembered; nothing when there is nothing, or it cannot be read: the server says it again."""
    try:
        return wire.load(Fleet, paths.fleet.read_bytes(), what=str(paths.fleet))
    except (OSError, InputError):
        return Fleet()


def order_of(paths: Paths, settings: Settings, *, build_id: str, now: datetime) -> Order:
    """What may be loaded on this host now.

    Raises:
        InputError: The enrolment cannot be read.
    """
    if load_membership(paths) is None:
        return OWN
    channel = settings.channel or load_config(paths).channel
    return read_offer(load_fleet(paths), settings.update_policy, build_id=build_id, channel=channel, now=now)


def read_offer(fleet: Fleet, policy: UpdatePolicy, *, build_id: str, channel: str, now: datetime) -> Order:
    """The last offer as an order. Pure.

    Args:
        fleet: What the server said last, and when.
        policy: The owner's.
        build_id: Of the running kernel.
        channel: The host's own.
        now: The moment.
    """
    if policy == UpdatePolicy.LOCAL:
        return OWN
    offer = fleet.offer if fleet.offer and fleet.offer.build_id == build_id else None
    if offer and (rollback := _rollback(offer, channel)):
        return rollback
    if policy == UpdatePolicy.LOCAL_FIRST:
        return _local_first(fleet, offer, channel=channel, now=now)
    return _remote(fleet, offer, channel=channel, now=now)


def other_channel(offer: Offer, channel: str) -> str:
    """Why an offer is not taken when it is from another channel than the host follows; empty when it is not."""
    if offer.channel == channel:
        return ""
    return f"the server has this host in channel {offer.channel}, but it follows {channel}"


def _rollback(offer: Offer, channel: str) -> Order | None:
    """What a rollback asks for; None when the offer is none, or leads to another channel."""
    if offer.action == OfferAction.TAKE_OUT:
        return Order(rule=Rule.OUT, because=offer.because, blocked=offer.blocked)
    if offer.action == OfferAction.GO_BACK and offer.channel == channel:
        return Order(rule=Rule.ONLY, number=offer.number, back=True, because=offer.because, blocked=offer.blocked)
    return None


def _remote(fleet: Fleet, offer: Offer | None, *, channel: str, now: datetime) -> Order:
    """Only what is offered; after a boot without the server, what it last said that should run."""
    if offer is None:
        return Order(rule=Rule.NOTHING, because="the server has not said anything about this kernel yet")
    if elsewhere := other_channel(offer, channel):
        return Order(rule=Rule.NOTHING, because=elsewhere)
    if offer.action == OfferAction.APPLY and not _within(fleet.succeeded, FRESH, now):
        old = f"the offer of livepatch {offer.number} is too old to be taken without asking again"
        return Order(rule=Rule.NOTHING, because=old)
    return _only(offer)


def _local_first(fleet: Fleet, offer: Offer | None, *, channel: str, now: datetime) -> Order:
    """The server may hold back; else the host goes by its own rules."""
    if offer is None or offer.channel != channel:
        return OWN
    if offer.holds and _within(fleet.succeeded, _HOLDS, now):
        return _only(offer)
    return Order(blocked=offer.blocked)


def _only(offer: Offer) -> Order:
    """The number that should run, which a host without a livepatch (after a boot) loads again; or nothing."""
    rule = Rule.NOTHING if offer.number is None else Rule.ONLY
    return Order(rule=rule, number=offer.number, because=offer.because, blocked=offer.blocked)


def _within(since: datetime | None, limit: timedelta, now: datetime) -> bool:
    """Whether something was said at most so long ago; a clock that was set back does not count."""
    return since is not None and since <= now <= since + limit
