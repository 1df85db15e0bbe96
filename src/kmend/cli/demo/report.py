"""What the demo measured, and what has to hold of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kmend.cli.demo.words import clock
from kmend.lab import judge
from kmend.model.lab import ContainerRecord, LabReport, ProbeResult, Profile
from kmend.model.livepatch import Livepatch

CHECK_AVAILABLE = 10
"""What ``agent check`` ends with when a livepatch is available."""
_AGENT_CLAIMS = {
    ("init", 0): "The host enrolled: it pinned the root and follows a channel",
    ("check", CHECK_AVAILABLE): "The agent found a livepatch for this very kernel",
    ("update", 0): "The agent verified it and loaded it",
    ("check", 0): "The agent then found nothing left to do",
    ("status", 0): "The kernel shows the livepatch enabled, and the agent's memory agrees",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of the timeline."""

    seconds: float
    """Since the demo began, when the step had ended."""
    took: float
    area: str
    """One word: which part of kmend was at work."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRun:
    """One run of the agent on the host."""

    verb: str
    exit_code: int
    expected: int
    said: str
    """Its answer in one line."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One sentence that has to hold for the demo to have succeeded."""

    text: str
    holds: bool
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the container host and its containers noted. Times are ms since 1970 by the guest's clock."""

    heartbeats: dict[str, tuple[int, ...]]
    verdicts: tuple[tuple[int, ProbeResult], ...]
    """What the probe said inside the container, each time it ran."""
    loaded: int
    """When the kernel began to enable the livepatch."""
    transition_begin: int
    transition_end: int

    @property
    def flipped(self) -> int | None:
        """When the probe said "fixed" for the first time after the livepatch was loaded."""
        later = (at for at, verdict in self.verdicts if at >= self.loaded and verdict is ProbeResult.FIXED)
        return next(later, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """The container host from when it was up until it was shut down."""

    accelerator: str
    build_id: str
    """Of the running kernel, as the kernel itself says."""
    boot_id_before: str
    boot_id_after: str
    probe_before: ProbeResult
    probe_after: ProbeResult
    containers: tuple[ContainerRecord, ...]
    agent: tuple[AgentRun, ...]
    observation: Observation
    kernel_log_findings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """build/demo/report.json. Everything in it was measured in this run."""

    kernel_release: str
    kernel_version: str
    build_id: str
    fixed_in: str
    """The package version that the fix was derived from."""
    fix: str
    title: str
    cves: tuple[str, ...]
    livepatch_number: int
    functions_replaced: int
    bytes_proven: int
    probe_before: ProbeResult
    probe_after: ProbeResult
    containers: int
    containers_restarted: int
    connections_kept: int
    container_records: tuple[ContainerRecord, ...]
    max_heartbeat_gap_ms: float
    """Longest pause between two heartbeats of a container, from when all were up until the end."""
    max_heartbeat_gap_at_load_ms: float
    """The same while the livepatch was loaded, in transition, and for a second before and after."""
    typical_heartbeat_gap_ms: float
    """Median."""
    boot_id_before: str
    boot_id_after: str
    transition_ms: float
    probe_flip_ms: float | None
    """From loading until the probe in the container said "fixed" for the first time; None if it never did."""
    build_seconds: float
    lab_profile: Profile
    lab_seconds: float
    lab_transition_ms: float
    accelerator: str
    agent: tuple[AgentRun, ...]
    demo_seconds: float
    passed: bool
    claims: tuple[Claim, ...]
    timeline: tuple[Moment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the fix came from, for the report."""

    fix: str
    title: str
    fixed_in: str


def report_of(
    source: Source,
    livepatch: Livepatch,
    *,
    lab: LabReport,
    host: HostRecord,
    build_seconds: float,
    demo_seconds: float,
    timeline: Sequence[Moment],
) -> DemoReport:
    """Everything that was measured, as one record with its claims."""
    seen = host.observation
    claims = claims_of(livepatch, lab, host)
    around = (seen.loaded - 1000, seen.transition_end + 1000)
    return DemoReport(
        kernel_release=livepatch.kernel.release,
        kernel_version=livepatch.kernel.version,
        build_id=host.build_id,
        fixed_in=source.fixed_in,
        fix=source.fix,
        title=source.title,
        cves=livepatch.cves,
        livepatch_number=livepatch.number,
        functions_replaced=len(livepatch.functions),
        bytes_proven=sum(function.bytes_proven for function in livepatch.functions),
        probe_before=host.probe_before,
        probe_after=host.probe_after,
        containers=len(host.containers),
        containers_restarted=sum(restarted(record) for record in host.containers),
        connections_kept=sum(record.connection_kept for record in host.containers),
        container_records=host.containers,
        max_heartbeat_gap_ms=max((record.longest_gap_ms for record in host.containers), default=0.0),
        max_heartbeat_gap_at_load_ms=max(
            (longest_gap(beats, *around) for beats in seen.heartbeats.values()), default=0
        ),
        typical_heartbeat_gap_ms=typical_gap(seen.heartbeats.values()),
        boot_id_before=host.boot_id_before,
        boot_id_after=host.boot_id_after,
        transition_ms=float(seen.transition_end - seen.transition_begin),
        probe_flip_ms=None if seen.flipped is None else float(seen.flipped - seen.loaded),
        build_seconds=round(build_seconds, 1),
        lab_profile=lab.profile,
        lab_seconds=round(lab.seconds, 1),
        lab_transition_ms=lab.transition_ms,
        accelerator=host.accelerator,
        agent=host.agent,
        demo_seconds=round(demo_seconds, 1),
        passed=all(claim.holds for claim in claims),
        claims=claims,
        timeline=tuple(timeline),
    )


def claims_of(livepatch: Livepatch, lab: LabReport, host: HostRecord) -> tuple[Claim, ...]:
    """What the demo claims, each with the evidence for it."""
    return (*_about_the_kernel(livepatch, lab, host), *_about_the_containers(host), *map(_agent_claim, host.agent))


def _about_the_kernel(livepatch: Livepatch, lab: LabReport, host: HostRecord) -> Iterable[Claim]:
    yield Claim(
        text="The lab proved this very module in a VM before it was published",
        holds=lab.passed and lab.livepatch_sha256 == livepatch.sha256,
        evidence=f"{sum(step.passed for step in lab.steps)} of {len(lab.steps)} steps passed",
    )
    yield Claim(
        text="The host runs the kernel that the livepatch was built for",
        holds=host.build_id == livepatch.kernel.build_id,
        evidence=f"build id {host.build_id}",
    )
    yield Claim(
        text="The hole was open before, and is closed now, seen from inside an unprivileged container",
        holds=host.probe_before is ProbeResult.VULNERABLE
        and host.probe_after is ProbeResult.FIXED
        and host.observation.flipped is not None,
        evidence=f"{host.probe_before}, then {host.probe_after}",
    )
    yield Claim(
        text="The host did not reboot",
        holds=host.boot_id_before == host.boot_id_after != "",
        evidence=f"boot id {host.boot_id_after}",
    )
    yield Claim(
        text="The kernel log has no oops, warning or stall",
        holds=not host.kernel_log_findings,
        evidence=host.kernel_log_findings[0] if host.kernel_log_findings else "clean",
    )


def _about_the_containers(host: HostRecord) -> Iterable[Claim]:
    records = host.containers
    yield Claim(
        text="No container was restarted",
        holds=bool(records) and not any(restarted(record) for record in records),
        evidence=", ".join(f"{record.name} since {clock(record.started_at_after)}" for record in records),
    )
    kept = sum(record.connection_kept for record in records)
    yield Claim(
        text="Every container kept its network connection",
        holds=bool(records) and kept == len(records),
        evidence=f"{kept} of {len(records)}",
    )
    fault = judge.containers(records, accelerator=host.accelerator)
    beaten = all(
        beats and beats[-1] > host.observation.transition_end for beats in host.observation.heartbeats.values()
    )
    longest = max((record.longest_gap_ms for record in records), default=0.0)
    yield Claim(
        text="Every container's heart beat all the way through",
        holds=not fault and beaten and len(host.observation.heartbeats) == len(records),
        evidence=fault or f"longest pause {longest:.0f} ms",
    )


def _agent_claim(run: AgentRun) -> Claim:
    """Each run of the agent ended as it should have."""
    wrong = "" if run.exit_code == run.expected else f" instead of {run.expected}"
    return Claim(
        text=_AGENT_CLAIMS[run.verb, run.expected],
        holds=run.exit_code == run.expected,
        evidence=f"agent {run.verb} ended with {run.exit_code}{wrong}: {run.said}",
    )


def restarted(record: ContainerRecord) -> bool:
    """Whether a container is not the one that it was."""
    return record.restarts > 0 or record.started_at != record.started_at_after


def longest_gap(beats: Sequence[int], begin: int, end: int) -> float:
    """The longest pause, in ms, that lies at least partly between two moments."""
    pairs = pairwise(beats)
    return float(max((after - before for before, after in pairs if after >= begin and before <= end), default=0))


def typical_gap(hearts: Iterable[Sequence[int]]) -> float:
    """The median pause between two heartbeats of all containers, in ms; 0 without any."""
    gaps = sorted(after - before for beats in hearts for before, after in pairwise(beats))
    return float(gaps[len(gaps) // 2]) if gaps else 0.0
