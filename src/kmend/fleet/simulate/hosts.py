"""A simulated host: what it reports, and what it does when it hears an offer. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kmend.model import wire
from kmend.model.fleet import HostReport, Offer, OfferAction
from kmend.model.host import AgentPhase, Quarantine
from kmend.model.kernel import Kernel
from kmend.model.protocol import Enrolment

_ID_BITS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What the hosts are like; shares from 0 to 1."""

    kernel: Kernel
    bad: float = 0.0
    """Of hosts that take a livepatch out again in its watch, and quarantine it."""
    silent: float = 0.0
    """Of hosts that are never heard of again once they were offered a livepatch."""
    watched: int = 1
    """Check-ins for which a host watches what it loaded."""


@dataclass(slots=True, kw_only=True)
class SimulatedHost:
    """One host. It does at once what an offer says, and tells of it at its next check-in."""

    name: str
    secret: str
    behaviour: Behaviour
    bad: bool
    shy: bool
    boot_id: str
    host: str = ""
    """Its id, once it is enrolled."""
    running: int | None = None
    phase: AgentPhase = AgentPhase.IDLE
    quarantined: tuple[Quarantine, ...] = ()
    gone: bool = False
    acknowledged: datetime | None = None
    """Time of the last report that the server said it keeps."""
    _watched: int = 0
    _plain: dict[str, object] = field(default_factory=dict)

    @property
    def credential(self) -> str:
        """What it shows with a check-in."""
        return f"kmend-host.{self.host}.{self.secret}"

    def enrolment(self) -> Enrolment:
        """What it sends first."""
        return Enrolment(name=self.name, secret=self.secret)

    def report(self, at: datetime) -> bytes:
        """What it sees now, as JSON."""
        if not self._plain:
            self._plain = wire.plain(
                HostReport(
                    at=at,
                    kernel=self.behaviour.kernel,
                    boot_id=self.boot_id,
                    phase=self.phase,
                    running=self.running,
                    quarantined=self.quarantined,
                    agent="kmend fleet simulate",
                )
            )
        return json.dumps({**self._plain, "at": at.isoformat()}, separators=(",", ":")).encode()

    def hears(self, offer: Offer, *, reported: datetime) -> None:
        """The report of that time is kept, and this is what the server wants."""
        self.acknowledged = reported
        if self.phase == AgentPhase.SOAKING:
            self._watch(reported)
        if offer.action == OfferAction.STAY or offer.build_id != self.behaviour.kernel.build_id:
            return
        if offer.action == OfferAction.APPLY and self.shy:
            self.gone = True
            return
        self.running = None if offer.action == OfferAction.TAKE_OUT else offer.number
        self.phase = AgentPhase.IDLE if self.running is None else AgentPhase.SOAKING
        self._watched = 0
        self._plain = {}

    def _watch(self, at: datetime) -> None:
        self._watched += 1
        self._plain = {}
        if self.bad and self.running is not None:
            reason = "the kernel log shows trouble (simulated)"
            build_id = self.behaviour.kernel.build_id
            self.quarantined += (Quarantine(build_id=build_id, number=self.running, reason=reason, since=at),)
            self.running, self.phase = None, AgentPhase.IDLE
        elif self._watched >= self.behaviour.watched:
            self.phase = AgentPhase.APPLIED


def make_hosts(count: int, behaviour: Behaviour, *, seed: int) -> Sequence[SimulatedHost]:
    """That many hosts; the same seed makes the same ones."""
    chance = random.Random(seed)  # noqa: S311 - hosts that are not real have no secrets to keep
    return [
        SimulatedHost(
            name=f"simulated-{seed}-{number}",
            secret=f"{chance.getrandbits(256):064x}",
            behaviour=behaviour,
            bad=chance.random() < behaviour.bad,
            shy=chance.random() < behaviour.silent,
            boot_id=f"{chance.getrandbits(_ID_BITS):032x}",
        )
        for number in range(count)
    ]
