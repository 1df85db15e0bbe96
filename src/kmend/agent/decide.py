"""What to do on this host, and because of what. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from kmend.agent.config import Switch, SwitchedOff
from kmend.agent.orders import OWN, Order, Rule
from kmend.agent.settings import Settings
from kmend.agent.state import quarantine_of
from kmend.agent.windows import within
from kmend.linux.livepatch import LoadedLivepatch
from kmend.model.host import AgentPhase, AgentState, ChannelEntry, Stall
from kmend.model.kernel import Kernel


class Verdict(StrEnum):
    """The outcome of a check."""

    UP_TO_DATE = "up-to-date"
    AVAILABLE = "available"
    NOTHING_OFFERED = "nothing-offered"
    """The channel has nothing for this kernel."""
    HELD_BACK = "held-back"
    """Quarantined on this host."""
    SOAKING = "soaking"
    """The one that was loaded last is still being watched."""
    SWITCHED_OFF = "switched-off"
    STALLED = "stalled"
    """Its transition did not end; it is tried again later."""
    BLOCKLISTED = "blocklisted"
    """The owner does not want it."""
    PINNED = "pinned"
    """The owner wants another one, or an older one."""
    DELAYED = "delayed"
    """It is younger than the owner wants."""
    OUTSIDE_WINDOW = "outside-window"
    """It waits for a maintenance window."""
    WITHHELD = "withheld"
    """The server does not offer it to this host now."""
    BLOCKED = "blocked"
    """Somebody else's livepatch is loaded; replacing all would take it out too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The verdict with its reason."""

    verdict: Verdict
    because: str
    running: int | None
    """Number of kmend's livepatch in the kernel now."""
    offered: int | None
    cves: tuple[str, ...]
    """Closed by the offered one."""
    kernel: Kernel


def decide(
    kernel: Kernel,
    entry: ChannelEntry | None,
    *,
    loaded: Sequence[LoadedLivepatch],
    state: AgentState,
    switched_off: SwitchedOff | None,
    settings: Settings,
    now: datetime,
    despite_quarantine: bool = False,
    patient: bool = False,
    order: Order = OWN,
) -> Decision:
    """Whether the offered livepatch is to be loaded, and because of what.

    ``patient`` leaves a livepatch whose transition has stalled alone for a while; ``order`` is what the server
    lets this host load.
    """
    running = running_number(loaded)
    verdict, because = _verdict(kernel, entry, loaded, running=running, pin=settings.pin_number, order=order)
    if switched_off and switched_off.switch == Switch.OFF:
        verdict, because = Verdict.SWITCHED_OFF, switched_off.because
    elif (
        state.phase == AgentPhase.SOAKING
        and state.livepatch
        and verdict in {Verdict.AVAILABLE, Verdict.UP_TO_DATE}
    ):
        verdict, because = Verdict.SOAKING, f"livepatch {state.livepatch.number} is loaded and being watched"
    elif verdict == Verdict.AVAILABLE and entry is not None:
        held = quarantine_of(state, entry.livepatch)
        if switched_off:
            verdict, because = Verdict.SWITCHED_OFF, switched_off.because
        elif held and not despite_quarantine:
            verdict, because = Verdict.HELD_BACK, f"livepatch {held.number} is held back here: {held.reason}"
        else:
            stall = _stall(entry, state.stalled, now) if patient else None
            owner = _by_settings(entry, _in_force(settings, order), now)
            verdict, because = owner or stall or _by_order(entry, order) or (verdict, because)
    return Decision(
        verdict=verdict,
        because=because,
        running=running,
        offered=entry.livepatch.number if entry else None,
        cves=entry.livepatch.cves if entry else (),
        kernel=kernel,
    )


def latest_wanted(settings: Settings, now: datetime) -> datetime | None:
    """The last moment at which a livepatch may have been published; None when the owner does not mind."""
    limits = [settings.pin_date] if settings.pin_date else []
    if settings.delay_hours:
        limits.append(now - timedelta(hours=settings.delay_hours))
    return min(limits, default=None)


def in_time(entry: ChannelEntry, limit: datetime | None) -> bool:
    """Whether an entry was published early enough; one that does not say when was not."""
    return limit is None or (entry.published is not None and entry.published <= limit)


def running_number(loaded: Sequence[LoadedLivepatch]) -> int | None:
    """The number of kmend's livepatch that is in effect, by its name in the kernel; the highest of several."""
    return max((one.number for one in loaded if one.enabled and one.number is not None), default=None)


