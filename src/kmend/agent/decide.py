"""What to do on this host, and because of what. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from kmend.agent.state import quarantine_of
from kmend.linux.livepatch import LoadedLivepatch
from kmend.model.host import AgentState, ChannelEntry
from kmend.model.kernel import Kernel


class Verdict(StrEnum):
    """The outcome of a check."""

    UP_TO_DATE = "up-to-date"
    AVAILABLE = "available"
    NOTHING_OFFERED = "nothing-offered"
    """The channel has nothing for this kernel."""
    HELD_BACK = "held-back"
    """Quarantined on this host."""
    SWITCHED_OFF = "switched-off"
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
    switched_off: str,
    despite_quarantine: bool = False,
) -> Decision:
    """Whether the offered livepatch is to be loaded, and because of what."""
    running = running_number(loaded)
    verdict, because = _verdict(kernel, entry, loaded, running)
    if verdict == Verdict.AVAILABLE and entry is not None:
        held = quarantine_of(state, entry.livepatch)
        if switched_off:
            verdict, because = Verdict.SWITCHED_OFF, switched_off
        elif held and not despite_quarantine:
            verdict, because = Verdict.HELD_BACK, f"livepatch {held.number} is held back here: {held.reason}"
    return Decision(
        verdict=verdict,
        because=because,
        running=running,
        offered=entry.livepatch.number if entry else None,
        cves=entry.livepatch.cves if entry else (),
        kernel=kernel,
    )


def running_number(loaded: Sequence[LoadedLivepatch]) -> int | None:
    """The number of kmend's livepatch that is in effect, by its name in the kernel; the highest of several."""
    return max((one.number for one in loaded if one.enabled and one.number is not None), default=None)


def _verdict(
    kernel: Kernel, entry: ChannelEntry | None, loaded: Sequence[LoadedLivepatch], running: int | None
) -> tuple[Verdict, str]:
    if entry is None:
        return Verdict.NOTHING_OFFERED, f"the channel has nothing for {kernel.release}"
    offered = entry.livepatch
    if any(livepatch.name == offered.module and livepatch.enabled for livepatch in loaded):
        return Verdict.UP_TO_DATE, f"livepatch {offered.number} is loaded"
    if running is not None and running > offered.number:
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
