"""What people do to the fleet. Each act is one transaction of the caller's, with its record in the audit log."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from kmend.fleet.checks import check_plan
from kmend.fleet.rollout import cuts_for
from kmend.fleet.store.log import add_audit, add_event
from kmend.fleet.store.rollouts import add_rollout, candidates, find_rollout, open_rollout_for, save_rollout
from kmend.fleet.store.things import find_channel, save_block, save_channel
from kmend.fleet.store.webhooks import add_notice
from kmend.kit.errors import BusyError, InputError
from kmend.model import wire
from kmend.model.fleet import Block, Channel, EventKind
from kmend.model.rollout import BackTo, Rollout, RolloutPlan, RolloutState
from kmend.model.webhook import Happening


class UnknownError(InputError):
    """What was asked for is not there."""


class ConflictError(BusyError):
    """What was asked for does not go with how things stand now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts, and when."""

    name: str
    now: datetime


_MAY_PAUSE = {RolloutState.RUNNING}
_MAY_RESUME = {RolloutState.PAUSED, RolloutState.STOPPED}
_MAY_ABORT = {RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.STOPPED}
_MAY_ROLL_BACK = {*RolloutState} - {RolloutState.ROLLED_BACK}
ACTS = {"pause": _MAY_PAUSE, "resume": _MAY_RESUME, "abort": _MAY_ABORT, "rollback": _MAY_ROLL_BACK}
"""What can be done to a rollout, and in which states."""
_TOLD_AS = {
    "create": Happening.STARTED,
    "pause": Happening.PAUSED,
    "resume": Happening.RESUMED,
    "abort": Happening.ABORTED,
    "rollback": Happening.ROLLED_BACK,
}


def create_rollout(connection: sa.Connection, plan: RolloutPlan, actor: Actor) -> Rollout:
    """Begin a rollout.

    Raises:
        InputError: The plan cannot be.
        UnknownError: There is no such channel.
        ConflictError: It names a kernel twice, or another rollout for one of the kernels is not over.
    """
    check_plan(plan)
    # The lock keeps a second rollout for the same kernel from being made at the same moment.
    if find_channel(connection, plan.channel, lock=True) is None:
        raise UnknownError(f"There is no channel {plan.channel}.")
    kernels = [target.build_id for target in plan.livepatches]
    if len(set(kernels)) != len(kernels):
        raise ConflictError("The rollout names a kernel twice.", hint="Give one livepatch for each build id.")
    if other := open_rollout_for(connection, channel=plan.channel, build_ids=kernels):
        raise ConflictError(
            f"Rollout “{other.plan.name}” ({other.id}) is {other.state} for the same kernel and channel.",
            hint="Abort it, roll it back or let it finish first.",
        )
    rollout = Rollout(
        id=f"r{secrets.token_hex(6)}",
        plan=plan,
        cuts=cuts_for(plan.waves, candidates(connection, plan)),
        state=RolloutState.RUNNING,
        reason=f"begun by {actor.name}",
        wave=0,
        wave_opened=actor.now,
        created=actor.now,
        counted_from=actor.now,
    )
    add_rollout(connection, rollout)
    _record(connection, rollout, "create", actor, detail=wire.dump(plan))
    return rollout


def pause_rollout(connection: sa.Connection, rollout_id: str, actor: Actor, *, reason: str = "") -> Rollout:
    """Offer nothing more until it is resumed.

    Raises:
        UnknownError: There is no such rollout.
        ConflictError: It is not running.
    """
    return _change(
        connection, rollout_id, actor, act="pause", may=_MAY_PAUSE, reason=reason, to=_to_state("paused")
    )


def resume_rollout(connection: sa.Connection, rollout_id: str, actor: Actor, *, reason: str = "") -> Rollout:
    """Go on. After a stop this says that somebody looked: troubles count anew from now.

    Raises:
        UnknownError: There is no such rollout.
        ConflictError: It is neither paused nor stopped.
    """

    def resumed(rollout: Rollout) -> Rollout:
        stopped = rollout.state == RolloutState.STOPPED
        counted_from = actor.now if stopped else rollout.counted_from
        return replace(rollout, state=RolloutState.RUNNING, counted_from=counted_from, judged=None)

    return _change(connection, rollout_id, actor, act="resume", may=_MAY_RESUME, reason=reason, to=resumed)


def abort_rollout(connection: sa.Connection, rollout_id: str, actor: Actor, *, reason: str = "") -> Rollout:
    """End it for good; hosts that run the livepatch keep it.

    Raises:
        UnknownError: There is no such rollout.
        ConflictError: It is over already.
    """
    return _change(
        connection, rollout_id, actor, act="abort", may=_MAY_ABORT, reason=reason, to=_to_state("aborted")
    )


def roll_back(
    connection: sa.Connection,
    rollout_id: str,
    actor: Actor,
    *,
    back_to: Sequence[BackTo] = (),
    reason: str = "",
) -> Rollout:
    """Ask every host that runs its livepatch to go back, and block the number in the whole fleet.

    Args:
        connection: The transaction.
        rollout_id: Which one.
        actor: Who asks.
        back_to: A lower number for a kernel; where it names none, the livepatch is taken out.
        reason: Why.

    Raises:
        UnknownError: There is no such rollout.
        ConflictError: It was rolled back already, or ``back_to`` is no way back.
    """

    def back(rollout: Rollout) -> Rollout:
        _check_back_to(rollout, tuple(back_to))
        return replace(rollout, state=RolloutState.ROLLED_BACK, back_to=tuple(back_to))

    rollout = _change(connection, rollout_id, actor, act="rollback", may=_MAY_ROLL_BACK, reason=reason, to=back)
    for target in rollout.plan.livepatches:
        why = f"rollout “{rollout.plan.name}” was rolled back{f': {reason}' if reason else ''}"
        block = Block(build_id=target.build_id, number=target.number, reason=why, since=actor.now)
        block_livepatch(connection, block, actor)
    return rollout


def block_livepatch(connection: sa.Connection, block: Block, actor: Actor) -> None:
    """Offer a livepatch to no host any more."""
    save_block(connection, block)
    subject = f"{block.build_id}/{block.number}"
    add_audit(connection, "block", subject, actor=actor.name, now=actor.now, detail=block.reason)
    text = f"livepatch {block.number} for {block.build_id[:12]} is blocked: {block.reason}"
    add_event(connection, EventKind.BLOCKED, text, now=actor.now)


def change_channel(connection: sa.Connection, channel: Channel, actor: Actor) -> None:
    """Make a channel, pause it or go on with it."""
    save_channel(connection, channel)
    state = f"paused: {channel.reason}" if channel.paused else "open"
    add_audit(connection, "channel", channel.name, actor=actor.name, now=actor.now, detail=state)
    add_event(connection, EventKind.CHANNEL, f"channel {channel.name} is {state}", now=actor.now)


def _check_back_to(rollout: Rollout, back_to: tuple[BackTo, ...]) -> None:
    """Check what a rollback goes back to.

    Raises:
        ConflictError: It names a kernel that the rollout does not have, or does not go back.
    """
    targets = {target.build_id: target.number for target in rollout.plan.livepatches}
    for one in back_to:
        number = targets.get(one.build_id)
        if number is None:
            raise ConflictError(f"The rollout has no livepatch for a kernel {one.build_id!r}.")
        if one.number is not None and not 1 <= one.number < number:
            raise ConflictError(
                f"Livepatch {one.number} is not lower than {number}, so it is no way back.",
                hint="Give a lower number, or none to take the livepatch out.",
            )


def _to_state(name: str) -> Callable[[Rollout], Rollout]:
    return lambda rollout: replace(rollout, state=RolloutState(name))


def _change(
    connection: sa.Connection,
    rollout_id: str,
    actor: Actor,
    *,
    act: str,
    may: set[RolloutState],
    reason: str,
    to: Callable[[Rollout], Rollout],
) -> Rollout:
    rollout = find_rollout(connection, rollout_id, lock=True)
    if rollout is None:
        raise UnknownError(f"There is no rollout {rollout_id}.")
    if rollout.state not in may:
        raise ConflictError(f"Rollout “{rollout.plan.name}” is {rollout.state}: {act} is not possible.")
    because = f"{act} by {actor.name}{f': {reason}' if reason else ''}"
    changed = replace(to(rollout), reason=because)
    save_rollout(connection, changed)
    _record(connection, changed, act, actor, detail=reason)
    return changed


def _record(connection: sa.Connection, rollout: Rollout, act: str, actor: Actor, *, detail: str) -> None:
    add_audit(connection, f"rollout-{act}", rollout.id, actor=actor.name, now=actor.now, detail=detail)
    text = f"rollout “{rollout.plan.name}” is {rollout.state}: {rollout.reason}"
    add_event(connection, EventKind.ROLLOUT, text, now=actor.now, rollout=rollout.id)
    add_notice(connection, _TOLD_AS[act], text, now=actor.now, rollout=rollout.id)
