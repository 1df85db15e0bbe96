"""What came of the last look at the repository; for status, monitoring and metrics. Never decides anything."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from kmend.agent.config import Paths
from kmend.agent.decide import Decision, Verdict
from kmend.kit.errors import InputError, KmendError
from kmend.kit.files import write_atomic
from kmend.model import wire


@dataclass(frozen=True, slots=True, kw_only=True)
class LastCheck:
    """The last look, and the last one that succeeded."""

    at: datetime
    error: str
    """Why it failed; empty when it did not."""
    error_kind: str
    reason: str
    """Of a TrustError."""
    succeeded: datetime | None
    """None when none ever did."""
    build_id: str
    """Of the kernel that ran at the last success; empty before."""
    verdict: Verdict | None
    """Of the last success, as the rest."""
    because: str
    offered: int | None
    cves: tuple[str, ...]
    """Closed by the offered one."""


def load_last(paths: Paths) -> LastCheck | None:
    """What was remembered; None when there is nothing, or it cannot be read."""
    try:
        return wire.load(LastCheck, paths.last.read_bytes(), what=str(paths.last))
    except (OSError, InputError):
        return None


def note_success(paths: Paths, decision: Decision, *, now: datetime) -> None:
    """Remember a look that succeeded; a full disk is no reason to fail for this."""
    last = LastCheck(
        at=now,
        error="",
        error_kind="",
        reason="",
        succeeded=now,
        build_id=decision.kernel.build_id,
        verdict=decision.verdict,
        because=decision.because,
        offered=decision.offered,
        cves=decision.cves,
    )
    _save(paths, last)


def note_failure(paths: Paths, error: KmendError, *, now: datetime) -> None:
    """Remember a look that failed, beside the last one that did not."""
    before = load_last(paths)
    last = LastCheck(
        at=now,
        error=error.message,
        error_kind=type(error).__name__,
        reason=str(getattr(error, "reason", "")),
        succeeded=before.succeeded if before else None,
        build_id=before.build_id if before else "",
        verdict=before.verdict if before else None,
        because=before.because if before else "",
        offered=before.offered if before else None,
        cves=before.cves if before else (),
    )
    _save(paths, last)


def _save(paths: Paths, last: LastCheck) -> None:
    with suppress(OSError):
        write_atomic(paths.last, wire.dump(last), mode=0o600)
