"""What a host runs and how it is enrolled; reads only, works without network and without enrolment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata

from kmend.agent.apply import Host
from kmend.agent.config import AgentConfig, SwitchedOff, load_config, switched_off
from kmend.agent.last import LastCheck, load_last
from kmend.agent.look import load_look
from kmend.agent.membership import load_membership
from kmend.agent.orders import load_fleet
from kmend.agent.state import after_reboot, load_state, orderly_boot
from kmend.kit.errors import InputError
from kmend.linux.ftrace import traced_by_others
from kmend.linux.kernel import running_kernel
from kmend.linux.livepatch import LoadedLivepatch, loaded_livepatches
from kmend.linux.tasks import blocking_tasks
from kmend.model.exposure import Verdict
from kmend.model.fleet import Offer
from kmend.model.host import AgentPhase, AgentState, BlockingTask, Quarantine, Stall
from kmend.model.kernel import Kernel
from kmend.model.livepatch import Livepatch
from kmend.model.look import Look

_IN_EFFECT = {AgentPhase.SOAKING, AgentPhase.APPLIED}
_NAMED = 20
"""Traced functions that are named; a tracer may be attached to all there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One livepatch as the kernel shows it, with what the agent knows of it."""

    name: str
    ours: bool
    enabled: bool
    in_transition: bool
    number: int | None
    cves: tuple[str, ...] | None
    """None when the agent did not load it itself, and so cannot tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """The watch that is under way."""

    seconds_left: float
    """By the soak that the settings ask for; 0 when a killed run has left it to the next one."""
    unseen: tuple[str, ...]
    """What cannot be looked at on this host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """The server that this host belongs to, and what it said last."""

    address: str
    host: str
    """This host's id there."""
    tried: datetime | None
    """The last check-in; None before the first."""
    succeeded: datetime | None
    """The last one that the server acknowledged."""
    error: str
    """Why the last one failed; empty when it did not."""
    unsent: int
    """Reports that the server has not acknowledged."""
    offer: Offer | None
    """What it said last, with its reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """What others than livepatches are attached to by ftrace: tracers, kprobes, BPF programs."""

    count: int
    """Of functions."""
    first: tuple[str, ...]
    """Some of them, as the kernel lists them."""
    diverted: tuple[str, ...]
    """Those whose callers are sent elsewhere: a livepatch of one of these would be refused by the kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookStatus:
    """What the newest look at this host came to: its audit and its exposure."""

    at: datetime
    score: int | None
    """Of the audit, in percent; None when there was none, or nothing could be judged."""
    failed: int
    """Checks that failed."""
    open: int | None
    """Open CVEs; None when it was not looked for them."""
    reachable: int | None
    """Open CVEs that a container can reach."""
    errors: tuple[str, ...]
    """Why a part of it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus:
    """What runs, as the kernel says, beside what the agent remembers."""

    kernel: Kernel
    boot_id: str
    running: tuple[Running, ...]
    phase: AgentPhase
    remembered: int | None
    """Number of the livepatch that the agent remembers to have loaded in this boot."""
    agrees: bool
    """Whether the kernel and the agent's memory say the same."""
    note: str
    watch: Watching | None
    """While a livepatch is being watched."""
    stalled: Stall | None
    """The last transition, if it did not end."""
    blocking: tuple[BlockingTask, ...]
    """Who keeps the transition that is under way now from ending."""
    traced: Traced | None
    """None when it cannot be told: tracefs is not mounted, or this is not root."""
    switched_off: SwitchedOff | None
    """The kill switch that is set."""
    quarantined: tuple[Quarantine, ...]
    channel: str | None
    """None when the host is not enrolled."""
    last: LastCheck | None
    """What came of the last look at the repository."""
    server: ServerStatus | None
    """None when the host belongs to none."""
    look: LookStatus | None
    """None before the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRole:
    """Signed metadata as it was seen last."""

    role: str
    version: int
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInfo:
    """The enrolment, what was seen of the repository, and the loaded livepatch's manifest."""

    config: AgentConfig
    repository: str
    """In use: the settings' or the enrolment's."""
    channel: str
    settings: dict[str, str]
    """What agent.toml sets, in words."""
    pinned_root: SeenRole
    seen: tuple[SeenRole, ...]
    livepatch: Livepatch | None


def status(host: Host) -> HostStatus:
    """What runs on this host now."""
    here = running_kernel(host.root)
    state = _state(host, here.boot_id)
    loaded = loaded_livepatches(host.root)
    return HostStatus(
        kernel=here.kernel,
        boot_id=here.boot_id,
        running=tuple(_running(livepatch, state) for livepatch in loaded),
        phase=state.phase,
        remembered=state.livepatch.number if state.livepatch else None,
        agrees=_agrees(loaded, state),
        note=state.note,
        watch=_watching(host, state),
        stalled=state.stalled,
        blocking=_blocking(host, loaded),
        traced=_traced(host),
        switched_off=switched_off(host.paths),
        quarantined=tuple(known for known in state.quarantined if known.build_id == here.kernel.build_id),
        channel=_channel(host),
        last=load_last(host.paths),
        server=server_status(host),
        look=_look(host),
    )


