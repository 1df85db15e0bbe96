"""Figures for Prometheus: a text file that node_exporter's textfile collector reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from kmend import __version__
from kmend.agent.apply import Host
from kmend.agent.health import health
from kmend.agent.view import HostStatus, status
from kmend.kit.errors import KmendError
from kmend.kit.files import write_atomic
from kmend.model.host import AgentPhase

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """One metric: its name without kmend_, what it means, and values by labels; without values it is left out."""

    name: str
    meaning: str
    values: tuple[tuple[dict[str, str], float], ...]


def publish(host: Host) -> None:
    """Write the file, if the settings name one; a problem with it is logged and stops nothing."""
    if not host.settings.metrics_file:
        return
    try:
        text = exposition(status(host), now=host.clock.now())
        write_atomic(host.root / host.settings.metrics_file.lstrip("/"), text)
    except (KmendError, OSError) as error:
        log.warning("metrics_file %s cannot be written: %s", host.settings.metrics_file, error)


def exposition(found: HostStatus, *, now: datetime) -> str:
    """A status in Prometheus's text format. Pure."""
    lines = []
    for gauge in gauges(found, now=now):
        if gauge.values:
            lines += [f"# HELP kmend_{gauge.name} {gauge.meaning}", f"# TYPE kmend_{gauge.name} gauge"]
            lines += [f"kmend_{gauge.name}{_labels(labels)} {value:.15g}" for labels, value in gauge.values]
    return "\n".join(lines) + "\n"


def gauges(found: HostStatus, *, now: datetime) -> Iterator[Gauge]:
    """All metrics; what is not known has no value."""
    names = {
        "version": __version__,
        "release": found.kernel.release,
        "build_id": found.kernel.build_id,
        "channel": found.channel or "",
    }
    yield Gauge(name="agent_info", meaning="Kernel and channel of this host.", values=((names, 1),))
    phases = tuple(({"phase": str(phase)}, float(phase == found.phase)) for phase in AgentPhase)
    yield Gauge(name="agent_phase", meaning="1 for the phase that the agent is in.", values=phases)
    level = health(found, now=now).level
    yield _one("health", "0 OK, 1 warning, 2 critical, as status --nagios says.", level)
    number = max((one.number or 0 for one in found.running if one.ours and one.enabled), default=0)
    yield _one("livepatch_number", "Number of the livepatch in the kernel, 0 for none.", number)
    closed = _closed(found)
    yield _one("cves_closed", "CVEs that the loaded livepatch closes.", None if closed is None else len(closed))
    yield _one(
        "cves_open", "CVEs that the offered livepatch closes and the loaded one does not.", _open(found, closed)
    )
    yield from _times(found)
    held = tuple(({"number": str(one.number), "reason": one.reason}, 1.0) for one in found.quarantined)
    yield _one("quarantined", "How many livepatches for this kernel are held back here.", len(held))
    yield Gauge(name="quarantine", meaning="1 for each livepatch that is held back, and why.", values=held)
    yield _one("switched_off", "1 while a kill switch is set.", bool(found.switched_off))
    yield _one("transition_stalled", "1 when the last transition did not end.", bool(found.stalled))


def _times(found: HostStatus) -> Iterator[Gauge]:
    last = found.last
    checked = last.at.timestamp() if last else None
    succeeded = last.succeeded.timestamp() if last and last.succeeded else None
    yield _one("last_check_timestamp_seconds", "When the repository was last looked at.", checked)
    yield _one("last_success_timestamp_seconds", "When that last succeeded.", succeeded)


def _closed(found: HostStatus) -> set[str] | None:
    """What is closed by kmend's livepatches in effect; None when one of them is not known."""
    ours = [one for one in found.running if one.ours and one.enabled and not one.in_transition]
    if any(one.cves is None for one in ours):
        return None
    return {cve for one in ours for cve in one.cves or ()}


def _open(found: HostStatus, closed: set[str] | None) -> int | None:
    last = found.last
    if closed is None or last is None or last.succeeded is None or last.build_id != found.kernel.build_id:
        return None
    return len(set(last.cves) - closed)


def _one(name: str, meaning: str, value: float | None) -> Gauge:
    return Gauge(name=name, meaning=meaning, values=() if value is None else (({}, float(value)),))


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
