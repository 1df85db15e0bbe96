"""Changing the running kernel: load, wait, watch, revert, unload. The only door is a VerifiedLivepatch."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from kmend.agent.config import Paths
from kmend.agent.settings import Settings
from kmend.agent.state import mark_of, quarantine, released, save_state
from kmend.kit.errors import KmendError, MachineError, TrustError
from kmend.linux.kernel import running_kernel
from kmend.linux.kernel_log import LogLine, newest_record, read_kernel_log, trouble_in
from kmend.linux.livepatch import PREFIX, disable, livepatch_named, loaded_livepatches
from kmend.linux.modules import KernelLoader, Loader, ModuleError, loaded_modules
from kmend.model.host import AgentPhase, AgentState
from kmend.model.livepatch import Livepatch
from kmend.trust.proof import VerifiedLivepatch
from kmend.trust.refusal import Refusal

_POLL = 0.05
_LOG_LINES = 12


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

    @property
    def paths(self) -> Paths:
        """Where the agent keeps things."""
        return Paths(root=self.root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What loading did."""

    state: AgentState
    transition_ms: float
    replaced: tuple[str, ...]
    """Older livepatches of kmend that were taken out of the kernel."""


def apply(verified: VerifiedLivepatch, host: Host, state: AgentState) -> Applied:
    """Load a verified livepatch and watch it; on any doubt the kernel is put back as it was.

    Raises:
        TrustError: It was built for another kernel.
        MachineError: It cannot be loaded, its transition did not end, or the kernel complained; it is out again.
    """
    livepatch = verified.livepatch
    _check_kernel(livepatch, host)
    before = newest_record(host.root)
    loading = _note(host, released(state, mark_of(livepatch)), AgentPhase.LOADING, livepatch=livepatch)
    begin = host.clock.monotonic()
    try:
        host.loader.load(livepatch.module, verified.content)
    except ModuleError as error:
        save_state(host.paths, replace(state, note=error.message, changed=host.clock.now()))
        raise _explained(error, read_kernel_log(host.root, after=before)) from error
    if not _wait(host, lambda: _settled(livepatch.module, host)):
        raise _taken_back(host, loading, state, reason=_stuck(host), guilty=False)
    took = (host.clock.monotonic() - begin) * 1000
    soaking = _note(host, loading, AgentPhase.SOAKING, livepatch=livepatch)
    if trouble := _watch(host, livepatch, after=before):
        raise _taken_back(host, soaking, state, reason=trouble, guilty=True)
    gone = remove_replaced(host, keep=livepatch.module)
    applied = _note(host, soaking, AgentPhase.APPLIED, livepatch=livepatch)
    return Applied(state=applied, transition_ms=round(took, 1), replaced=gone)


def unload(host: Host, state: AgentState, *, hold: bool) -> tuple[AgentState, tuple[str, ...]]:
    """Take kmend's livepatches out of the kernel; returns the new state and their names.

    Args:
        host: The machine.
        state: What is remembered.
        hold: Hold what is taken out back from now on, so that the next update does not load it again.

    Raises:
        MachineError: The kernel still uses it; nothing is forced.
    """
    leaving = _note(host, state, AgentPhase.UNLOADING, livepatch=state.livepatch)
    build_id = running_kernel(host.root).kernel.build_id
    ours = [livepatch for livepatch in loaded_livepatches(host.root) if livepatch.ours]
    for livepatch in ours:
        _take_out(host, livepatch.name)
        if hold and livepatch.number is not None:
            mark = (build_id, livepatch.number)
            leaving = quarantine(leaving, mark, reason="unloaded by hand", now=host.clock.now())
    gone = {livepatch.name for livepatch in ours} | set(remove_replaced(host, keep=""))
    return _note(host, leaving, AgentPhase.IDLE, livepatch=None), tuple(sorted(gone))