def _in_force(settings: Settings, order: Order) -> Settings:
    """The settings that count: a rollback takes trouble out, so it waits for nothing."""
    return replace(settings, windows=(), delay_hours=0, pin_date=None) if order.back else settings


def _by_order(entry: ChannelEntry, order: Order) -> tuple[Verdict, str] | None:
    """Why the server does not let this livepatch be loaded now, if so."""
    number = entry.livepatch.number
    if order.rule in {Rule.NOTHING, Rule.OUT} or (order.rule == Rule.ONLY and order.number != number):
        return Verdict.WITHHELD, f"livepatch {number} is not for this host now: {order.because}"
    if number in order.blocked:
        return Verdict.WITHHELD, f"livepatch {number} is blocked in the whole fleet"
    return None


def _stall(entry: ChannelEntry, stall: Stall | None, now: datetime) -> tuple[Verdict, str] | None:
    """Why it is too early to try again, if it is; a clock that was set back does not count."""
    number = entry.livepatch.number
    if stall is None or stall.number != number or not stall.at <= now < stall.again:
        return None
    return (
        Verdict.STALLED,
        f"the transition of livepatch {number} did not end; tried again from {_at(stall.again)} on",
    )


def _by_settings(entry: ChannelEntry, settings: Settings, now: datetime) -> tuple[Verdict, str] | None:
    """Why the owner does not want this livepatch loaded now, if so."""
    number = entry.livepatch.number
    if blocked := _blocked(entry, settings.blocklist):
        return Verdict.BLOCKLISTED, f"livepatch {number} is not wanted here: blocklist names {', '.join(blocked)}"
    if settings.pin_number is not None and number != settings.pin_number:
        return Verdict.PINNED, f"pin_number asks for livepatch {settings.pin_number}, not for {number}"
    if not in_time(entry, latest_wanted(settings, now)):
        return _too_young(entry, settings)
    if not within(settings.windows, now, settings.zone):
        named = " and ".join(map(str, settings.windows))
        return Verdict.OUTSIDE_WINDOW, f"livepatch {number} waits for a window: {named} ({settings.time_zone})"
    return None


def _too_young(entry: ChannelEntry, settings: Settings) -> tuple[Verdict, str]:
    number = entry.livepatch.number
    if entry.published is None:
        return Verdict.DELAYED, f"the repository does not say when livepatch {number} was published"
    if settings.pin_date and entry.published > settings.pin_date:
        return Verdict.PINNED, f"livepatch {number} was published after pin_date ({_at(entry.published)})"
    ready = entry.published + timedelta(hours=settings.delay_hours)
    return Verdict.DELAYED, f"livepatch {number} is loaded from {_at(ready)} on (delay_hours)"


def _blocked(entry: ChannelEntry, blocklist: Sequence[str]) -> list[str]:
    livepatch = entry.livepatch
    names = {str(livepatch.number), *livepatch.cves, *(fix.name for fix in livepatch.fixes)}
    return [one for one in blocklist if one in names]


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _verdict(
    kernel: Kernel,
    entry: ChannelEntry | None,
    loaded: Sequence[LoadedLivepatch],
    *,
    running: int | None,
    pin: int | None,
    order: Order,
) -> tuple[Verdict, str]:
    if entry is None:
        what = "nothing" if pin is None else f"no livepatch {pin} (pin_number)"
        if order.rule == Rule.ONLY:
            what = f"no livepatch {order.number}, which the server names,"
        return Verdict.NOTHING_OFFERED, f"the channel has {what} for {kernel.release}"
    offered = entry.livepatch
    if any(livepatch.name == offered.module and livepatch.enabled for livepatch in loaded):
        return Verdict.UP_TO_DATE, f"livepatch {offered.number} is loaded"
    back = order.number if order.rule == Rule.ONLY and order.back else None
    if running is not None and running > offered.number and offered.number not in {pin, back}:
        return (
            Verdict.UP_TO_DATE,
            f"livepatch {running} is loaded, which is newer than the offered {offered.number}",
        )
    if foreign := [livepatch.name for livepatch in loaded if not livepatch.ours]:
        return (
            Verdict.BLOCKED,
            f"other livepatches are loaded, which kmend does not take out: {', '.join(foreign)}",
        )
    return Verdict.AVAILABLE, f"livepatch {offered.number} closes {_count(len(offered.cves))}"


def _count(cves: int) -> str:
    return "no CVE" if cves == 0 else "1 CVE" if cves == 1 else f"{cves} CVEs"
