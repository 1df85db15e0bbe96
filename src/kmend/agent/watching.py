"""Watching what was loaded until its soak is over; the lock is held only while looking."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from kmend.agent.apply import Host, begin_soak, end_soak, settled, taken_back
from kmend.agent.metrics import publish
from kmend.agent.soak import RUNS, Watcher
from kmend.agent.state import load_state, note_orderly, save_state
from kmend.kit.errors import MachineError
from kmend.kit.files import lock
from kmend.linux.kernel import running_kernel
from kmend.model.host import AgentPhase, AgentState

WHAT = "kmend agent"
_LOOK = 5.0
_WIDE_LOOK = 30.0
"""Seconds between two looks: at the kernel log, and at units and containers."""


def watch(host: Host) -> tuple[str, ...]:
    """Watch what was loaded until the soak is over; returns the names of what it replaced.

    The lock is held only while looking, so that others may look and unload meanwhile.

    Raises:
        MachineError: There was trouble, and the livepatch is out and quarantined; or somebody else took it out.
    """
    watcher, deadline = _begin_to_watch(host)
    publish(host)
    wide_look = host.clock.monotonic()
    try:
        while True:
            now = host.clock.monotonic()
            over, wide = now >= deadline, now >= min(wide_look + _WIDE_LOOK, deadline)
            with lock(host.paths.lock, what=WHAT, wait=True):
                state = _look(host, watcher, wide=wide)
                if over:
                    return end_soak(host, state)[1]
            wide_look = now if wide else wide_look
            host.meanwhile(host)
            host.clock.sleep(min(_LOOK, deadline - now))
    except KeyboardInterrupt:  # asked to end: that is no sign of trouble
        _count_run(host, -1)
        raise


def _begin_to_watch(host: Host) -> tuple[Watcher, float]:
    """The watcher of what is soaking, and when it is over; too many killed runs are trouble."""
    state = _count_run(host, 1)
    livepatch, watch = state.livepatch, state.watch
    if livepatch is None or watch is None:
        raise MachineError("The livepatch was taken out before it could be watched.")
    if watch.runs > RUNS:
        reason = f"the agent was killed {RUNS} times while it watched livepatch {livepatch.number}"
        with lock(host.paths.lock, what=WHAT, wait=True):
            raise taken_back(host, state, None, reason=reason, guilty=True)
    watcher = Watcher(root=host.root, around=host.around, settings=host.settings, livepatch=livepatch, watch=watch)
    return watcher, watch.began + host.soak


def _count_run(host: Host, step: int) -> AgentState:
    """Write down that a run begins (1) or ends (-1) to watch."""
    with lock(host.paths.lock, what=WHAT, wait=True):
        state = load_state(host.paths, boot_id=running_kernel(host.root).boot_id, now=host.clock.now())
        if state.phase == AgentPhase.SOAKING and state.watch is None:
            state = begin_soak(host, state)
        if state.phase != AgentPhase.SOAKING or state.watch is None:
            return state
        counted = replace(state, watch=replace(state.watch, runs=state.watch.runs + step))
        with suppress(MachineError):  # with a full disk it is watched all the same
            save_state(host.paths, counted)
        return counted


def _look(host: Host, watcher: Watcher, *, wide: bool) -> AgentState:
    """Look once; ``wide`` looks at units and containers too."""
    livepatch = watcher.livepatch
    state = load_state(host.paths, boot_id=running_kernel(host.root).boot_id, now=host.clock.now())
    if state.phase != AgentPhase.SOAKING or state.livepatch != livepatch:
        raise MachineError(f"Livepatch {livepatch.number} was taken out while it was watched.")
    trouble = watcher.kernel()
    if not trouble and not settled(livepatch.module, host):
        trouble = f"livepatch {livepatch.number} was disabled by somebody else while it was watched"
    if not trouble and wide:
        trouble = watcher.around_it(host.clock.now())
    if trouble:
        raise taken_back(host, state, None, reason=trouble, guilty=True)
    return state


def note_shutdown(host: Host) -> bool | None:
    """Remember that this boot is being ended in order, if systemd says that it is; None when it does not answer.

    Raises:
        MachineError: It cannot be written.
    """
    down = host.around.going_down()
    if down:
        note_orderly(host.paths, running_kernel(host.root).boot_id)
    return down
