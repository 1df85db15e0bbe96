"""A host reports, and is told what it should run: one transaction, so what was acknowledged is on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import sqlalchemy as sa

from kmend.fleet.observe import Observation, observe
from kmend.fleet.rollout import decide, stage_after
from kmend.fleet.store.health import Hearing, count_in_flight, judge_now
from kmend.fleet.store.hosts import find_host, save_report
from kmend.fleet.store.log import add_event
from kmend.fleet.store.rollouts import find_rollout, rollouts_for, set_stage, stages_of
from kmend.fleet.store.things import blocks_for, find_channel
from kmend.model.fleet import Block, Channel, EventKind, Host, HostReport, Offer, OfferAction
from kmend.model.rollout import IN_FLIGHT, Rollout, RolloutState, Situation, Stage

JUDGE_EVERY = timedelta(seconds=2)
_TROUBLES = {
    EventKind.FAILED: "failed",
    EventKind.QUARANTINED: "quarantined",
    EventKind.REBOOTED: "rebooted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """All that a decision about one host is made from."""

    host: Host
    report: HostReport
    channel: Channel
    blocks: Sequence[Block]
    stages: dict[str, Stage]
    hearing: Hearing

    def offer(self, rollouts: Sequence[Rollout]) -> Offer:
        """The decision."""
        situations = [
            Situation(rollout=one, health=one.health, stage=self.stages.get(one.id, Stage.WAITING))
            for one in rollouts
        ]
        return decide(
            self.host, self.report, situations, channel=self.channel, blocks=self.blocks, now=self.hearing.now
        )


def check_in(connection: sa.Connection, host_id: str, report: HostReport, hearing: Hearing) -> Offer | None:
    """Keep a report and decide what the host should run; None when there is no such host (any more).

    The counts that the decision needs are at most ``JUDGE_EVERY`` old, and fresh when the report has trouble.
    A host is offered a livepatch only while the rollout is locked, so replicas never offer one place twice.
    """
    host = find_host(connection, host_id, lock=True)
    if host is None:
        return None
    seen = observe(host.report, report)
    troubles = _keep(connection, host, report, seen, hearing)
    rollouts = rollouts_for(connection, channel=host.channel, build_id=report.kernel.build_id)
    stages = _move(connection, host, report, rollouts, hearing)
    rollouts = [
        _fresh(connection, one, hearing, at_once=troubles and one.id in stages)
        for one in sorted(rollouts, key=lambda one: one.id)
    ]
    case = _Case(
        host=host,
        report=report,
        channel=find_channel(connection, host.channel) or Channel(name=host.channel),
        blocks=blocks_for(connection, report.kernel.build_id),
        stages=stages,
        hearing=hearing,
    )
    offer = case.offer(rollouts)
    if offer.action == OfferAction.APPLY and stages.get(offer.rollout) not in IN_FLIGHT:
        return _grant(connection, case, rollouts, offer)
    return offer


def _keep(
    connection: sa.Connection, host: Host, report: HostReport, seen: Sequence[Observation], hearing: Hearing
) -> bool:
    """Write down the report and what it tells; whether that is trouble."""
    troubles = [_TROUBLES[one.kind] for one in seen if one.kind in _TROUBLES]
    save_report(connection, host, report, now=hearing.now, troubles=troubles)
    for one in seen:
        add_event(connection, one.kind, f"{host.name} {one.text}", now=hearing.now, host=host.id)
    return bool(troubles)


def _move(
    connection: sa.Connection, host: Host, report: HostReport, rollouts: Sequence[Rollout], hearing: Hearing
) -> dict[str, Stage]:
    """Keep where the host stands now in each rollout; rollout id → stage."""
    before = stages_of(connection, host.id)
    after = _gone_elsewhere(before, rollouts)
    returned = host.seen is not None and host.seen < hearing.silent_before
    for rollout in rollouts:
        number = next(one.number for one in rollout.plan.livepatches if one.build_id == report.kernel.build_id)
        stage = before.get(rollout.id, Stage.WAITING)
        moved = stage_after(report, number=number, stage=stage)
        # A host that was silent lost its place: others may have taken it.
        after[rollout.id] = Stage.WAITING if returned and moved == Stage.OFFERED else moved
    for rollout_id, stage in after.items():
        if stage != before.get(rollout_id, Stage.WAITING):
            set_stage(connection, rollout_id, host.id, stage=stage, now=hearing.now)
    return after


def _gone_elsewhere(before: dict[str, Stage], rollouts: Sequence[Rollout]) -> dict[str, Stage]:
    """Stages in rollouts that no longer concern the host, which runs another kernel or follows another channel."""
    concerned = {rollout.id for rollout in rollouts}
    return {
        rollout_id: Stage.HELD if stage in IN_FLIGHT else stage
        for rollout_id, stage in before.items()
        if rollout_id not in concerned
    }


def _fresh(connection: sa.Connection, rollout: Rollout, hearing: Hearing, *, at_once: bool) -> Rollout:
    """The rollout, judged anew when that is due."""
    if rollout.state != RolloutState.RUNNING or not (at_once or _due(rollout, hearing)):
        return rollout
    locked = find_rollout(connection, rollout.id, lock=True) or rollout
    if locked.state != RolloutState.RUNNING or not (at_once or _due(locked, hearing)):
        return locked
    return judge_now(connection, locked, hearing)


def _due(rollout: Rollout, hearing: Hearing) -> bool:
    return rollout.judged is None or abs(hearing.now - rollout.judged) >= JUDGE_EVERY


def _grant(connection: sa.Connection, case: _Case, rollouts: Sequence[Rollout], first: Offer) -> Offer:
    """Decide once more with the rollout locked and its places counted; keep the offer when it still holds."""
    now = case.hearing.now
    locked = find_rollout(connection, first.rollout, lock=True)
    if locked is not None and locked.plan.max_concurrent:
        in_flight = count_in_flight(connection, locked.id, case.hearing)
        locked = replace(locked, health=replace(locked.health, in_flight=in_flight))
    offer = case.offer([locked if locked and one.id == locked.id else one for one in rollouts])
    if offer.action != OfferAction.APPLY:
        return offer
    if offer.rollout != first.rollout:
        because = "a rollout changed at this very moment; the next check-in tells"
        return replace(offer, action=OfferAction.STAY, number=case.report.running, because=because, rollout="")
    set_stage(connection, offer.rollout, case.host.id, stage=Stage.OFFERED, now=now, offer=True)
    text = f"{case.host.name} was offered livepatch {offer.number}"
    add_event(connection, EventKind.OFFERED, text, now=now, host=case.host.id, rollout=offer.rollout)
    return offer
