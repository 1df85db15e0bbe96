"""What a host should run, and because of what; and when a rollout goes on, stops or is finished. Pure.

Nothing here reads a clock, a database or a network: a report, the rollouts and the health of the fleet go in, an
Offer with its reason comes out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kmend.model.fleet import Block, Channel, Host, HostReport, Offer, OfferAction
from kmend.model.labels import parse_selector
from kmend.model.rollout import (
    IN_FLIGHT,
    Health,
    Limits,
    Rollout,
    RolloutState,
    Situation,
    Stage,
    Tally,
    Wave,
)

SHARES = 1 << 32
_OPEN = {RolloutState.RUNNING, RolloutState.FINISHED}
_OVER = {RolloutState.ABORTED, RolloutState.ROLLED_BACK}
_TROUBLES = {
    "failed": "did not load it",
    "quarantined": "quarantined it",
    "rebooted": "rebooted unexpectedly",
    "silent": "fell silent",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Where a rollout should stand now, and because of what."""

    state: RolloutState
    wave: int
    because: str


def share_of(host_id: str) -> int:
    """Where a host falls between 0 and ``SHARES``: by its id alone, so always the same, and evenly spread."""
    return int.from_bytes(hashlib.sha256(host_id.encode()).digest()[:4])


def cuts_for(waves: Sequence[Wave], hosts: Sequence[tuple[int, Mapping[str, str]]]) -> tuple[int, ...]:
    """For each wave the share below which hosts belong to it.

    Args:
        waves: Of the plan.
        hosts: Share and labels of every host that takes part now.

    Returns:
        The percentages as shares; the first wave's is raised, if need be, so that it has one host. A canary
        of 1% in a fleet of 30 would be nobody, and nothing would be tried before the next wave.
    """
    cuts = [round(wave.percent * SHARES / 100) for wave in waves]
    selector = parse_selector(waves[0].selector)
    lowest = min((share for share, labels in hosts if selector.matches(labels)), default=None)
    if lowest is not None:
        cuts[0] = max(cuts[0], lowest + 1)
    return tuple(cuts)


def wave_of(rollout: Rollout, *, share: int, labels: Mapping[str, str]) -> int | None:
    """Index of the wave that a host belongs to; None when it takes no part."""
    plan = rollout.plan
    if not parse_selector(plan.selector).matches(labels):
        return None
    for index, (wave, cut) in enumerate(zip(plan.waves, rollout.cuts, strict=True)):
        if share < cut and parse_selector(wave.selector).matches(labels):
            return index
    return None


def trouble(health: Health, limits: Limits) -> str:
    """Why the hosts that were offered the livepatch do worse than the limits allow; empty when they do not.

    Each kind of trouble counts by itself: its share among the updated less its share among those that wait, in
    percentage points. What troubles everybody alike (a network that is down) is not the livepatch's fault.
    """
    for kind, words in _TROUBLES.items():
        count, rate = _rate(health.updated, kind)
        _, usual = _rate(health.waiting, kind)
        allowed = getattr(limits, kind)
        if count and rate - usual > allowed:
            return (
                f"{count} of {health.updated.hosts} updated hosts {words} ({rate:.1f}%, "
                f"{usual:.1f}% of those that wait, {allowed:g} points are allowed)"
            )
    return ""


def judge(rollout: Rollout, health: Health, *, now: datetime) -> Judgement:
    """Where the rollout should stand now. Only a running one goes on, stops or is finished by itself."""
    same = Judgement(state=rollout.state, wave=rollout.wave, because=rollout.reason)
    if rollout.state != RolloutState.RUNNING:
        return same
    if worse := trouble(health, rollout.plan.limits):
        return Judgement(state=RolloutState.STOPPED, wave=rollout.wave, because=f"stopped by itself: {worse}")
    if not wave_is_over(rollout, health, now=now):
        return same
    waves = len(rollout.plan.waves)
    if rollout.wave + 1 < waves:
        because = f"wave {rollout.wave + 2} of {waves} began: {_well(health.done)}"
        return Judgement(state=RolloutState.RUNNING, wave=rollout.wave + 1, because=because)
    because = f"every wave is done: {_well(health.done)}"
    return Judgement(state=RolloutState.FINISHED, wave=rollout.wave, because=because)


