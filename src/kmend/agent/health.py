"""How a host is, in the four words of Nagios plugins. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from kmend.agent.decide import Verdict
from kmend.agent.state import BY_HAND
from kmend.agent.view import HostStatus
from kmend.kit.errors import KmendError, TrustError
from kmend.model.host import Quarantine
from kmend.trust.refusal import Refusal

_OLD = timedelta(days=1)
_SILENT = timedelta(hours=1)
_FINE = {
    Verdict.UP_TO_DATE,
    Verdict.NOTHING_OFFERED,
    Verdict.SOAKING,
    Verdict.BLOCKLISTED,
    Verdict.PINNED,
    Verdict.DELAYED,
    Verdict.OUTSIDE_WINDOW,
    Verdict.WITHHELD,
}


class Level(IntEnum):
    """Exit codes of a Nagios plugin (Monitoring Plugins development guidelines)."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The level, and what it is because of; the worst first."""

    level: Level
    reasons: tuple[str, ...]


def health(status: HostStatus, *, now: datetime) -> Health:
    """How the host is, by its status alone."""
    found = [*_held(status), *_last(status, now), *_server(status, now), *_standing(status)]
    found.sort(key=lambda one: -one[0])
    return Health(level=found[0][0] if found else Level.OK, reasons=tuple(reason for _, reason in found))


def health_of_check(verdict: Verdict) -> Level:
    """How bad the outcome of a check is: what the owner wants is fine."""
    if verdict in _FINE:
        return Level.OK
    return Level.CRITICAL if verdict in {Verdict.HELD_BACK, Verdict.BLOCKED} else Level.WARNING


def health_of_error(error: KmendError) -> Level:
    """Something that is wrong with what was signed is critical; what could not be looked at is unknown."""
    if isinstance(error, TrustError) and error.reason != Refusal.UNREACHABLE:
        return Level.CRITICAL
    return Level.UNKNOWN


def held_above(status: HostStatus) -> tuple[Quarantine, ...]:
    """Quarantines that keep this host at what it runs, rather than at something newer."""
    running = max((one.number or 0 for one in status.running if one.ours and one.enabled), default=0)
    return tuple(held for held in status.quarantined if held.number > running)


def _held(status: HostStatus) -> list[tuple[Level, str]]:
    return [
        (
            Level.WARNING if held.reason == BY_HAND else Level.CRITICAL,
            f"livepatch {held.number} is held back: {held.reason}",
        )
        for held in held_above(status)
    ]


def _last(status: HostStatus, now: datetime) -> list[tuple[Level, str]]:
    if status.channel is None:
        return [(Level.WARNING, "not enrolled")]
    last = status.last
    if last is None:
        return [(Level.WARNING, "the repository was never looked at")]
    found = []
    if last.error:
        bad = last.error_kind == "TrustError" and last.reason != Refusal.UNREACHABLE
        found.append((Level.CRITICAL if bad else Level.WARNING, f"the last check failed: {last.error}"))
    if last.succeeded is None or now - last.succeeded > _OLD:
        since = f"{last.succeeded:%Y-%m-%d %H:%M} UTC" if last.succeeded else "ever"
        found.append((Level.WARNING, f"no check has succeeded since {since}"))
    if last.verdict == Verdict.AVAILABLE and not any(one.number == last.offered for one in status.running):
        found.append((Level.WARNING, f"livepatch {last.offered} is available"))
    return found


def _server(status: HostStatus, now: datetime) -> list[tuple[Level, str]]:
    server = status.server
    if server is None or not server.error or (server.succeeded and now - server.succeeded <= _SILENT):
        return []
    return [(Level.WARNING, f"the server has not heard of this host: {server.error}")]


def _standing(status: HostStatus) -> list[tuple[Level, str]]:
    found = []
    if status.switched_off:
        found.append((Level.WARNING, status.switched_off.because))
    if status.stalled:
        found.append((Level.WARNING, f"the transition of livepatch {status.stalled.number} did not end"))
    if not status.agrees:
        found.append((Level.WARNING, "the kernel runs another livepatch than the agent remembers"))
    foreign = [one.name for one in status.running if not one.ours]
    if foreign:
        found.append((Level.WARNING, f"other livepatches are loaded: {', '.join(foreign)}"))
    return found