def finish_interrupted(host: Host, state: AgentState) -> AgentState:
    """Finish what a killed run of this boot left half done, by what the kernel says now.

    Raises:
        MachineError: A transition neither ends nor can be reverted.
    """
    livepatch = state.livepatch
    if state.phase in {AgentPhase.IDLE, AgentPhase.APPLIED} or livepatch is None:
        return state
    found = livepatch_named(livepatch.module, host.root)
    if state.phase in {AgentPhase.LOADING, AgentPhase.SOAKING} and found and found.enabled:
        if not _wait(host, lambda: _settled(livepatch.module, host)):
            raise _taken_back(host, state, state, reason=_stuck(host), guilty=False)
        remove_replaced(host, keep=livepatch.module)
        return _note(host, state, AgentPhase.APPLIED, livepatch=livepatch)
    if found and state.phase != AgentPhase.LOADING:
        _take_out(host, livepatch.module)
    remove_replaced(host, keep="")
    return _note(host, state, AgentPhase.IDLE, livepatch=None)


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


def _note(host: Host, state: AgentState, phase: AgentPhase, *, livepatch: Livepatch | None) -> AgentState:
    new = replace(state, phase=phase, livepatch=livepatch, changed=host.clock.now(), note="")
    save_state(host.paths, new)
    return new


def _wait(host: Host, done: Callable[[], bool]) -> bool:
    deadline = host.clock.monotonic() + host.transition_timeout
    while not done():
        if host.clock.monotonic() > deadline:
            return False
        host.clock.sleep(_POLL)
    return True


def _settled(name: str, host: Host) -> bool:
    found = livepatch_named(name, host.root)
    return found is not None and found.enabled and not found.in_transition


def _watch(host: Host, livepatch: Livepatch, *, after: int) -> str:
    """Watch the kernel for the soak time; returns what is wrong, or nothing."""
    deadline = host.clock.monotonic() + host.soak
    while True:
        if trouble := trouble_in(read_kernel_log(host.root, after=after)):
            return f"the kernel complained after livepatch {livepatch.number} was loaded: {trouble[0]}"
        if not _settled(livepatch.module, host):
            return f"livepatch {livepatch.number} was disabled by somebody else while it was watched"
        if host.clock.monotonic() >= deadline:
            return ""
        host.clock.sleep(min(0.5, host.soak))


def _taken_back(host: Host, now: AgentState, before: AgentState, *, reason: str, guilty: bool) -> MachineError:
    """Revert, remember why, and return the error to raise."""
    livepatch = now.livepatch
    if livepatch is None:
        return MachineError(reason)
    reverting = _note(host, now, AgentPhase.REVERTING, livepatch=livepatch)
    _take_out(host, livepatch.module)
    left = livepatch_named(before.livepatch.module, host.root) if before.livepatch else None
    after = replace(
        reverting,
        phase=AgentPhase.APPLIED if left else AgentPhase.IDLE,
        livepatch=before.livepatch if left else None,
        changed=host.clock.now(),
        note=reason,
    )
    if guilty:
        after = quarantine(after, mark_of(livepatch), reason=reason, now=host.clock.now())
    save_state(host.paths, after)
    hint = "It is held back on this host from now on." if guilty else "The next run tries again."
    return MachineError(f"Livepatch {livepatch.number} was taken out again: {reason}.", hint=hint)


def _take_out(host: Host, name: str) -> None:
    disable(name, host.root)
    if not _wait(host, lambda: not _present(name, host)):
        raise MachineError(
            f"{name} is not out after {host.transition_timeout:g} s: a task still runs in a replaced function.",
            hint="Nothing is forced. Run `kmend agent status`, and try again later.",
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


def _stuck(host: Host) -> str:
    return f"its transition did not end within {host.transition_timeout:g} s"


def _explained(error: ModuleError, lines: tuple[LogLine, ...]) -> KmendError:
    said = [f"  kernel: {line.text}" for line in lines[-_LOG_LINES:]]
    return ModuleError("\n".join([error.message, *said]), hint=error.hint, code=error.code)
