"""What the agent remembers, and what it concludes when it finds an unfinished story."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from kmend.agent.config import Paths
from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic, write_problem
from kmend.model import wire
from kmend.model.host import AgentPhase, AgentState, Quarantine
from kmend.model.livepatch import Livepatch

BY_HAND = "unloaded by hand"
_RISKY = {
    AgentPhase.LOADING: "was being loaded",
    AgentPhase.SOAKING: "was being watched after loading",
    AgentPhase.REVERTING: "was being reverted",
}


def load_state(paths: Paths, *, boot_id: str, now: datetime) -> AgentState:
    """The state as it was written last; a fresh one when there is none yet.

    Raises:
        InputError: The file cannot be read as a state.
    """
    try:
        return wire.load(AgentState, paths.state.read_bytes(), what=str(paths.state))
    except InputError as error:
        error.hint = f"Move {paths.state} away; the quarantines in it are then forgotten."
        raise
    except FileNotFoundError:
        return AgentState(phase=AgentPhase.IDLE, boot_id=boot_id, livepatch=None, quarantined=(), changed=now)


def save_state(paths: Paths, state: AgentState) -> None:
    """Write the state so that it survives a power cut from here on.

    Raises:
        MachineError: It cannot be written, e.g. because the disk is full.
    """
    try:
        write_atomic(paths.state, wire.dump(state), mode=0o600)
    except OSError as error:
        raise write_problem(paths.state, error) from error


def after_reboot(state: AgentState, *, boot_id: str, now: datetime, orderly: str) -> AgentState:
    """The state in this boot. Pure.

    A reboot takes every livepatch out. An unexpected one that came while a livepatch was loading, being watched or
    being reverted may have been its fault: that number is quarantined, so that no host goes down twice for it.

    Args:
        state: As it was written last.
        boot_id: Of this boot.
        now: The moment.
        orderly: The boot that was ended in order, as ``orderly_boot`` knows it.
    """
    if state.boot_id == boot_id:
        return state
    fresh = replace(
        state,
        phase=AgentPhase.IDLE,
        boot_id=boot_id,
        livepatch=None,
        changed=now,
        note="",
        watch=None,
        stalled=None,
    )
    if state.phase not in _RISKY or state.livepatch is None:
        return fresh
    during = f"while livepatch {state.livepatch.number} {_RISKY[state.phase]}"
    if orderly == state.boot_id:
        return replace(fresh, note=f"the host was shut down in order {during}")
    reason = f"the host went down unexpectedly {during}"
    return replace(quarantine(fresh, mark_of(state.livepatch), reason=reason, now=now), note=reason)


def orderly_boot(paths: Paths) -> str:
    """The id of the boot that was last ended in order; empty when none is known."""
    try:
        return paths.orderly.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def note_orderly(paths: Paths, boot_id: str) -> None:
    """Write down that this boot is being ended in order.

    Raises:
        MachineError: It cannot be written.
    """
    try:
        write_atomic(paths.orderly, f"{boot_id}\n")
    except OSError as error:
        raise write_problem(paths.orderly, error) from error


def mark_of(livepatch: Livepatch) -> tuple[str, int]:
    """What a quarantine goes by: build id and number."""
    return livepatch.kernel.build_id, livepatch.number


def quarantine(state: AgentState, mark: tuple[str, int], *, reason: str, now: datetime) -> AgentState:
    """The state with one livepatch quarantined."""
    build_id, number = mark
    new = Quarantine(build_id=build_id, number=number, reason=reason, since=now)
    return replace(state, quarantined=(*released(state, mark).quarantined, new))


def released(state: AgentState, mark: tuple[str, int]) -> AgentState:
    """The state with one livepatch's quarantine lifted."""
    kept = tuple(known for known in state.quarantined if (known.build_id, known.number) != mark)
    return replace(state, quarantined=kept)


def quarantine_of(state: AgentState, livepatch: Livepatch) -> Quarantine | None:
    """The quarantine that holds a livepatch back, if any."""
    mark = mark_of(livepatch)
    return next((known for known in state.quarantined if (known.build_id, known.number) == mark), None)
