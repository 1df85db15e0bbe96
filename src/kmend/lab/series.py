"""Proves many livepatches in few boots: one after the other in the same VM, for as long as all goes well."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kmend.kit.cache import cache_root
from kmend.kit.files import scratch, write_atomic
from kmend.kit.progress import Progress, Silent
from kmend.lab.accelerator import accelerator as find_accelerator
from kmend.lab.channel import LostGuest
from kmend.lab.guest import GuestFault
from kmend.lab.lab import run_lab
from kmend.lab.machine import read_console
from kmend.lab.quick import QuickGuest, quick_guest
from kmend.lab.reporting import REPORT, Built, Trial, begin_trial, read_built, report_of
from kmend.lab.scenario import Course, play_in_series
from kmend.model import wire
from kmend.model.kernel import Kit
from kmend.model.lab import LabReport, Profile

SOAK = 1.0
"""Seconds under load for each livepatch of a series."""
_BOOT_LIMIT = 600.0
_EACH_LIMIT = 120.0

Proofs = Generator[tuple[Path, LabReport], None, None]
"""Folders of livepatches with their reports."""


def run_lab_series(
    kit: Kit, folders: Sequence[Path], *, soak: float = SOAK, silence: float = 120, progress: Progress
) -> Proofs:
    """Prove livepatches in the quick profile: load, soak, unload, load, unload, kernel log clean; then the next.

    What goes wrong ends the boot, and is tried once more in a VM of its own, as ``run_lab`` does: only that
    decides. When it holds there, what went before it in its boot is under suspicion, and is tried alone as well.
    A livepatch with probes gets a VM of its own at once.

    Args:
        kit: The kernel that all of them are for.
        folders: As `kmend build` leaves them; labreport.json is written into each.
        soak: Seconds under load for each one.
        silence: Seconds without a sign of life after which the guest counts as hung.
        progress: Hears of each livepatch.

    Yields:
        Folder and report, as soon as each is known; of two for the same folder the later one counts.

    Raises:
        InputError: A folder does not hold a livepatch for this kernel.
        MachineError: This machine cannot run the lab at all.
    """
    built = [read_built(kit, folder) for folder in folders]
    series = _Series(kit=kit, accelerator=find_accelerator(kit, progress), soak=soak, silence=silence)
    alone = [one for one in built if one.probes or len(built) == 1]
    waiting = [one for one in built if one not in alone]
    while waiting:
        progress.step(f"Proving {len(waiting)} livepatches in one VM")
        held: list[Built] = []
        broken = False
        with closing(series.boot(waiting)) as reports:
            for one, report in reports:
                progress.amount(len(held) + 1, len(waiting), unit="livepatches")
                broken = not report.passed
                if report.passed:
                    held.append(one)
                    write_atomic(one.folder / REPORT, wire.dump(report))
                    yield one.folder, report
        waiting = waiting[len(held) :]
        if broken:
            again = run_lab(kit, waiting[0].folder, progress=progress)
            yield waiting.pop(0).folder, again
            alone += held if again.passed else []
    for one in alone:
        yield one.folder, run_lab(kit, one.folder, progress=progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    kit: Kit
    accelerator: str
    soak: float
    silence: float

    def boot(self, waiting: Sequence[Built]) -> Generator[tuple[Built, LabReport], None, None]:
        """One boot: reports until one does not pass, or all have had their turn."""
        with scratch(cache_root() / "lab", prefix="series-") as place:
            first = self._trial(waiting[0])
            try:
                guest = quick_guest(
                    self.kit,
                    place,
                    accelerator=self.accelerator,
                    probes={},
                    spare_modules=_reached(waiting),
                    silence=self.silence,
                    limit=_BOOT_LIMIT + _EACH_LIMIT * len(waiting),
                )
                with guest as running:
                    yield from self._one_by_one(waiting, running, place)
            except LostGuest as fault:  # it did not come up
                course = Course(progress=Silent(), place=1, failure=f"boot: {fault.message}")
                yield waiting[0], report_of(course, first, console=read_console(place))

    def _one_by_one(
        self, waiting: Sequence[Built], guest: QuickGuest, place: Path
    ) -> Iterator[tuple[Built, LabReport]]:
        for number, built in enumerate(waiting, 1):
            trial = self._trial(built)
            course = Course(progress=Silent(), place=number)
            try:
                play_in_series(course, guest, built.livepatch, built.module.read_bytes(), soak=self.soak)
            except (LostGuest, GuestFault) as fault:
                course.failure = course.failure or fault.message
            yield built, report_of(course, trial, console=read_console(place))
            if course.failure:
                return

    def _trial(self, built: Built) -> Trial:
        return begin_trial(self.kit, built, profile=Profile.QUICK, accelerator=self.accelerator)


def _reached(waiting: Sequence[Built]) -> list[str]:
    """Everything that the livepatches reach."""
    return sorted({function.object for built in waiting for function in built.livepatch.functions})