def _well(hosts: int) -> str:
    return (
        f"{hosts} hosts run the livepatch and are well" if hosts != 1 else "1 host runs the livepatch and is well"
    )


def wave_is_over(rollout: Rollout, health: Health, *, now: datetime) -> bool:
    """Whether every host of the open waves has settled, and the last of them long enough ago.

    Until a first host is done, no wave is over: where nothing was tried, nothing was learned.
    """
    if health.pending or not health.done or health.settled is None:
        return False
    soak = timedelta(seconds=rollout.plan.waves[rollout.wave].soak)
    return now - max(rollout.wave_opened, health.settled) >= soak


def decide(
    host: Host,
    report: HostReport,
    situations: Sequence[Situation],
    *,
    channel: Channel,
    blocks: Collection[Block],
    now: datetime,
) -> Offer:
    """What the host should run, and because of what.

    Args:
        host: Channel and labels count, and the share that its id gives.
        report: What its agent saw now.
        situations: The rollouts of its channel.
        channel: The host's.
        blocks: What no host is offered.
        now: The server's time.

    Returns:
        A higher number (apply); what a rollback asks for (go back, take out); else what runs already (stay).
    """
    offer = _decide(host, report, situations, channel=channel, blocks=blocks, now=now)
    blocked = sorted({block.number for block in blocks if block.build_id == report.kernel.build_id})
    return replace(offer, blocked=tuple(blocked))


def stage_after(report: HostReport, *, number: int, stage: Stage) -> Stage:
    """Where a host stands with a rollout's number after a report, when it stood at ``stage`` before."""
    build_id = report.kernel.build_id
    if is_quarantined(report, number):
        return Stage.HELD if stage in {Stage.WAITING, Stage.HELD} else Stage.TROUBLED
    if report.running is not None and report.running >= number:
        return _running_stage(report, stage)
    failure = report.failure
    if stage in IN_FLIGHT and failure and (failure.build_id, failure.number) == (build_id, number):
        return Stage.TROUBLED
    if stage == Stage.SOAKING:
        return Stage.TROUBLED
    if stage in {Stage.WAITING, Stage.HELD}:
        return Stage.HELD if report.held else Stage.WAITING
    return Stage.HELD if stage == Stage.OFFERED and report.held else stage


def is_quarantined(report: HostReport, number: int) -> bool:
    """Whether the host itself holds a number back, for the kernel that it runs."""
    marks = {(known.build_id, known.number) for known in report.quarantined}
    return (report.kernel.build_id, number) in marks


def _running_stage(report: HostReport, stage: Stage) -> Stage:
    """A host that was never offered the number, but runs it, took it elsewhere: it does not count here."""
    if stage in {Stage.WAITING, Stage.HELD}:
        return Stage.WAITING
    return Stage.DONE if report.phase.value == "applied" else Stage.SOAKING


def _decide(
    host: Host,
    report: HostReport,
    situations: Sequence[Situation],
    *,
    channel: Channel,
    blocks: Collection[Block],
    now: datetime,
) -> Offer:
    build_id = report.kernel.build_id
    mine = [(number, one) for one in situations if (number := _number(one.rollout, build_id)) is not None]
    mine.sort(key=lambda pair: (pair[0], pair[1].rollout.created), reverse=True)
    back = _rollback(host, report, mine)
    if back is not None:
        return back
    reason = _held(report, channel)
    if reason:
        return _stay(host, report, because=reason, holds=channel.paused)
    reasons = []
    for number, one in mine:
        reason = _why_not(host, report, one, number=number, blocks=blocks, now=now)
        if not reason:
            because = f"rollout “{one.rollout.plan.name}” brings livepatch {number} to this host"
            return _offer(host, report, OfferAction.APPLY, number=number, because=because, rollout=one.rollout.id)
        reasons.append((reason, one.rollout.id))
    nothing = f"no rollout in channel {host.channel} has a livepatch for {report.kernel.release}"
    because, rollout_id = reasons[0] if reasons else (nothing, "")
    holds = any(one.rollout.state not in _OVER and not _not_higher(report, number) for number, one in mine)
    return _stay(host, report, because=because, rollout=rollout_id, holds=holds)


