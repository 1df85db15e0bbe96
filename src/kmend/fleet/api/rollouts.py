"""Rollouts: begin, look at, pause, resume, abort, roll back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from kmend.fleet import acts
from kmend.fleet.api.call import Call, make_cursor
from kmend.fleet.api.endpoint import CURSOR, LIMIT, Endpoint, Query
from kmend.fleet.api.hosts import joined
from kmend.fleet.checks import check_plan, check_words
from kmend.fleet.published import check_published
from kmend.fleet.store.health import count_health
from kmend.fleet.store.rollouts import find_rollout, parts, rollouts
from kmend.fleet.store.summary import hosts_running
from kmend.fleet.store.things import find_group
from kmend.kit.errors import InputError
from kmend.model.fleet import Role
from kmend.model.protocol import NewRollout, Reason, Rollback, RolloutHostPage, RolloutPage
from kmend.model.rollout import Rollout, RolloutState, Stage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _create(call: Call) -> Rollout:
    asked = call.read(NewRollout)
    plan = asked.plan
    if call.settings.repository is not None:
        check_plan(plan)
        check_published(call.settings.repository, plan)
    with call.database.writing() as connection:
        if asked.group:
            group = find_group(connection, asked.group)
            if group is None:
                raise acts.UnknownError(f"There is no group {asked.group}.")
            plan = replace(plan, selector=joined(group.selector, plan.selector))
        return acts.create_rollout(connection, plan, call.actor)


def _rollouts(call: Call) -> RolloutPage:
    state = call.text("state")
    if state and state not in set(RolloutState):
        raise InputError(f"{state[:30]!r} is no state.", hint=f"One of {', '.join(RolloutState)}.")
    with call.database.reading() as connection:
        found = rollouts(connection, state=state, before=place(call.cursor()), most=call.limit + 1)
    page = tuple(found[: call.limit])
    more = len(found) > call.limit
    return RolloutPage(items=page, next=cursor_after(page[-1]) if more else None)


def _rollout(call: Call) -> Rollout:
    with call.database.reading() as connection:
        found = _known(find_rollout(connection, call.path["rollout"]), call)
        health = count_health(connection, found, call.hearing)
        running = hosts_running(connection, found.plan.livepatches)
    return replace(found, health=health, judged=call.now, running=running)


def _known(found: Rollout | None, call: Call) -> Rollout:
    if found is None:
        raise acts.UnknownError(f"There is no rollout {call.path['rollout']}.")
    return found


def _parts(call: Call) -> RolloutHostPage:
    stage = call.text("stage")
    if stage and stage not in set(Stage):
        raise InputError(f"{stage[:30]!r} is no stage.", hint=f"One of {', '.join(Stage)}.")
    cursor = call.cursor()
    with call.database.reading() as connection:
        rollout = _known(find_rollout(connection, call.path["rollout"]), call)
        after = cursor[0] if cursor else ""
        found = parts(connection, rollout.id, stage=stage, after=after, most=call.limit + 1)
    page = tuple(found[: call.limit])
    return RolloutHostPage(items=page, next=make_cursor(page[-1].host) if len(found) > call.limit else None)


def _act(name: str) -> Callable[[Call], Rollout]:
    does = {"pause": acts.pause_rollout, "resume": acts.resume_rollout, "abort": acts.abort_rollout}[name]

    def act(call: Call) -> Rollout:
        reason = call.read(Reason).reason
        check_words(reason, what="the reason", most=1000, empty=True)
        with call.database.writing() as connection:
            return does(connection, call.path["rollout"], call.actor, reason=reason)

    return act


def _roll_back(call: Call) -> Rollout:
    asked = call.read(Rollback)
    check_words(asked.reason, what="the reason", most=1000, empty=True)
    with call.database.writing() as connection:
        return acts.roll_back(
            connection, call.path["rollout"], call.actor, back_to=asked.back_to, reason=asked.reason
        )


def cursor_after(rollout: Rollout) -> str:
    """The place in the list behind a rollout, for the next page."""
    return make_cursor(str((rollout.created - _EPOCH) // _MICROSECOND), rollout.id)


def place(cursor: list[str]) -> tuple[datetime, str] | None:
    """What a cursor says: when the last rollout of the page before was created, and its id.

    Raises:
        UnknownError: The cursor is of another list.
    """
    if not cursor:
        return None
    if len(cursor) != 2 or not cursor[0].isascii() or not cursor[0].isdigit() or len(cursor[0]) > 17:  # noqa: PLR2004
        raise acts.UnknownError("The cursor is of another list.", hint="Use `next` of the page before.")
    return _EPOCH + int(cursor[0]) * _MICROSECOND, cursor[1]


def _changing(name: str, about: str) -> Endpoint:
    return Endpoint(
        method="POST",
        path=f"/rollouts/{{rollout}}/{name}",
        about=about,
        needs=Role.OPERATOR,
        does=_act(name),
        body=Reason,
        answer=Rollout,
        refuses=(409,),
    )


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/rollouts",
        about="Begin a rollout.",
        needs=Role.OPERATOR,
        does=_create,
        body=NewRollout,
        answer=Rollout,
        status=201,
        refuses=(404, 409),
    ),
    Endpoint(
        method="GET",
        path="/rollouts",
        about="Rollouts, the newest first.",
        needs=Role.VIEWER,
        does=_rollouts,
        answer=RolloutPage,
        query=(Query(name="state", about="Only those in this state."), LIMIT, CURSOR),
    ),
    Endpoint(
        method="GET",
        path="/rollouts/{rollout}",
        about="One rollout with its health as it is now.",
        needs=Role.VIEWER,
        does=_rollout,
        answer=Rollout,
    ),
    Endpoint(
        method="GET",
        path="/rollouts/{rollout}/hosts",
        about="Hosts that were offered the livepatch, or could not take it, with where they stand.",
        needs=Role.VIEWER,
        does=_parts,
        answer=RolloutHostPage,
        query=(Query(name="stage", about="Only those at this stage."), LIMIT, CURSOR),
    ),
    _changing("pause", "Offer nothing more until it is resumed."),
    _changing("resume", "Go on. After a stop, troubles count anew from now."),
    _changing("abort", "End it for good. Hosts that run the livepatch keep it."),
    Endpoint(
        method="POST",
        path="/rollouts/{rollout}/rollback",
        about="Ask hosts that run the livepatch to go back, and block it in the whole fleet.",
        needs=Role.OPERATOR,
        does=_roll_back,
        body=Rollback,
        answer=Rollout,
        refuses=(409,),
    ),
)
