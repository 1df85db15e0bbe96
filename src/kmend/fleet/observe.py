"""What two reports of one host, one after the other, say of what happened in between. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from kmend.model.fleet import EventKind, HostReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One thing that happened on the host, as an event is to tell it."""

    kind: EventKind
    text: str


def observe(before: HostReport | None, now: HostReport) -> tuple[Observation, ...]:
    """What happened between two reports; without an earlier one only what the new one says by itself."""
    return (*_reboot(before, now), *_kernel(before, now), *_troubles(before, now), *_update(before, now))


def _reboot(before: HostReport | None, now: HostReport) -> list[Observation]:
    if before is None or before.boot_id == now.boot_id or not now.unexpected_reboot:
        return []
    number = before.running
    what = f" while livepatch {number} was {before.phase}" if number is not None else ""
    return [Observation(kind=EventKind.REBOOTED, text=f"rebooted without an orderly shutdown{what}")]


def _kernel(before: HostReport | None, now: HostReport) -> list[Observation]:
    if before is None or before.kernel.build_id == now.kernel.build_id:
        return []
    text = f"runs {now.kernel.release}, no longer {before.kernel.release}"
    return [Observation(kind=EventKind.KERNEL, text=text)]


def _troubles(before: HostReport | None, now: HostReport) -> list[Observation]:
    known = {(one.build_id, one.number) for one in before.quarantined} if before else set()
    found = [
        Observation(kind=EventKind.QUARANTINED, text=f"quarantined livepatch {one.number}: {one.reason}")
        for one in now.quarantined
        if (one.build_id, one.number) not in known
    ]
    if now.failure and now.failure != (before.failure if before else None):
        text = f"could not load livepatch {now.failure.number}: {now.failure.reason}"
        found.append(Observation(kind=EventKind.FAILED, text=text))
    return found


def _update(before: HostReport | None, now: HostReport) -> list[Observation]:
    was = before.running if before and before.kernel.build_id == now.kernel.build_id else None
    if before is None or was == now.running:
        return []
    text = "runs no livepatch any more" if now.running is None else f"runs livepatch {now.running}"
    return [Observation(kind=EventKind.UPDATED, text=text)]
