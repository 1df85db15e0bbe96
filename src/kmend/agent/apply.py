"""Changing the running kernel: load, wait, watch, revert, unload. The only door is a VerifiedLivepatch."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from kmend.agent.config import Paths, called
from kmend.agent.settings import Settings
from kmend.agent.soak import LinuxSurroundings, Surroundings, begin
from kmend.agent.state import BY_HAND, mark_of, quarantine, released, save_state
from kmend.kit.errors import KmendError, MachineError, TrustError
from kmend.linux.kernel import running_kernel
from kmend.linux.kernel_log import LogLine, read_kernel_log
from kmend.linux.livepatch import PREFIX, disable, livepatch_named, loaded_livepatches
from kmend.linux.modules import KernelLoader, Loader, ModuleError, loaded_modules
from kmend.linux.tasks import blocking_tasks
from kmend.model.host import AgentPhase, AgentState, BlockingTask, Stall, Watch
from kmend.model.livepatch import Livepatch
from kmend.trust.proof import VerifiedLivepatch
from kmend.trust.refusal import Refusal

log = logging.getLogger(__name__)

_POLL = 0.05
_LOG_LINES = 12
_NAMED = 3


class Clock(Protocol):
    """Time, so that tests need none of it."""

    def now(self) -> datetime:
        """The moment, with a time zone."""

    def monotonic(self) -> float:
        """Seconds that only rise."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class WallClock:
    """Real time."""

    def now(self) -> datetime:
        """UTC."""
        return datetime.now(tz=UTC)

    def monotonic(self) -> float:
        """Since boot or so."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine under the agent's hands, and how patient to be; seconds."""

    root: Path = Path("/")
    loader: Loader = field(default_factory=KernelLoader)
    clock: Clock = field(default_factory=WallClock)
    settings: Settings = field(default_factory=Settings)
    transition_timeout: float = 60
    soak: float = 15 * 60
    patient: bool = False
    """Whether a stalled transition is left alone for a while; else it is tried again at once."""
    around: Surroundings = field(default_factory=LinuxSurroundings)
    meanwhile: Callable[[Host], None] = lambda _: None
    """Called again and again while a livepatch is watched, when no lock is held."""

    @property
    def paths(self) -> Paths:
        """Where the agent keeps things."""
        return Paths(root=self.root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What loading did; the livepatch is in effect, and the watch begins."""

    state: AgentState
    transition_ms: float


def apply(verified: VerifiedLivepatch, host: Host, state: AgentState) -> Loaded:
    """Load a verified livepatch; on any doubt the kernel is put back as it was.

    Raises:
        TrustError: It was built for another kernel.
        MachineError: It cannot be loaded, or its transition did not end; it is out again.
    """
    livepatch = verified.livepatch
    _check_kernel(livepatch, host)
    watch = _begin_watch(host)
    remove_replaced(host, keep="")  # what a revert that was killed has left would be in the way
    fresh = replace(released(state, mark_of(livepatch)), watch=watch)
    loading = note(host, fresh, AgentPhase.LOADING, livepatch=livepatch)
    begun = host.clock.monotonic()
    try:
        host.loader.load(livepatch.module, verified.content)
    except ModuleError as error:
        save_state(host.paths, replace(state, note=error.message, changed=host.clock.now()))
        raise _explained(error, read_kernel_log(host.root, after=watch.log_mark)) from error
    if not _wait(host, lambda: settled(livepatch.module, host)):
        raise _stalled(host, loading, state.livepatch)
    took = (host.clock.monotonic() - begun) * 1000
    return Loaded(state=begin_soak(host, loading), transition_ms=round(took, 1))


def begin_soak(host: Host, state: AgentState) -> AgentState:
    """Write down that the watch begins now; how the host was before stays."""
    watch = state.watch or _begin_watch(host)
    fresh = replace(state, watch=replace(watch, began=host.clock.monotonic()), stalled=None)
    return note(host, fresh, AgentPhase.SOAKING, livepatch=state.livepatch)


def end_soak(host: Host, state: AgentState) -> tuple[AgentState, tuple[str, ...]]:
    """The livepatch stays: what it replaced is removed; returns the new state and those names."""
    gone = remove_replaced(host, keep=state.livepatch.module if state.livepatch else "")
    return note(host, state, AgentPhase.APPLIED, livepatch=state.livepatch), gone


def unload(host: Host, state: AgentState, *, hold: bool) -> tuple[AgentState, tuple[str, ...]]:
    """Take kmend's livepatches out of the kernel; returns the new state and their names.

    Args:
        host: The machine.
        state: What is remembered.
        hold: Hold what is taken out back from now on, so that the next update does not load it again.

    Raises:
        MachineError: The kernel still uses it; nothing is forced.
    """
    leaving = note(host, state, AgentPhase.UNLOADING, livepatch=state.livepatch)
    build_id = running_kernel(host.root).kernel.build_id
    ours = [livepatch for livepatch in loaded_livepatches(host.root) if livepatch.ours]
    for livepatch in ours:
        _take_out(host, livepatch.name)
        if hold and livepatch.number is not None:
            mark = (build_id, livepatch.number)
            leaving = quarantine(leaving, mark, reason=BY_HAND, now=host.clock.now())
    gone = {livepatch.name for livepatch in ours} | set(remove_replaced(host, keep=""))
    return note(host, leaving, AgentPhase.IDLE, livepatch=None), tuple(sorted(gone))


def finish_interrupted(host: Host, state: AgentState) -> AgentState:
    """Finish what a killed run of this boot left half done, by what the kernel says now.

    A livepatch that is in effect is watched (again) by the caller: the state then says soaking.

    Raises:
        MachineError: A transition neither ends nor can be reverted.
    """
    livepatch = state.livepatch
    if state.phase in {AgentPhase.IDLE, AgentPhase.APPLIED} or livepatch is None:
        return state
    found = livepatch_named(livepatch.module, host.root)
    if state.phase in {AgentPhase.LOADING, AgentPhase.SOAKING} and found and found.enabled:
        if not _wait(host, lambda: settled(livepatch.module, host)):
            raise _stalled(host, state, None)
        return state if state.phase == AgentPhase.SOAKING else begin_soak(host, state)
    if found and state.phase != AgentPhase.LOADING:
        _take_out(host, livepatch.module)
    remove_replaced(host, keep="")
    return note(host, state, AgentPhase.IDLE, livepatch=None)


def remove_replaced(host: Host, *, keep: str) -> tuple[str, ...]:
    """Remove kmend's modules that no livepatch in the kernel uses any more; returns their names.

    An atomic replace leaves the older module loaded and idle (Documentation/livepatch/cumulative-patches.rst).
    """
    in_use = {livepatch.name for livepatch in loaded_livepatches(host.root) if livepatch.enabled}
    idle = [name for name in loaded_modules(host.root) if name.startswith(PREFIX) and name not in in_use | {keep}]
    return tuple(name for name in idle if _remove(host, name))


def _check_kernel(livepatch: Livepatch, host: Host) -> None:
    kernel = running_kernel(host.root).kernel
    if livepatch.kernel.build_id != kernel.build_id:
        raise TrustError(
            f"Livepatch {livepatch.number} was built for build id {livepatch.kernel.build_id}, "
            f"but this kernel's is {kernel.build_id}.",
            reason=Refusal.OTHER_KERNEL,
        )


def note(host: Host, state: AgentState, phase: AgentPhase, *, livepatch: Livepatch | None) -> AgentState:
    """The state in a new phase, written down."""
    watch = state.watch if phase in {AgentPhase.LOADING, AgentPhase.SOAKING} else None
    new = replace(state, phase=phase, livepatch=livepatch, changed=host.clock.now(), note="", watch=watch)
    save_state(host.paths, new)
    return new


def _begin_watch(host: Host) -> Watch:
    now, clock = host.clock.now(), host.clock.monotonic()
    return begin(host.root, host.around, host.settings, now=now, clock=clock)


def _wait(host: Host, done: Callable[[], bool]) -> bool:
    deadline = host.clock.monotonic() + host.transition_timeout
    while not done():
        if host.clock.monotonic() > deadline:
            return False
        host.clock.sleep(_POLL)
    return True


def settled(name: str, host: Host) -> bool:
    """Whether a livepatch is in effect for every task."""
    found = livepatch_named(name, host.root)
    return found is not None and found.enabled and not found.in_transition


def taken_back(
    host: Host, now: AgentState, before: Livepatch | None, *, reason: str, guilty: bool
) -> MachineError:
    """Revert, remember why, and return the error to raise.

    Args:
        host: The machine.
        now: What is remembered; its livepatch is taken out.
        before: The livepatch that was in effect before, which still is when the transition never ended.
        reason: What went wrong.
        guilty: Whether it may have been the livepatch's fault; then it is quarantined.
    """
    livepatch = now.livepatch
    if livepatch is None:
        return MachineError(reason)
    reverting = replace(now, phase=AgentPhase.REVERTING, changed=host.clock.now(), note="", watch=None)
    if guilty:  # before it is taken out: a kill or a panic meanwhile must not forget it
        reverting = quarantine(reverting, mark_of(livepatch), reason=reason, now=host.clock.now())
    _save_if_possible(host, reverting)
    _take_out(host, livepatch.module)
    left = before if before and livepatch_named(before.module, host.root) else None
    phase = AgentPhase.APPLIED if left else AgentPhase.IDLE
    _save_if_possible(host, replace(reverting, phase=phase, livepatch=left, changed=host.clock.now(), note=reason))
    remove_replaced(host, keep=left.module if left else "")
    hint = "It is held back on this host from now on." if guilty else "The next run tries again."
    return MachineError(f"Livepatch {livepatch.number} was taken out again: {reason}.", hint=hint)


def _save_if_possible(host: Host, state: AgentState) -> None:
    """Write the state; a full disk must not keep a livepatch in that causes trouble."""
    try:
        save_state(host.paths, state)
    except MachineError as error:
        log.error("%s The livepatch is taken out all the same.", error.message)  # noqa: TRY400 - for a person


def _take_out(host: Host, name: str) -> None:
    disable(name, host.root)
    if not _wait(host, lambda: not _present(name, host)):
        raise MachineError(
            f"{name} is not out after {host.transition_timeout:g} s: {_blockers(host, enabled=False)[1]}.",
            hint=f"Nothing is forced. Run `{called()} status`, and try again later.",
        )
    if name in loaded_modules(host.root) and not _remove(host, name):
        raise MachineError(f"{name} is disabled, but the kernel still uses the module.")


def _present(name: str, host: Host) -> bool:
    found = livepatch_named(name, host.root)
    return found is not None and (found.enabled or found.in_transition)


def _remove(host: Host, name: str) -> bool:
    """Remove an idle module; the kernel lets go of it a moment after its livepatch has left."""

    def attempt() -> bool:
        try:
            host.loader.remove(name)
        except ModuleError as error:
            if error.code == errno.ENOENT:
                return True
            if error.code in {errno.EAGAIN, errno.EBUSY}:
                return False
            raise
        return True

    return _wait(host, attempt)


def _stalled(host: Host, now: AgentState, before: Livepatch | None) -> MachineError:
    """Revert a transition that does not end, and remember who was in the way."""
    tasks, words = _blockers(host, enabled=True)
    number = now.livepatch.number if now.livepatch else 0
    tries = now.stalled.tries if now.stalled and now.stalled.number == number else 0
    stall = Stall(number=number, tasks=tasks, at=host.clock.now(), tries=tries + 1)
    reason = f"its transition did not end within {host.transition_timeout:g} s: {words}"
    return taken_back(host, replace(now, stalled=stall), before, reason=reason, guilty=False)


def _blockers(host: Host, *, enabled: bool) -> tuple[tuple[BlockingTask, ...], str]:
    """Who keeps a transition from ending, and that in words."""
    tasks = blocking_tasks(host.root, enabled=enabled)
    named = ", ".join(str(task) for task in tasks[:_NAMED])
    more = f" and {len(tasks) - _NAMED} more" if len(tasks) > _NAMED else ""
    return (
        tasks,
        f"waiting for {named}{more}" if named else "no task in /proc is in the way, so perhaps an idle CPU",
    )


def _explained(error: ModuleError, lines: tuple[LogLine, ...]) -> KmendError:
    said = [f"  kernel: {line.text}" for line in lines[-_LOG_LINES:]]
    return ModuleError("\n".join([error.message, *said]), hint=error.hint, code=error.code)
