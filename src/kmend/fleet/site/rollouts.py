"""Rollouts: the list, and one with its waves, its hosts and what a person may do to it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import sqlalchemy as sa

from kmend.fleet import acts
from kmend.fleet.acts import UnknownError
from kmend.fleet.api.call import Call, make_cursor
from kmend.fleet.api.rollouts import cursor_after, place
from kmend.fleet.checks import check_words
from kmend.fleet.store.health import count_health
from kmend.fleet.store.log import events
from kmend.fleet.store.rollouts import OPEN, find_rollout, parts, rollouts
from kmend.fleet.store.standing import wave_stages
from kmend.fleet.store.summary import hosts_running
from kmend.kit.errors import InputError
from kmend.model.fleet import Role
from kmend.model.rollout import BackTo, Rollout, RolloutState, Stage

_PAGE = 25
_HOSTS = 50
_EVENTS = 50
_ORDER = (Stage.DONE, Stage.SOAKING, Stage.OFFERED, Stage.WAITING, Stage.HELD, Stage.TROUBLED)
STAGE_WORDS = {
    Stage.DONE: "safe",
    Stage.SOAKING: "soaking",
    Stage.OFFERED: "offered",
    Stage.WAITING: "pending",
    Stage.HELD: "refused",
    Stage.TROUBLED: "troubled",
}
"""How people call the stages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a wave's bar."""

    stage: Stage
    words: str
    hosts: int
    begins: float
    """Percent of the bar."""
    width: float


def waves_of(rollout: Rollout) -> list[dict[str, object]]:
    """Each wave in words, and how it stands."""
    shown: list[dict[str, object]] = []
    for index, wave in enumerate(rollout.plan.waves):
        over = index < rollout.wave or rollout.state == RolloutState.FINISHED
        here, next_ = ("open", "later") if rollout.state.value in OPEN else ("cut short", "never")
        state = "over" if over else here if index == rollout.wave else next_
        who = f"{wave.percent:g}%{f' of {wave.selector}' if wave.selector else ''}"
        shown.append({"who": who, "state": state, "soak": wave.soak})
    return shown


def rollout_list(connection: sa.Connection, call: Call) -> dict[str, object]:
    """A page of rollouts, the newest first."""
    state = call.text("state")
    if state and state not in set(RolloutState):
        raise InputError(f"{state[:30]!r} is no state.", hint=f"One of {', '.join(RolloutState)}.")
    found = rollouts(connection, state=state, before=place(call.cursor()), most=_PAGE + 1)
    return {
        "rollouts": [{"rollout": one, "waves": waves_of(one)} for one in found[:_PAGE]],
        "state": state,
        "states": list(RolloutState),
        "next": cursor_after(found[_PAGE - 1]) if len(found) > _PAGE else "",
    }


def rollout(connection: sa.Connection, call: Call) -> dict[str, object]:
    """One rollout as it is now."""
    found = find_rollout(connection, call.path["rollout"])
    if found is None:
        raise UnknownError(f"There is no rollout {call.path['rollout'][:40]}.", hint="See the list of rollouts.")
    stage = call.text("stage")
    if stage and stage not in set(Stage):
        raise InputError(f"{stage[:30]!r} is no stage.", hint=f"One of {', '.join(Stage)}.")
    cursor = call.cursor()
    hosts = parts(connection, found.id, stage=stage, after=cursor[0] if cursor else "", most=_HOSTS + 1)
    health = count_health(connection, found, call.hearing)
    counted = wave_stages(connection, found)
    waves = [{**wave, "pieces": _pieces(counted.get(index, {}))} for index, wave in enumerate(waves_of(found))]
    return {
        "rollout": replace(found, health=health, running=hosts_running(connection, found.plan.livepatches)),
        "waves": waves,
        "troubles": _troubles(replace(found, health=health)),
        "hosts": hosts[:_HOSTS],
        "next": make_cursor(hosts[_HOSTS - 1].host) if len(hosts) > _HOSTS else "",
        "stage": stage,
        "stages": list(STAGE_WORDS.items()),
        "events": events(connection, rollout=found.id, most=_EVENTS),
        "may": [act for act, states in acts.ACTS.items() if found.state in states] if _may_act(call) else [],
    }


def act_on_rollout(connection: sa.Connection, call: Call, *, act: str, form: dict[str, str]) -> None:
    """Do what a button of a rollout's page says, as the API does it.

    Raises:
        UnknownError: There is no such rollout or act.
        InputError: The form holds what cannot be.
        ConflictError: It does not go with how things stand now.
    """
    name, reason = call.path["rollout"], form.get("reason", "").strip()
    check_words(reason, what="the reason", most=1000, empty=True)
    match act:
        case "pause":
            acts.pause_rollout(connection, name, call.actor, reason=reason)
        case "resume":
            acts.resume_rollout(connection, name, call.actor, reason=reason)
        case "abort":
            acts.abort_rollout(connection, name, call.actor, reason=reason)
        case "rollback":
            acts.roll_back(connection, name, call.actor, back_to=_back_to(form), reason=reason)
        case _:
            raise UnknownError(f"There is no act {act[:30]!r}.")


def _may_act(call: Call) -> bool:
    return call.token is not None and call.token.role in {Role.OPERATOR, Role.ADMIN}


def _back_to(form: dict[str, str]) -> tuple[BackTo, ...]:
    """What the fields ``to-BUILD_ID`` say; an empty one takes the livepatch out."""
    given = {name.removeprefix("to-"): text.strip() for name, text in form.items() if name.startswith("to-")}
    numbers = {build_id: text for build_id, text in given.items() if text}
    for text in numbers.values():
        if not text.isascii() or not text.isdigit() or len(text) > 7:  # noqa: PLR2004 - no number is as long
            raise InputError(f"{text[:30]!r} is no livepatch's number.", hint="Leave it empty to take it out.")
    return tuple(BackTo(build_id=build_id, number=int(text)) for build_id, text in numbers.items())


def _pieces(stages: dict[Stage, int]) -> list[Piece]:
    total = sum(stages.values())
    pieces: list[Piece] = []
    begins = 0.0
    for stage in _ORDER:
        if hosts := stages.get(stage, 0):
            width = 100 * hosts / total
            pieces.append(
                Piece(
                    stage=stage,
                    words=STAGE_WORDS[stage],
                    hosts=hosts,
                    begins=round(begins, 2),
                    width=round(width, 2),
                )
            )
            begins += width
    return pieces


def _troubles(rollout: Rollout) -> list[dict[str, object]]:
    """What stops the rollout when it gets worse among the updated than among those that wait."""
    updated, waiting = asdict(rollout.health.updated), asdict(rollout.health.waiting)
    return [
        {"kind": kind, "updated": updated[kind], "waiting": waiting[kind], "limit": limit}
        for kind, limit in asdict(rollout.plan.limits).items()
    ]
