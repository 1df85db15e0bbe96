"""What a gate answers."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from kmend.model.exposure import Evidence


class State(StrEnum):
    """How a gate stands."""

    OPEN = "open"
    UNKNOWN = "unknown"
    SHUT = "shut"
    """Something was set up that keeps the container out; it could be set up otherwise."""
    ABSENT = "absent"
    """There is nothing behind it: the code is not there, nor what it works on."""


_ORDER = (State.OPEN, State.UNKNOWN, State.SHUT, State.ABSENT)


class Answer(NamedTuple):
    """A gate's state for one container."""

    state: State
    gate: str
    """Its id."""
    evidence: tuple[Evidence, ...]


def say(state: State, gate: str, source: str, value: str) -> Answer:
    """An answer with one piece of evidence."""
    return Answer(state, gate, (Evidence(source=source, value=value),))


LOADS_ITSELF = "CAP_SYS_MODULE"
"""Source of the evidence that a container needs nobody to load a module for it."""


def every(answers: Iterable[Answer]) -> Answer:
    """All have to be open: one that is shut says which; the evidence is that one's, or of all."""
    found = list(answers)
    worst = max(found, key=lambda one: _ORDER.index(one.state))
    if worst.state in {State.SHUT, State.ABSENT}:
        return worst
    gate = worst.gate if worst.state is State.UNKNOWN else ""
    return Answer(worst.state, gate, tuple(dict.fromkeys(piece for one in found for piece in one.evidence)))


def any_of(answers: Iterable[Answer]) -> Answer:
    """One has to be open: the best of them."""
    return min(answers, key=lambda one: _ORDER.index(one.state))
