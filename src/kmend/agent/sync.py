"""check and update: the agent's main job, one step after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime

from kmend.agent.apply import Host, Loaded, apply, finish_interrupted, unload
from kmend.agent.attempt import attempt
from kmend.agent.config import Switch, called, load_config, load_pinned_root, switched_off
from kmend.agent.decide import Decision, Verdict, decide, in_time, latest_wanted
from kmend.agent.last import note_failure, note_success
from kmend.agent.metrics import publish
from kmend.agent.orders import Order, Rule, order_of
from kmend.agent.settings import Settings, UpdatePolicy
from kmend.agent.state import after_reboot, load_state, orderly_boot, released, save_state
from kmend.agent.view import PatchInfo
from kmend.agent.watching import WHAT, watch
from kmend.kit.errors import BusyError, InputError, KmendError, MachineError, TrustError
from kmend.kit.files import lock
from kmend.linux.kernel import running_kernel
from kmend.linux.livepatch import loaded_livepatches
from kmend.model.host import AgentPhase, AgentState, ChannelEntry, HostKernel
from kmend.model.kernel import Kernel
from kmend.trust.download import Limits, Network
from kmend.trust.repository import SignedRepository, open_repository

_LOOK_BACK = 1000
"""Livepatches before the newest that a date or a delay is looked up in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateResult:
    """What an update did."""

    decision: Decision
    applied: bool
    transition_ms: float | None
    replaced: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """What a source offers this host, and where it is fetched from."""

    repository: SignedRepository | None
    """None when nobody was asked."""
    number: int | None
    """Of the livepatch to fetch; None for the newest."""
    decision: Decision


def check(host: Host, *, limits: Limits | None = None) -> Decision:
    """What the repository offers this host, verified, and what an update would do. Loads nothing.

    Raises:
        TrustError: What the repository says cannot be trusted or read.
        BusyError: Another run is under way.
    """
    with _remembered(host) as remember, lock(host.paths.lock, what=WHAT):
        running = running_kernel(host.root)
        state = _recovered(host, running)
        return remember(_offer(host, running, state, limits=limits, despite_quarantine=False).decision)


def offered(host: Host, *, limits: Limits | None = None) -> PatchInfo:
    """The livepatch that the repository has for this host, wanted or not; verified.

    Raises:
        TrustError: What the repository says cannot be trusted or read.
        BusyError: Another run is under way.
    """
    with lock(host.paths.lock, what=WHAT):
        running = running_kernel(host.root)
        offer = _offer(host, running, _recovered(host, running), limits=limits, despite_quarantine=False)
        entry = offer.repository.offered(running.kernel, number=offer.number) if offer.repository else None
        return PatchInfo(
            livepatch=entry.livepatch if entry else None,
            because=offer.decision.because,
            published=entry.published if entry else None,
        )


@contextmanager
def _remembered(host: Host) -> Iterator[Callable[[Decision], Decision]]:
    """Notes what comes of a look at the repository; being told wrong things or being locked out is no look."""

    def remember(decision: Decision) -> Decision:
        note_success(host.paths, decision, now=host.clock.now())
        publish(host)
        return decision

    try:
        yield remember
    except (InputError, BusyError):
        raise
    except KmendError as error:
        note_failure(host.paths, error, now=host.clock.now())
        raise
    finally:
        publish(host)


def update(
    host: Host,
    *,
    limits: Limits | None = None,
    despite_quarantine: bool = False,
    told: Callable[[str], None] | None = None,
) -> UpdateResult:
    """Bring this host to what its channel offers, and watch it; while another run watches nothing is done.

    ``told`` hears that the watch begins.

    Raises:
        TrustError: What the repository offers cannot be trusted; nothing was changed.
        MachineError: The kernel or the disk said no, or the watch found trouble; the livepatch is out.
        BusyError: Another run is under way.
    """
    with ExitStack() as held:
        remember = held.enter_context(_remembered(host))
        try:
            held.enter_context(lock(host.paths.watching, what=WHAT))
        except BusyError:
            return _nothing_done(check(host, limits=limits))
        with lock(host.paths.lock, what=WHAT):
            state = finish_interrupted(host, _recovered(host, running_kernel(host.root)))
        if state.phase == AgentPhase.SOAKING:
            watch(host)
        with lock(host.paths.lock, what=WHAT):
            decision, loaded = _load(host, limits, despite_quarantine=despite_quarantine)
            remember(decision)
        if loaded is None:
            return _nothing_done(decision)
        if told:
            told(f"Livepatch {decision.offered} is loaded; the host is watched for {host.soak:g} s.")
        gone = watch(host)
        return UpdateResult(decision=decision, applied=True, transition_ms=loaded.transition_ms, replaced=gone)


