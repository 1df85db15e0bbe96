"""What happens on the container host: enrol, check, update, and look at the containers all the while."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kmend.cli.demo.guest_clock import MARK, moments
from kmend.cli.demo.report import CHECK_AVAILABLE, AgentRun, HostRecord, Observation
from kmend.cli.demo.timeline import Timeline
from kmend.kit.errors import MachineError
from kmend.lab import kernel_log
from kmend.lab.debian import PROBING
from kmend.lab.host import FORWARDED, ContainerHost
from kmend.lab.probes import together
from kmend.model.lab import ProbeResult

_AGENT = "/root/kmend-agent.pyz"
_ROOT = "/root/root.json"
_CALM_MS = 8000
"""How long the containers are watched before and after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What the host is given by hand: the agent, and the root that it pins."""

    agent: Path
    root: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """How the host stood before anything was done to it."""

    boot_id: str
    build_id: str
    probe: ProbeResult
    at: int
    """Guest's clock, ms."""


def look(host: ContainerHost, timeline: Timeline) -> Before:
    """How the host stands now; sets the marks by which the kernel log's times can be read."""
    with timeline.stage("probe", "Asking the probe inside an unprivileged container") as came:
        for _ in range(3):
            host.must(["sh", "-c", f'echo "{MARK} $(date +%s%3N)" > /dev/kmsg'])
        before = Before(
            boot_id=host.boot_id(),
            build_id=host.build_id(),
            probe=together(host.probe().values()),
            at=host.guest_ms(),
        )
        came.append(f"run inside the unprivileged container “{PROBING}”, it says: {before.probe}")
    return before


def enrol(host: ContainerHost, files: Files, *, channel: str, timeline: Timeline) -> AgentRun:
    """Give the host the agent and the root to pin, and let it follow a channel."""
    with timeline.stage("agent", "Enrolling the host") as came:
        host.put(_AGENT, files.agent.read_bytes())
        host.put(_ROOT, files.root.read_bytes())
        done = _agent(host, ["init", "--root", _ROOT, "--repo", FORWARDED, "--channel", channel], expected=0)
        came.append(f"init → exit {done.exit_code}: {done.said}")
    return done


def apply(
    host: ContainerHost, module: str, *, before: Before, enrolled: AgentRun, timeline: Timeline
) -> HostRecord:
    """Check, update, check again; then collect what the containers saw from the beginning."""
    runs = [enrolled]
    runs.append(_said(host, ["check"], expected=CHECK_AVAILABLE, timeline=timeline))
    _rest(host, until=before.at + _CALM_MS)
    runs.append(_said(host, ["update", "--soak", "10"], expected=0, timeline=timeline))
    with timeline.stage("probe", "Asking the probe again") as came:
        after = together(host.probe().values())
        came.append(f"run inside the unprivileged container “{PROBING}”, it says: {after}")
    runs.append(_said(host, ["check"], expected=0, timeline=timeline))
    runs.append(_status(host, module, timeline))
    with timeline.stage("host", "Watching the containers, and collecting what they saw") as came:
        loaded, begin, end = moments(host.kernel_log(), module)
        _rest(host, until=end + _CALM_MS)
        record = HostRecord(
            accelerator=host.accelerator,
            build_id=before.build_id,
            boot_id_before=before.boot_id,
            boot_id_after=host.boot_id(),
            probe_before=before.probe,
            probe_after=after,
            containers=host.containers(),
            agent=tuple(runs),
            observation=Observation(
                heartbeats=host.heartbeats(),
                verdicts=host.verdicts(),
                loaded=loaded,
                transition_begin=begin,
                transition_end=end,
            ),
            kernel_log_findings=kernel_log.findings(kernel_log.since(host.kernel_log(), MARK)),
        )
        beats = sum(container.heartbeats for container in record.containers)
        came.append(f"{len(record.containers)} containers, {beats:,} heartbeats collected; shutting down")
    return record


def _said(host: ContainerHost, args: Sequence[str], *, expected: int, timeline: Timeline) -> AgentRun:
    with timeline.stage("agent", f"Running kmend-agent {' '.join(args)} on the host") as came:
        done = _agent(host, args, expected=expected)
        came.append(f"{done.verb} → exit {done.exit_code}: {done.said}")
    return done


def _status(host: ContainerHost, module: str, timeline: Timeline) -> AgentRun:
    """Status counts as right when the kernel shows our livepatch enabled and the agent's memory agrees."""
    with timeline.stage("agent", "Asking the agent for the host's status") as came:
        done = _agent(host, ["status", "--json"], expected=0)
        try:
            found = json.loads(done.said)
            enabled = any(one["name"] == module and one["enabled"] for one in found["running"]) and found["agrees"]
        except (ValueError, KeyError, TypeError) as error:
            raise MachineError(f"The agent's status cannot be read ({error}): {done.said[:300]}") from None
        said = f"{module} is enabled and settled" if enabled else f"{module} is not enabled"
        code = done.exit_code if enabled else max(done.exit_code, 1)
        came.append(f"status → exit {done.exit_code}: {said}")
    return AgentRun(verb="status", exit_code=code, expected=0, said=said, seconds=done.seconds)


def _agent(host: ContainerHost, args: Sequence[str], *, expected: int) -> AgentRun:
    begin = time.monotonic()
    code, out, err = host.run(["python3", _AGENT, *args], timeout=300)
    said = (out if code == expected else err + out).strip()
    return AgentRun(
        verb=args[0],
        exit_code=code,
        expected=expected,
        said=said if "--json" in args else " ".join(said.split()),
        seconds=round(time.monotonic() - begin, 1),
    )


def _rest(host: ContainerHost, *, until: int) -> None:
    """Let the containers go on until the guest's clock shows that time."""
    left = (until - host.guest_ms()) / 1000
    if left > 0:
        time.sleep(left)
