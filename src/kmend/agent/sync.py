"""check and update: the agent's main job, one step after the other."""

from __future__ import annotations

from dataclasses import dataclass

from kmend.agent.apply import Host, apply, finish_interrupted, unload
from kmend.agent.config import load_config, load_pinned_root, switched_off
from kmend.agent.decide import Decision, Verdict, decide
from kmend.agent.state import after_reboot, load_state, save_state
from kmend.kit.errors import MachineError
from kmend.kit.files import lock
from kmend.linux.kernel import running_kernel
from kmend.linux.livepatch import loaded_livepatches
from kmend.model.host import AgentState, ChannelEntry, HostKernel
from kmend.trust.download import Limits
from kmend.trust.repository import SignedRepository, open_repository

_WHAT = "kmend agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateResult:
    """What an update did."""

    decision: Decision
    applied: bool
    transition_ms: float | None
    replaced: tuple[str, ...]


def check(host: Host, *, limits: Limits | None = None) -> Decision:
    """What the repository offers this host, verified, and what an update would do. Loads nothing.

    Raises:
        TrustError: What the repository says cannot be trusted or read.
        BusyError: Another run is under way.
    """
    with lock(host.paths.lock, what=_WHAT):
        running = running_kernel(host.root)
        state = _recovered(host, running)
        _, entry = _offer(host, running, limits)
        return _decide(host, running, entry, state=state, despite_quarantine=False)


def update(host: Host, *, limits: Limits | None = None, despite_quarantine: bool = False) -> UpdateResult:
    """Bring this host to what its channel offers.

    Raises:
        TrustError: What the repository offers cannot be trusted; nothing was changed.
        MachineError: The kernel or the disk said no; the kernel is as it was.
        BusyError: Another run is under way.
    """
    with lock(host.paths.lock, what=_WHAT):
        running = running_kernel(host.root)
        state = finish_interrupted(host, _recovered(host, running))
        repository, entry = _offer(host, running, limits)
        decision = _decide(host, running, entry, state=state, despite_quarantine=despite_quarantine)
        if decision.verdict == Verdict.BLOCKED:
            raise MachineError(
                f"Livepatch {decision.offered} is not loaded: {decision.because}.",
                hint="Unload them first, or leave this host to whoever loaded them.",
            )
        verified = repository.fetch(running.kernel) if decision.verdict == Verdict.AVAILABLE else None
        if verified is None:
            return UpdateResult(decision=decision, applied=False, transition_ms=None, replaced=())
        done = apply(verified, host, state)
        return UpdateResult(
            decision=decision, applied=True, transition_ms=done.transition_ms, replaced=done.replaced
        )


def unload_now(host: Host, *, hold: bool) -> tuple[str, ...]:
    """Take kmend's livepatches out; returns their names.

    Raises:
        MachineError: The kernel still uses one.
        BusyError: Another run is under way.
    """
    with lock(host.paths.lock, what=_WHAT):
        state = _recovered(host, running_kernel(host.root))
        _, gone = unload(host, state, hold=hold)
        return gone


def _recovered(host: Host, running: HostKernel) -> AgentState:
    """The state in this boot; what a reboot taught is written down before anything else happens."""
    now = host.clock.now()
    state = load_state(host.paths, boot_id=running.boot_id, now=now)
    current = after_reboot(state, boot_id=running.boot_id, now=now)
    if current != state:
        save_state(host.paths, current)
    return current


def _offer(host: Host, running: HostKernel, limits: Limits | None) -> tuple[SignedRepository, ChannelEntry | None]:
    config = load_config(host.paths)
    repository = open_repository(
        config.repo,
        channel=config.channel,
        pinned_root=load_pinned_root(host.paths, config),
        cache=host.paths.seen,
        limits=limits,
    )
    return repository, repository.offered(running.kernel)


def _decide(
    host: Host, running: HostKernel, entry: ChannelEntry | None, *, state: AgentState, despite_quarantine: bool
) -> Decision:
    return decide(
        running.kernel,
        entry,
        loaded=loaded_livepatches(host.root),
        state=state,
        switched_off=switched_off(host.paths),
        despite_quarantine=despite_quarantine,
    )