def _nothing_done(decision: Decision) -> UpdateResult:
    return UpdateResult(decision=decision, applied=False, transition_ms=None, replaced=())


def _load(host: Host, limits: Limits | None, *, despite_quarantine: bool) -> tuple[Decision, Loaded | None]:
    """Decide, and load what is to be loaded."""
    running = running_kernel(host.root)
    state = _recovered(host, running)
    offer = _offer(host, running, state, limits=limits, despite_quarantine=despite_quarantine)
    decision = offer.decision
    if decision.verdict == Verdict.BLOCKED:
        raise MachineError(
            f"Livepatch {decision.offered} is not loaded: {decision.because}.",
            hint="Unload them first, or leave this host to whoever loaded them.",
        )
    if despite_quarantine and decision.verdict == Verdict.WITHHELD:
        return _lifted(host, state, decision), None
    if offer.repository is None or decision.verdict != Verdict.AVAILABLE or decision.offered is None:
        return decision, None
    with attempt(host, build_id=running.kernel.build_id, number=decision.offered):
        verified = offer.repository.fetch(running.kernel, number=offer.number)
        return decision, apply(verified, host, state) if verified else None


def _lifted(host: Host, state: AgentState, decision: Decision) -> Decision:
    """The decision, with the quarantine lifted for which the server may hold the livepatch back."""
    mark = (decision.kernel.build_id, decision.offered or 0)
    lifted = released(state, mark)
    if lifted == state:
        return decision
    save_state(host.paths, lifted)
    because = f"{decision.because}. The quarantine is lifted here, and the server hears of it at the next check-in"
    return replace(decision, because=because)


def fetch_copy(host: Host, *, limits: Limits | None = None) -> Decision:
    """Bring this host's own copy up to what the repository offers; the decision as the copy alone allows it.

    Raises:
        TrustError: What the repository says cannot be trusted or read; the copy is as it was.
        MachineError: The copy cannot be written.
        BusyError: Another run is under way.
    """
    with lock(host.paths.lock, what=WHAT):
        running = running_kernel(host.root)
        state = _recovered(host, running)
        switch = switched_off(host.paths)
        if switch and switch.switch == Switch.OFF:
            return _decided(host, running, None, state=state).decision
        return _kept(host, running, _look(host, running, state, source=_address(host), limits=limits)).decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Unloaded:
    """What an unload did."""

    unloaded: tuple[str, ...]
    held_back: bool


def unload_now(host: Host, *, hold: bool) -> tuple[str, ...]:
    """Take kmend's livepatches out; returns their names.

    Raises:
        MachineError: The kernel still uses one.
        BusyError: Another run is under way.
    """
    with lock(host.paths.lock, what=WHAT):
        state = _recovered(host, running_kernel(host.root))
        _, gone = unload(host, state, hold=hold)
    publish(host)
    return gone


def _recovered(host: Host, running: HostKernel) -> AgentState:
    """The state in this boot; what a reboot taught is written down before anything else happens."""
    now = host.clock.now()
    state = load_state(host.paths, boot_id=running.boot_id, now=now)
    current = after_reboot(state, boot_id=running.boot_id, now=now, orderly=orderly_boot(host.paths))
    if current != state:
        save_state(host.paths, current)
    return current


