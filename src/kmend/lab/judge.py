"""What counts as a failure. Pure: facts in, a reason out; an empty string means that all is well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kmend.model.lab import ContainerRecord, ProbeResult

GAP_LIMIT_MS = {"kvm": 1000.0, "tcg": 5000.0}
"""Longest pause between two heartbeats of a container; software emulation on a busy machine stutters by itself."""

Answers = Mapping[str, ProbeResult]


def probes_before(answers: Answers) -> str:
    """No probe may call the kernel fixed before the livepatch is there: then it proves nothing."""
    wrong = _names(answers, ProbeResult.FIXED)
    return f"the bug is not there before the livepatch is loaded, says {wrong}" if wrong else ""


def probes_after(before: Answers, after: Answers) -> str:
    """What was vulnerable must be fixed, and nothing may be vulnerable."""
    said = {name: after.get(name, ProbeResult.UNKNOWN) for name in before}
    wrong = [
        f"{name} says {result}"
        for name, result in said.items()
        if result is ProbeResult.VULNERABLE
        or (before[name] is ProbeResult.VULNERABLE and result is not ProbeResult.FIXED)
    ]
    return f"the bug is not shown to be gone with the livepatch: {', '.join(wrong)}" if wrong else ""


def probes_unloaded(before: Answers, unloaded: Answers) -> str:
    """Without the livepatch everything must be as it was before."""
    wrong = [
        f"{name} said {before[name]}, now {unloaded.get(name, ProbeResult.UNKNOWN)}"
        for name in before
        if before[name] is ProbeResult.VULNERABLE and unloaded.get(name) is not ProbeResult.VULNERABLE
    ]
    return f"taking the livepatch out did not bring the old code back: {', '.join(wrong)}" if wrong else ""


def containers(records: Iterable[ContainerRecord], *, accelerator: str) -> str:
    """No container may have restarted, lost its connection or paused for long."""
    return "; ".join(fault for record in records for fault in _container(record, GAP_LIMIT_MS[accelerator]))


def _container(record: ContainerRecord, limit: float) -> Iterable[str]:
    if record.restarts or record.started_at != record.started_at_after:
        yield f"container {record.name} restarted"
    if not record.heartbeats:
        yield f"container {record.name} has no heartbeat"
    if record.longest_gap_ms > limit:
        yield f"container {record.name} paused for {record.longest_gap_ms:.0f} ms (limit {limit:.0f} ms)"
    if not record.connection_kept:
        yield f"container {record.name} lost its connection"


def _names(answers: Answers, result: ProbeResult) -> str:
    return ", ".join(name for name, said in answers.items() if said is result)