def _rate(tally: Tally, kind: str) -> tuple[int, float]:
    count: int = getattr(tally, kind)
    return count, 100 * count / tally.hosts if tally.hosts else 0.0


def _number(rollout: Rollout, build_id: str) -> int | None:
    return next((one.number for one in rollout.plan.livepatches if one.build_id == build_id), None)


def _rollback(host: Host, report: HostReport, mine: Sequence[tuple[int, Situation]]) -> Offer | None:
    """What a rollback asks of a host that runs the very number that was rolled back."""
    for number, one in mine:
        rollout = one.rollout
        if rollout.state != RolloutState.ROLLED_BACK or report.running != number:
            continue
        wanted = next((to.number for to in rollout.back_to if to.build_id == report.kernel.build_id), None)
        because = f"rollout “{rollout.plan.name}” was rolled back: {rollout.reason}"
        if wanted is None or is_quarantined(report, wanted):
            return _offer(host, report, OfferAction.TAKE_OUT, number=None, because=because, rollout=rollout.id)
        return _offer(host, report, OfferAction.GO_BACK, number=wanted, because=because, rollout=rollout.id)
    return None


def _held(report: HostReport, channel: Channel) -> str:
    if report.held:
        return f"the host takes nothing now: {report.held}"
    if channel.paused:
        return f"channel {channel.name} is paused{f': {channel.reason}' if channel.reason else ''}"
    return ""


def _why_not(
    host: Host,
    report: HostReport,
    situation: Situation,
    *,
    number: int,
    blocks: Collection[Block],
    now: datetime,
) -> str:
    """Why a rollout does not bring its number to this host now; empty when it does."""
    return (
        _not_higher(report, number)
        or _not_allowed(report, number, blocks)
        or _not_open(situation, now=now)
        or _not_this_host(host, situation)
    )


def _not_higher(report: HostReport, number: int) -> str:
    if report.running is None or report.running < number:
        return ""
    if report.running == number:
        return f"livepatch {number} runs, as it should"
    return f"livepatch {report.running} runs, which is higher than {number}"


def _not_allowed(report: HostReport, number: int, blocks: Collection[Block]) -> str:
    build_id = report.kernel.build_id
    for held in report.quarantined:
        if (held.build_id, held.number) == (build_id, number):
            return f"livepatch {number} is quarantined on this host: {held.reason}"
    for block in blocks:
        if (block.build_id, block.number) == (build_id, number):
            return f"livepatch {number} is blocked in the whole fleet: {block.reason}"
    return ""


def _not_open(situation: Situation, *, now: datetime) -> str:
    rollout = situation.rollout
    judged = judge(rollout, situation.health, now=now)
    if judged.state in _OPEN:
        return ""
    return f"rollout “{rollout.plan.name}” is {judged.state}{f': {judged.because}' if judged.because else ''}"


def _not_this_host(host: Host, situation: Situation) -> str:
    rollout = situation.rollout
    name = f"rollout “{rollout.plan.name}”"
    wave = wave_of(rollout, share=share_of(host.id), labels=host.labels)
    if wave is None:
        return f"{name} has no wave that takes this host"
    if wave > rollout.wave:
        return f"this host is in wave {wave + 1} of {name}, and wave {rollout.wave + 1} is open"
    most = rollout.plan.max_concurrent
    if most and situation.stage not in IN_FLIGHT and situation.health.in_flight >= most:
        return f"{most} of {name} may load or watch at a time, and {situation.health.in_flight} do"
    return ""


def _stay(host: Host, report: HostReport, *, because: str, rollout: str = "", holds: bool = False) -> Offer:
    offer = _offer(host, report, OfferAction.STAY, number=report.running, because=because, rollout=rollout)
    return replace(offer, holds=holds)


def _offer(
    host: Host, report: HostReport, action: OfferAction, *, number: int | None, because: str, rollout: str
) -> Offer:
    return Offer(
        action=action,
        number=number,
        build_id=report.kernel.build_id,
        channel=host.channel,
        because=because,
        rollout=rollout,
    )