def _offer(
    host: Host, running: HostKernel, state: AgentState, *, limits: Limits | None, despite_quarantine: bool
) -> _Offer:
    """What is offered from where update_policy allows it to come from; an agent that is off asks nobody."""
    policy = host.settings.update_policy
    switch = switched_off(host.paths)
    if switch and switch.switch == Switch.OFF:
        return _decided(host, running, None, state=state)

    def look(source: str) -> _Offer:
        return _look(host, running, state, source=source, limits=limits, despite_quarantine=despite_quarantine)

    if policy == UpdatePolicy.REMOTE:
        return look(_address(host))
    if not host.paths.copy.is_dir() and policy == UpdatePolicy.LOCAL:
        raise InputError(
            'This host has no copy of its own yet, and update_policy is "local".',
            hint=f"Run `{called()} fetch` where the repository can be reached.",
        )
    if policy == UpdatePolicy.LOCAL:
        return look(str(host.paths.copy))
    with suppress(TrustError):
        own = look(str(host.paths.copy))
        if own.decision.verdict == Verdict.AVAILABLE:
            return own
    return _kept(host, running, look(_address(host)))


def _kept(host: Host, running: HostKernel, offer: _Offer) -> _Offer:
    """The offer, once this host has a copy of its own of it."""
    if offer.repository:
        offer.repository.keep(running.kernel, host.paths.copy, number=offer.number)
    return offer


def _look(
    host: Host,
    running: HostKernel,
    state: AgentState,
    *,
    source: str,
    limits: Limits | None,
    despite_quarantine: bool = False,
) -> _Offer:
    """Read one source, verified, and decide."""
    repository = repository_of(host, source=source, limits=limits)
    return _decided(host, running, repository, state=state, despite_quarantine=despite_quarantine)


def _decided(
    host: Host,
    running: HostKernel,
    repository: SignedRepository | None,
    *,
    state: AgentState,
    despite_quarantine: bool = False,
) -> _Offer:
    now = host.clock.now()
    order = order_of(host.paths, host.settings, build_id=running.kernel.build_id, now=now)
    entry, number = _wanted(repository, running.kernel, host.settings, order, now) if repository else (None, None)
    decision = decide(
        running.kernel,
        entry,
        loaded=loaded_livepatches(host.root),
        state=state,
        switched_off=switched_off(host.paths),
        settings=host.settings,
        now=now,
        despite_quarantine=despite_quarantine,
        patient=host.patient,
        order=order,
    )
    return _Offer(repository=repository, number=number, decision=decision)


def repository_of(host: Host, *, source: str = "", limits: Limits | None = None) -> SignedRepository:
    """This host's repository, or another ``source`` of the same, its metadata fetched and verified.

    To be called under ``host.paths.lock``: what was seen last is kept in one place.

    Raises:
        TrustError: Something does not hold, or could not be fetched.
        InputError: This host is not enrolled.
    """
    config = load_config(host.paths)
    return open_repository(
        source or _address(host),
        channel=host.settings.channel or config.channel,
        pinned_root=load_pinned_root(host.paths, config),
        cache=host.paths.seen,
        limits=limits,
        network=Network(proxy=host.settings.proxy, ca_file=host.settings.ca_file),
    )


def _address(host: Host) -> str:
    return host.settings.repository or load_config(host.paths).repo


def _wanted(
    repository: SignedRepository, kernel: Kernel, settings: Settings, order: Order, now: datetime
) -> tuple[ChannelEntry | None, int | None]:
    """The entry that the server's order, or the owner's pins and delay ask for, and its number, if not the newest.

    Where nothing is old enough it is the newest: the decision then says what it waits for.
    """
    if order.rule == Rule.ONLY:
        return repository.offered(kernel, number=order.number), order.number
    if settings.pin_number is not None:
        return repository.offered(kernel, number=settings.pin_number), settings.pin_number
    newest = repository.offered(kernel)
    limit = latest_wanted(settings, now)
    if newest is None or in_time(newest, limit):
        return newest, None
    first = newest.livepatch.number - 1
    for number in range(first, max(0, first - _LOOK_BACK), -1):
        entry = repository.offered(kernel, number=number)
        if entry is not None and in_time(entry, limit):
            return entry, number
    return newest, None
