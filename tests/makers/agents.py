"""Simulated agents: they report to the server's core and do what they are offered, in a time of their own."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

from kmend.fleet.store.check_in import check_in
from kmend.fleet.store.health import Hearing
from kmend.fleet.store.hosts import add_host
from kmend.model.fleet import Failure, OfferAction
from kmend.model.host import AgentPhase, Quarantine
from makers.fleet import make_host, make_report
from makers.nouns import NOW

SILENCE = timedelta(minutes=15)


@dataclass
class SimulatedAgent:
    """One host. ``takes`` says what comes of loading a livepatch: well, warns, fails, dies, vanishes."""

    id: str
    report: object
    takes: str = "well"
    gone: bool = False
    offers: list = field(default_factory=list)

    @property
    def loading(self):
        """Whether it is loading or watching."""
        return self.report.phase == AgentPhase.SOAKING

    def follow(self, offer, now):
        """Do what was offered."""
        self.offers.append(offer)
        if offer.action == OfferAction.STAY:
            if self.loading:
                self._end_of_watching(now)
            return
        if offer.action == OfferAction.TAKE_OUT:
            self.report = replace(self.report, running=None, phase=AgentPhase.IDLE)
            return
        self.report = replace(self.report, running=offer.number, phase=AgentPhase.SOAKING)
        if self.takes == "fails":
            failure = Failure(build_id=self.report.kernel.build_id, number=offer.number, reason="stalled", at=now)
            self.report = replace(self.report, running=None, phase=AgentPhase.IDLE, failure=failure)
        if self.takes == "vanishes":
            self.gone = True

    def _end_of_watching(self, now):
        number = self.report.running
        if self.takes == "well":
            self.report = replace(self.report, phase=AgentPhase.APPLIED)
            return
        held = Quarantine(build_id=self.report.kernel.build_id, number=number, reason="WARN", since=now)
        self.report = replace(self.report, running=None, phase=AgentPhase.IDLE, quarantined=(held,))
        if self.takes == "dies":
            self.report = replace(self.report, boot_id="after", unexpected_reboot=True)


class SimulatedFleet:
    """Agents that check in one after the other, every five minutes of simulated time."""

    def __init__(self, database, *, hosts, takes="well", labels=None, kernels=None):
        self.database = database
        self.now = NOW
        self.agents = []
        for number in range(hosts):
            name = f"host-{number:03}"
            report = make_report(**({"kernel": kernels[number % len(kernels)]} if kernels else {}))
            self.agents.append(SimulatedAgent(id=name, report=report, takes=takes))
            with database.writing() as connection:
                host = make_host(name, labels=labels(number) if labels else {})
                add_host(connection, host, credential=name, token_id="")

    def turn(self):
        """Every agent checks in once."""
        self.now += timedelta(minutes=5)
        for agent in self.agents:
            if not agent.gone:
                self.check_in(agent)

    def check_in(self, agent):
        """One agent checks in and does what it is offered."""
        with self.database.writing() as connection:
            offer = check_in(connection, agent.id, agent.report, Hearing(now=self.now, silence=SILENCE))
        agent.follow(offer, self.now)
        return offer

    def running(self, number):
        """Ids of the hosts that run a number."""
        return {agent.id for agent in self.agents if agent.report.running == number}

    def were_offered(self, number):
        """Ids of the hosts that were ever asked to load a number."""
        return {
            agent.id
            for agent in self.agents
            if any(offer.action == OfferAction.APPLY and offer.number == number for offer in agent.offers)
        }
