"""Proves a built livepatch in a VM and writes labreport.json: the door of this package."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kmend.kit.cache import cache_root
from kmend.kit.errors import InputError
from kmend.kit.files import scratch, sha256_of, write_atomic
from kmend.kit.progress import Progress
from kmend.lab import kernel_log
from kmend.lab.accelerator import accelerator as find_accelerator
from kmend.lab.channel import LostGuest
from kmend.lab.guest import GuestFault, StagedGuest
from kmend.lab.guests import host_disk
from kmend.lab.host import container_host
from kmend.lab.machine import read_console
from kmend.lab.probes import read_probes, together
from kmend.lab.quick import quick_guest
from kmend.lab.scenario import Course, play
from kmend.model import wire
from kmend.model.kernel import Kit
from kmend.model.lab import LabReport, ProbeRecord, ProbeResult, Profile
from kmend.model.livepatch import Livepatch

REPORT = "labreport.json"
SOAK = {Profile.QUICK: 5.0, Profile.HOST: 15.0}
"""Seconds under load when nothing else is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    livepatch: Livepatch
    module: Path
    probes: Mapping[str, str]


def run_lab(
    kit: Kit,
    folder: Path,
    *,
    profile: Profile = Profile.QUICK,
    soak: float | None = None,
    silence: float = 120,
    limit: float | None = None,
    progress: Progress,
) -> LabReport:
    """Prove the livepatch that ``kmend build`` left in a folder; the report is also written there.

    A panic, a hang, a lost VM or a step that goes wrong is a report with ``passed`` False, not an exception.

    Args:
        kit: The kernel that the livepatch is for.
        folder: With livepatch.ko, livepatch.json and probes/.
        profile: How much of a container host the VM is.
        soak: Seconds under load; a profile's own when None.
        silence: Seconds without a sign of life after which the guest counts as hung.
        limit: Seconds for all of it; 900 (quick) or 2400 (host) and the soak when None.
        progress: Hears of each step.

    Raises:
        InputError: The folder does not hold a livepatch for this kernel.
        MachineError: This machine cannot run the lab at all (no QEMU, no space).
    """
    built = _read(kit, folder)
    started, begun = datetime.now(UTC), time.monotonic()
    seconds = SOAK[profile] if soak is None else soak
    limit = seconds + (900 if profile is Profile.QUICK else 2400) if limit is None else limit
    chosen = find_accelerator(kit, progress)
    if profile is Profile.HOST:
        host_disk(kit, accelerator=chosen, progress=progress)
    course = Course(progress=progress)
    with scratch(cache_root() / "lab", prefix=f"{profile}-") as place:
        stage = _Stage(kit=kit, built=built, folder=place, profile=profile, accelerator=chosen, limit=limit)
        _try(course, stage, soak=seconds, silence=silence)
        report = _report(course, stage, console=read_console(place), started=started, begun=begun)
    write_atomic(folder / REPORT, wire.dump(report))
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    kit: Kit
    built: _Built
    folder: Path
    profile: Profile
    accelerator: str
    limit: float


def _try(course: Course, stage: _Stage, *, soak: float, silence: float) -> None:
    with ExitStack() as stack:
        try:
            with course.step("boot", f"Booting {stage.kit.kernel.release} ({stage.accelerator})"):
                guest = stack.enter_context(_guest(stage, silence))
            play(course, guest, stage.built.livepatch, stage.built.module.read_bytes(), soak=soak)
        except (LostGuest, GuestFault) as fault:
            course.failure = course.failure or fault.message


def _guest(stage: _Stage, silence: float) -> AbstractContextManager[StagedGuest]:
    if stage.profile is Profile.HOST:
        return container_host(
            stage.kit,
            probes=stage.built.probes,
            accelerator=stage.accelerator,
            folder=stage.folder,
            silence=silence,
            limit=stage.limit,
        )
    return quick_guest(
        stage.kit,
        stage.folder,
        accelerator=stage.accelerator,
        probes=stage.built.probes,
        spare_modules=sorted({function.object for function in stage.built.livepatch.functions}),
        silence=silence,
        limit=stage.limit,
    )


def _report(course: Course, stage: _Stage, *, console: str, started: datetime, begun: float) -> LabReport:
    log = course.log or console
    return LabReport(
        kernel=stage.kit.kernel,
        livepatch_number=stage.built.livepatch.number,
        livepatch_sha256=stage.built.livepatch.sha256,
        profile=stage.profile,
        accelerator=stage.accelerator,
        passed=not course.failure,
        failure=course.failure,
        probe_before=together(course.before.values()),
        probe_after=together(course.after.values()),
        probe_unloaded=together(course.unloaded.values()),
        probes=tuple(_probe_record(name, course) for name in stage.built.probes),
        transition_ms=course.transition_ms,
        boot_id_before=course.boot_id_before,
        boot_id_after=course.boot_id_after,
        containers=course.containers,
        steps=tuple(course.steps),
        kernel_log_findings=kernel_log.findings(log),
        console_tail=kernel_log.tail(console) if course.failure else (),
        started=started,
        seconds=round(time.monotonic() - begun, 3),
    )


def _probe_record(name: str, course: Course) -> ProbeRecord:
    unknown = ProbeResult.UNKNOWN
    return ProbeRecord(
        name=name,
        before=course.before.get(name, unknown),
        after=course.after.get(name, unknown),
        unloaded=course.unloaded.get(name, unknown),
    )


def _read(kit: Kit, folder: Path) -> _Built:
    manifest, module = folder / "livepatch.json", folder / "livepatch.ko"
    for path in (manifest, module):
        if not path.is_file():
            raise InputError(f"{folder} holds no {path.name}.", hint="Make the livepatch with `kmend build`.")
    livepatch = wire.load(Livepatch, manifest.read_bytes(), what=str(manifest))
    wanted, given = livepatch.kernel, kit.kernel
    if wanted.build_id != given.build_id:
        raise InputError(
            f"The livepatch is for {wanted.release} {wanted.version} (build id {wanted.build_id}), "
            f"not for {given.release} {given.version} ({given.build_id}).",
            hint=f"Run the lab with --kernel {wanted.release}, or build it for the other kernel.",
        )
    if sha256_of(module) != livepatch.sha256:
        raise InputError(f"{module} is not the module that {manifest.name} speaks of.", hint="Build it again.")
    return _Built(livepatch=livepatch, module=module, probes=read_probes(folder))
