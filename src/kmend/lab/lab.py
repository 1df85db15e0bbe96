"""Proves a built livepatch in a VM and writes labreport.json: the door of this package."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from kmend.kit.cache import cache_root
from kmend.kit.files import scratch, write_atomic
from kmend.kit.progress import Progress
from kmend.lab.accelerator import accelerator as find_accelerator
from kmend.lab.channel import LostGuest
from kmend.lab.guest import GuestFault, StagedGuest
from kmend.lab.guests import host_disk
from kmend.lab.host import container_host
from kmend.lab.machine import read_console
from kmend.lab.quick import quick_guest
from kmend.lab.reporting import REPORT, Trial, begin_trial, read_built, report_of
from kmend.lab.scenario import Course, play
from kmend.model import wire
from kmend.model.kernel import Kit
from kmend.model.lab import LabReport, Profile

SOAK = {Profile.QUICK: 5.0, Profile.HOST: 15.0}
"""Seconds under load when nothing else is asked for."""


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
    built = read_built(kit, folder)
    chosen = find_accelerator(kit, progress)
    trial = begin_trial(kit, built, profile=profile, accelerator=chosen)
    seconds = SOAK[profile] if soak is None else soak
    limit = seconds + (900 if profile is Profile.QUICK else 2400) if limit is None else limit
    if profile is Profile.HOST:
        host_disk(kit, accelerator=chosen, progress=progress)
    course = Course(progress=progress)
    with scratch(cache_root() / "lab", prefix=f"{profile}-") as place:
        _try(course, trial, place, soak=seconds, silence=silence, limit=limit)
        report = report_of(course, trial, console=read_console(place))
    write_atomic(folder / REPORT, wire.dump(report))
    return report


def _try(course: Course, trial: Trial, place: Path, *, soak: float, silence: float, limit: float) -> None:
    built = trial.built
    with ExitStack() as stack:
        try:
            with course.step("boot", f"Booting {trial.kit.kernel.release} ({trial.accelerator})"):
                guest = stack.enter_context(_guest(trial, place, silence=silence, limit=limit))
            play(course, guest, built.livepatch, built.module.read_bytes(), soak=soak)
        except (LostGuest, GuestFault) as fault:
            course.failure = course.failure or fault.message


def _guest(trial: Trial, place: Path, *, silence: float, limit: float) -> AbstractContextManager[StagedGuest]:
    if trial.profile is Profile.HOST:
        return container_host(
            trial.kit,
            probes=trial.built.probes,
            accelerator=trial.accelerator,
            folder=place,
            silence=silence,
            limit=limit,
        )
    return quick_guest(
        trial.kit,
        place,
        accelerator=trial.accelerator,
        probes=trial.built.probes,
        spare_modules=sorted({function.object for function in trial.built.livepatch.functions}),
        silence=silence,
        limit=limit,
    )