def info(host: Host) -> HostInfo:
    """How this host is enrolled and what it has seen.

    Raises:
        InputError: The host is not enrolled.
    """
    config = load_config(host.paths)
    here = running_kernel(host.root)
    seen = [_seen(path) for path in sorted(host.paths.seen.glob("*.json"))]
    pinned = _seen(host.paths.pinned_root)
    return HostInfo(
        config=config,
        repository=host.settings.repository or config.repo,
        channel=host.settings.channel or config.channel,
        settings=host.settings.in_words,
        pinned_root=pinned or SeenRole(role="root", version=0, expires=config.enrolled),
        seen=tuple(role for role in seen if role),
        livepatch=_state(host, here.boot_id).livepatch,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchInfo:
    """A livepatch in full."""

    livepatch: Livepatch | None
    """None when there is none, or nobody here knows what is in it."""
    because: str
    published: datetime | None
    """When it came into the channel; None when that is not known."""


def patch_info(host: Host) -> PatchInfo:
    """What is in the livepatch that is loaded now."""
    here = running_kernel(host.root)
    known = _state(host, here.boot_id).livepatch
    ours = [one.name for one in loaded_livepatches(host.root) if one.ours]
    if known and known.module in ours:
        return PatchInfo(livepatch=known, because=f"livepatch {known.number} is loaded", published=None)
    because = "no livepatch of kmend is loaded"
    if ours:
        because = f"{', '.join(ours)} is loaded, but not by this agent: what is in it is not known here"
    return PatchInfo(livepatch=None, because=because, published=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveVersion:
    """What `uname` prints."""

    effective_version: str


def effective_version(state: HostStatus) -> str:
    """``uname -r`` and what is live-patched on top, e.g. ``6.1.0-47-cloud-amd64 livepatch 3 (closes 2 CVEs)``.

    A livepatch counts when the kernel has finished its transition; others are named with what is known of them.
    """
    words = [state.kernel.release]
    for livepatch in state.running:
        if not livepatch.enabled:
            continue
        words.append(f"livepatch {livepatch.number if livepatch.ours else livepatch.name}")
        words.append(f"({_about(livepatch)})")
    return " ".join(words)


def _about(livepatch: Running) -> str:
    if livepatch.in_transition:
        return "in transition"
    if not livepatch.ours:
        return "not kmend's"
    if livepatch.cves is None:
        return "not loaded by this agent"
    return f"closes {len(livepatch.cves)} CVE{'' if len(livepatch.cves) == 1 else 's'}"


def _state(host: Host, boot_id: str) -> AgentState:
    now = host.clock.now()
    state = load_state(host.paths, boot_id=boot_id, now=now)
    return after_reboot(state, boot_id=boot_id, now=now, orderly=orderly_boot(host.paths))


def _watching(host: Host, state: AgentState) -> Watching | None:
    if state.phase != AgentPhase.SOAKING or state.watch is None:
        return None
    left = state.watch.began + host.soak - host.clock.monotonic()
    return Watching(seconds_left=round(max(0.0, left), 1), unseen=state.watch.unseen)


def _blocking(host: Host, loaded: tuple[LoadedLivepatch, ...]) -> tuple[BlockingTask, ...]:
    changing = [livepatch for livepatch in loaded if livepatch.in_transition]
    return blocking_tasks(host.root, enabled=changing[0].enabled) if changing else ()


def _traced(host: Host) -> Traced | None:
    found = traced_by_others(host.root)
    if found is None:
        return None
    return Traced(
        count=len(found),
        first=tuple(one.name for one in found[:_NAMED]),
        diverted=tuple(one.name for one in found if one.diverted),
    )


def _channel(host: Host) -> str | None:
    if not host.paths.config.exists():
        return None
    return host.settings.channel or load_config(host.paths).channel


def server_status(host: Host) -> ServerStatus | None:
    """The server that this host belongs to, and what it said last; None without one."""
    try:
        member = load_membership(host.paths)
    except InputError as error:
        return _unknown_server(error.message)
    if member is None:
        return None
    fleet = load_fleet(host.paths)
    return ServerStatus(
        address=member.server,
        host=member.host,
        tried=fleet.tried,
        succeeded=fleet.succeeded,
        error=fleet.error,
        unsent=len(fleet.outbox),
        offer=fleet.offer,
    )


def _look(host: Host) -> LookStatus | None:
    found = load_look(host.paths)
    return look_status(found) if found else None


def look_status(found: Look) -> LookStatus:
    """A look in a few figures."""
    audit, exposure = found.audit, found.exposure
    return LookStatus(
        at=found.at,
        score=next((one.percent for one in audit.scores if one.area == "all"), None) if audit else None,
        failed=len(audit.failed) if audit else 0,
        open=exposure.verdicts.get(Verdict.OPEN, 0) if exposure else None,
        reachable=exposure.reachable if exposure else None,
        errors=found.errors,
    )


def _unknown_server(reason: str) -> ServerStatus:
    return ServerStatus(address="unknown", host="", tried=None, succeeded=None, error=reason, unsent=0, offer=None)


def _running(livepatch: LoadedLivepatch, state: AgentState) -> Running:
    known = state.livepatch if state.livepatch and state.livepatch.module == livepatch.name else None
    return Running(
        name=livepatch.name,
        ours=livepatch.ours,
        enabled=livepatch.enabled,
        in_transition=livepatch.in_transition,
        number=livepatch.number,
        cves=known.cves if known else None,
    )


def _agrees(loaded: tuple[LoadedLivepatch, ...], state: AgentState) -> bool:
    ours = {livepatch.name for livepatch in loaded if livepatch.ours and livepatch.enabled}
    remembered = {state.livepatch.module} if state.phase in _IN_EFFECT and state.livepatch else set()
    return ours == remembered


def _seen(path: Path) -> SeenRole | None:
    try:
        signed = Metadata[Any].from_bytes(path.read_bytes()).signed
    except (OSError, RepositoryError, ValueError):
        return None
    return SeenRole(role=path.stem, version=signed.version, expires=signed.expires)
