"""Hosts report, and are told what they should run: one transaction, so what was acknowledged is on the disk.

Many hosts share a transaction: they wait for the disk once, and what is the same for all of them is read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import sqlalchemy as sa

from kmend.fleet.observe import observe
from kmend.fleet.rollout import decide, stage_after
from kmend.fleet.store.health import Hearing, count_in_flight, judge_now
from kmend.fleet.store.hosts import ReportWriter, lock_hosts
from kmend.fleet.store.listening import listen
from kmend.fleet.store.log import add_event
from kmend.fleet.store.rollouts import find_rollout, rollouts_for, set_stage, stages_of
from kmend.fleet.store.things import blocks_for, find_channel
from kmend.fleet.store.webhooks import add_notice
from kmend.model.fleet import Block, Channel, EventKind, Host, HostReport, Offer, OfferAction
from kmend.model.rollout import IN_FLIGHT, Rollout, RolloutState, Situation, Stage
from kmend.model.webhook import Happening

JUDGE_AT_LATEST = timedelta(seconds=30)
"""Rollouts are judged beside the check-ins (kmend.fleet.judging); when nobody did for so long, a check-in does."""
_TROUBLES = {
    EventKind.FAILED: "failed",
    EventKind.QUARANTINED: "quarantined",
    EventKind.REBOOTED: "rebooted",
}

_UNTOUCHED = {Stage.WAITING, Stage.HELD}


@dataclass(slots=True, kw_only=True)
class _Matter:
    """What concerns all hosts of one channel with one kernel, as this transaction knows it."""

    channel: Channel
    blocks: Sequence[Block]
    rollouts: list[Rollout]


def check_in(connection: sa.Connection, host_id: str, report: HostReport, hearing: Hearing) -> Offer | None:
    """What one host should run; None when there is no such host (any more). See `check_in_many`."""
    kept = lock_hosts(connection, [host_id])
    if host_id not in kept:
        return None
    return check_in_many(connection, [(kept[host_id].host, report)], hearing)[0]


def check_in_many(
    connection: sa.Connection, arrivals: Sequence[tuple[Host, HostReport]], hearing: Hearing
) -> list[Offer]:
    """Keep reports and decide what the hosts should run, one after the other.

    The counts that a decision needs are some seconds old, at most ``JUDGE_AT_LATEST``. When a host that was
    offered a livepatch reports trouble, nobody is offered it before the rollout was counted and judged anew.
    A host is offered a livepatch only while the rollout is locked, so replicas never offer one place twice.

    Args:
        connection: A transaction in which the hosts are locked; each host comes once.
        arrivals: Hosts as they were, and what they report.
        hearing: Now, and how long hosts may be silent.
    """
    round_ = _Round(connection, listen(connection, hearing))
    stages = stages_of(connection, [host.id for host, _ in arrivals])
    offers = [round_.take(host, report, stages[host.id]) for host, report in arrivals]
    round_.end()
    return offers


class _Round:
    """One transaction's worth of check-ins."""

    def __init__(self, connection: sa.Connection, hearing: Hearing) -> None:
        self.connection = connection
        self.hearing = hearing
        self.writer = ReportWriter(connection)
        self._matters: dict[tuple[str, str], _Matter] = {}
        self._suspects: set[str] = set()
        """Rollouts whose hosts reported trouble since they were judged."""

    def take(self, host: Host, report: HostReport, before: dict[str, Stage]) -> Offer:
        """Keep one report and decide."""
        if self._keep(host, report):
            self._suspects |= {rollout for rollout, stage in before.items() if stage not in _UNTOUCHED}
        matter = self._matter(host.channel, report.kernel.build_id)
        stages = self._move(host, report, matter.rollouts, before)
        matter.rollouts = [self._fresh(one) if self._due(one) else one for one in matter.rollouts]
        offer = self._decide(host, report, matter, stages)
        if offer.action == OfferAction.APPLY and stages.get(offer.rollout) not in IN_FLIGHT:
            return self._grant(host, report, matter, stages, offer)
        return offer

    def end(self) -> None:
        """Write what is left to write, and judge the rollouts that are still suspect."""
        self.writer.flush()
        for rollout_id in sorted(self._suspects):
            rollout = find_rollout(self.connection, rollout_id)
            if rollout is not None:
                self._fresh(rollout)

    def _keep(self, host: Host, report: HostReport) -> bool:
        """Write down the report and what it tells; whether that is trouble."""
        seen = observe(host.report, report)
        troubles = [_TROUBLES[one.kind] for one in seen if one.kind in _TROUBLES]
        self.writer.add(host, report, now=self.hearing.now, troubles=troubles)
        for one in seen:
            text = f"{host.name} {one.text}"
            add_event(self.connection, one.kind, text, now=self.hearing.now, host=host.id)
            if one.kind == EventKind.QUARANTINED:
                add_notice(self.connection, Happening.QUARANTINED, text, now=self.hearing.now, host=host.id)
        return bool(troubles)

    def _matter(self, channel: str, build_id: str) -> _Matter:
        known = self._matters.get((channel, build_id))
        if known is None:
            rollouts = rollouts_for(self.connection, channel=channel, build_id=build_id)
            known = self._matters[channel, build_id] = _Matter(
                channel=find_channel(self.connection, channel) or Channel(name=channel),
                blocks=blocks_for(self.connection, build_id),
                rollouts=sorted(rollouts, key=lambda one: one.id),  # always locked in this order
            )
        return known

    def _move(
        self, host: Host, report: HostReport, rollouts: Sequence[Rollout], before: dict[str, Stage]
    ) -> dict[str, Stage]:
        """Keep where the host stands now in each rollout; rollout id → stage."""
        after = _gone_elsewhere(before, rollouts)
        returned = host.seen is not None and host.seen < self.hearing.silent_before
        for rollout in rollouts:
            number = _number(rollout, report.kernel.build_id)
            moved = stage_after(report, number=number, stage=before.get(rollout.id, Stage.WAITING))
            # A host that was silent lost its place: others may have taken it.
            after[rollout.id] = Stage.WAITING if returned and moved == Stage.OFFERED else moved
        for rollout_id, stage in after.items():
            if stage != before.get(rollout_id, Stage.WAITING):
                set_stage(self.connection, rollout_id, host.id, stage=stage, now=self.hearing.now)
        return after

    def _fresh(self, rollout: Rollout) -> Rollout:
        """The rollout, locked, and judged anew unless somebody else just did."""
        locked = find_rollout(self.connection, rollout.id, lock=True) or rollout
        if locked.state != RolloutState.RUNNING or not self._due(locked):
            return locked
        self._suspects.discard(rollout.id)
        self.writer.flush()  # what was reported in this transaction counts
        return judge_now(self.connection, locked, self.hearing)

    def _due(self, rollout: Rollout) -> bool:
        """Whether a rollout has to be judged before anybody is offered its livepatch."""
        if rollout.state != RolloutState.RUNNING:
            return False
        late = rollout.judged is None or abs(self.hearing.now - rollout.judged) >= JUDGE_AT_LATEST
        return late or rollout.id in self._suspects

    def _decide(self, host: Host, report: HostReport, matter: _Matter, stages: dict[str, Stage]) -> Offer:
        situations = [
            Situation(rollout=one, health=one.health, stage=stages.get(one.id, Stage.WAITING))
            for one in matter.rollouts
        ]
        return decide(host, report, situations, channel=matter.channel, blocks=matter.blocks, now=self.hearing.now)

    def _grant(
        self, host: Host, report: HostReport, matter: _Matter, stages: dict[str, Stage], first: Offer
    ) -> Offer:
        """Decide once more with the rollout locked and its places counted; keep the offer when it still holds."""
        now = self.hearing.now
        locked = find_rollout(self.connection, first.rollout, lock=True)
        if locked is not None and locked.plan.max_concurrent:
            self.writer.flush()
            in_flight = count_in_flight(self.connection, locked.id, self.hearing)
            locked = replace(locked, health=replace(locked.health, in_flight=in_flight))
        matter.rollouts = [locked if locked and one.id == locked.id else one for one in matter.rollouts]
        offer = self._decide(host, report, matter, stages)
        if offer.action != OfferAction.APPLY:
            return offer
        if offer.rollout != first.rollout:
            because = "a rollout changed at this very moment; the next check-in tells"
            return replace(offer, action=OfferAction.STAY, number=report.running, because=because, rollout="")
        set_stage(self.connection, offer.rollout, host.id, stage=Stage.OFFERED, now=now, offer=True)
        text = f"{host.name} was offered livepatch {offer.number}"
        add_event(self.connection, EventKind.OFFERED, text, now=now, host=host.id, rollout=offer.rollout)
        return offer


def _number(rollout: Rollout, build_id: str) -> int:
    return next(one.number for one in rollout.plan.livepatches if one.build_id == build_id)


def _gone_elsewhere(before: dict[str, Stage], rollouts: Sequence[Rollout]) -> dict[str, Stage]:
    """Stages in rollouts that no longer concern the host, which runs another kernel or follows another channel."""
    concerned = {rollout.id for rollout in rollouts}
    return {
        rollout_id: Stage.HELD if stage in IN_FLIGHT else stage
        for rollout_id, stage in before.items()
        if rollout_id not in concerned
    }
