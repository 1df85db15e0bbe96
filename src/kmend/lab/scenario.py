"""The scenario: what is done to a livepatch in the VM, step by step. Reads like the table of contents."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kmend.kit.progress import Progress
from kmend.lab import judge, kernel_log
from kmend.lab.channel import TIMED_OUT, LostGuest
from kmend.lab.guest import GuestFault, StagedGuest
from kmend.model.lab import ContainerRecord, LabStep, ProbeResult
from kmend.model.livepatch import Livepatch

MODULE_FILE = "/run/kmend-livepatch.ko"
# What the init function of a driver, or of a module that it needs, says where its hardware is missing.
_NO_DEVICE = re.compile("No such device|Operation not supported")
# Taint flags that tell of a kernel that is no longer whole: machine check, bad page, oops, WARN, soft lockup
# (Documentation/admin-guide/tainted-kernels.rst).
_BROKEN = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 9 | 1 << 14
_TRANSITION_LIMIT = 120.0
_UNLOAD_LIMIT = 60.0

# Reads what livepatches often touch, starts processes, uses pipes and sockets; ended by its time limit.
_LOAD = """
work() {
  while :; do
    cat /proc/cmdline /proc/meminfo /proc/self/maps /proc/self/mountinfo /proc/net/unix >/dev/null 2>&1
    ls -R /proc/self /sys/kernel/livepatch >/dev/null 2>&1
    dd if=/dev/zero bs=65536 count=8 2>/dev/null | md5sum >/dev/null
  done
}
work & work
"""


@dataclass(kw_only=True)
class Course:
    """What has happened so far; filled while the scenario runs, so that a lost VM still leaves a report."""

    progress: Progress
    place: int = 0
    """Place in a series in one boot, from 1; 0 when the guest is its own."""
    steps: list[LabStep] = field(default_factory=list)
    failure: str = ""
    before: dict[str, ProbeResult] = field(default_factory=dict)
    after: dict[str, ProbeResult] = field(default_factory=dict)
    unloaded: dict[str, ProbeResult] = field(default_factory=dict)
    transition_ms: float = 0.0
    boot_id_before: str = ""
    boot_id_after: str = ""
    taint: int = 0
    """The kernel's taint flags when it began."""
    containers: tuple[ContainerRecord, ...] = ()
    unreached: list[str] = field(default_factory=list)
    """Modules that the livepatch is for and that could not be loaded in this guest."""
    log: str = ""
    """Kernel log since the scenario began, boot excluded."""

    @property
    def begin_mark(self) -> str:
        """The line in the kernel log with which this course begins."""
        return f"kmend-lab: scenario {self.place} begins"

    @property
    def end_mark(self) -> str:
        """The line with which it ends."""
        return f"kmend-lab: scenario {self.place} ends"

    def log_so_far(self, guest: StagedGuest) -> str:
        """The kernel log since this course began, until it ended."""
        return kernel_log.since(guest.kernel_log(), self.begin_mark).partition(self.end_mark)[0]

    @contextmanager
    def step(self, name: str, text: str) -> Iterator[list[str]]:
        """One step: add its detail to the list; raise GuestFault to fail it. Ends the scenario when it fails."""
        self.progress.step(text)
        begun = time.monotonic()
        detail: list[str] = []
        try:
            yield detail
        except (GuestFault, LostGuest) as fault:
            self.failure = f"{name}: {fault.message}"
            self._note(name, begun, passed=False, detail=fault.message)
            raise
        self._note(name, begun, passed=True, detail="; ".join(detail))

    def _note(self, name: str, begun: float, *, passed: bool, detail: str) -> None:
        seconds = round(time.monotonic() - begun, 3)
        self.steps.append(LabStep(name=name, passed=passed, seconds=seconds, detail=detail))


def play(course: Course, guest: StagedGuest, livepatch: Livepatch, module: bytes, *, soak: float) -> None:
    """Run the whole scenario on a booted guest.

    Raises:
        GuestFault: A step failed; ``course.failure`` says which and why.
        LostGuest: The guest died or hangs; likewise.
    """
    with _watched(course, guest):
        _begin(course, guest, livepatch, module)
        _probe_before(course, guest)
        _load(course, guest, livepatch)
        _late_modules(course, guest, livepatch)
        _probe_after(course, guest)
        _soak(course, guest, soak)
        _unload(course, guest, livepatch)
        _probe_unloaded(course, guest)
        _reload(course, guest, livepatch)
        _look_back(course, guest)


def play_in_series(
    course: Course, guest: StagedGuest, livepatch: Livepatch, module: bytes, *, soak: float
) -> None:
    """Run what a livepatch without probes needs, and leave the guest without it, for the next one.

    Raises:
        GuestFault: As ``play``.
        LostGuest: As ``play``.
    """
    with _watched(course, guest):
        _begin(course, guest, livepatch, module)
        _load(course, guest, livepatch)
        _late_modules(course, guest, livepatch)
        _soak(course, guest, soak)
        _unload(course, guest, livepatch)
        _reload(course, guest, livepatch)
        _unload(course, guest, livepatch)
        _look_back(course, guest)


@contextmanager
def _watched(course: Course, guest: StagedGuest) -> Iterator[None]:
    try:
        yield
    finally:
        course.log = course.log_so_far(guest)
        found = kernel_log.findings(course.log)
        if course.failure and found and found[0] not in course.failure:
            course.failure += f" (kernel: {found[0]})"


def _begin(course: Course, guest: StagedGuest, livepatch: Livepatch, module: bytes) -> None:
    with course.step("prepare", "Checking the guest's kernel") as detail:
        running = guest.build_id()
        expected = livepatch.kernel.build_id
        _demand(running == expected, f"the guest runs build id {running or 'unknown'}, not {expected}")
        course.boot_id_before = guest.boot_id()
        course.taint = guest.taint()
        guest.put(MODULE_FILE, module)
        guest.mark_log(course.begin_mark)
        detail.append(f"build id {running}")


def _probe_before(course: Course, guest: StagedGuest) -> None:
    with course.step("probe-before", "Asking the probes before") as detail:
        course.before = guest.probe()
        detail.append(_said(course.before))
        _demand_none(judge.probes_before(course.before))


def _load(course: Course, guest: StagedGuest, livepatch: Livepatch) -> None:
    with course.step("load", f"Loading {livepatch.module}"):
        _demand_none(guest.load(MODULE_FILE))
    with course.step("transition", "Waiting for the transition") as detail:
        waited = _wait_transition(guest, livepatch.module, target=1)
        measured = kernel_log.transition_ms(course.log_so_far(guest), livepatch.module)
        course.transition_ms = round(waited if measured is None else measured, 1)
        detail.append(f"{course.transition_ms:.0f} ms")


def _late_modules(course: Course, guest: StagedGuest, livepatch: Livepatch) -> None:
    """A livepatch for a module that is not loaded must take effect when it is loaded."""
    late = sorted({function.object for function in livepatch.functions} - {"vmlinux"} - guest.loaded_modules())
    for name in late:
        with course.step("late-module", f"Loading {name} under the livepatch") as detail:
            try:
                guest.modprobe(name)
            except GuestFault as fault:
                detail.append(_without_module(course, guest, livepatch, name, fault))
                continue
            patched = guest.livepatch_fact(livepatch.module, f"{name}/patched")
            _demand(patched != "0", f"{name} was loaded, but its functions are not replaced")


def _without_module(course: Course, guest: StagedGuest, livepatch: Livepatch, name: str, fault: GuestFault) -> str:
    """What it means that a module did not stay loaded under the livepatch. Raises the fault when it is one.

    The loader applies the livepatch before the module's own init function looks for its hardware.
    """
    applied = f"livepatch: applying patch '{livepatch.module}' to loading module '{name}'"
    if applied in course.log_so_far(guest):
        return f"{name} was livepatched, then did not stay loaded ({fault.message})"
    if not _NO_DEVICE.search(fault.message):
        raise fault
    course.unreached.append(name)
    return f"{name} cannot be loaded here: the VM lacks its device"


def _probe_after(course: Course, guest: StagedGuest) -> None:
    with course.step("probe-after", "Asking the probes again") as detail:
        course.after = guest.probe()
        detail.append(_said(course.after))
        _demand_none(judge.probes_after(course.before, course.after))


def _soak(course: Course, guest: StagedGuest, seconds: float) -> None:
    with course.step("soak", f"Soaking under load for {seconds:g} s"):
        if seconds > 0:
            answer = guest.answer(["sh", "-c", _LOAD], timeout=seconds)
            _demand(answer.code in TIMED_OUT, f"the load ended early with code {answer.code}: {answer.error_text}")
        _demand_clean(course, guest)


def _unload(course: Course, guest: StagedGuest, livepatch: Livepatch) -> None:
    with course.step("unload", f"Taking {livepatch.module} out"):
        _demand_none(guest.disable_livepatch(livepatch.module))
        _wait(
            lambda: not guest.livepatch_fact(livepatch.module, "enabled"),
            f"the way back did not end; it waits for {guest.stuck_tasks(0) or 'nothing known'}",
        )
        _demand_none(guest.unload(livepatch.module, timeout=_UNLOAD_LIMIT))


def _probe_unloaded(course: Course, guest: StagedGuest) -> None:
    with course.step("probe-unloaded", "Asking the probes without it") as detail:
        course.unloaded = guest.probe()
        detail.append(_said(course.unloaded))
        _demand_none(judge.probes_unloaded(course.before, course.unloaded))


def _reload(course: Course, guest: StagedGuest, livepatch: Livepatch) -> None:
    with course.step("reload", f"Loading {livepatch.module} again") as detail:
        _demand_none(guest.load(MODULE_FILE))
        _wait_transition(guest, livepatch.module, target=1)
        again = guest.probe()
        detail.append(_said(again))
        _demand_none(judge.probes_after(course.before, again))


def _look_back(course: Course, guest: StagedGuest) -> None:
    with course.step("look-back", "Looking at what the guest went through") as detail:
        guest.mark_log(course.end_mark)
        course.boot_id_after = guest.boot_id()
        _demand(course.boot_id_after == course.boot_id_before, "the guest rebooted")
        taint = guest.taint() & ~course.taint & _BROKEN
        _demand(not taint, f"the kernel is tainted anew ({taint:#x}: machine check, oops, warning or lockup)")
        course.containers = guest.containers()
        _demand_none(judge.containers(course.containers, accelerator=guest.accelerator))
        _demand_clean(course, guest)
        detail.append(_containers_said(course.containers))


def _wait_transition(guest: StagedGuest, module: str, *, target: int) -> float:
    """Wait for a transition's end and return the ms that were waited."""
    begun = time.monotonic()
    try:
        _wait(lambda: guest.livepatch_fact(module, "transition") == "0", "")
    except GuestFault:
        stuck = guest.stuck_tasks(target) or "nothing known"
        limit = f"within {_TRANSITION_LIMIT:g} s"
        raise GuestFault(f"the transition did not end {limit}; it waits for {stuck}") from None
    _demand(guest.livepatch_fact(module, "enabled") == "1", "the livepatch is not enabled")
    return (time.monotonic() - begun) * 1000


def _wait(ready: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + _TRANSITION_LIMIT
    while not ready():
        _demand(time.monotonic() < deadline, why)
        time.sleep(0.1)


def _demand(holds: object, why: str) -> None:
    if not holds:
        raise GuestFault(why)


def _demand_none(why: str) -> None:
    if why:
        raise GuestFault(why)


def _demand_clean(course: Course, guest: StagedGuest) -> None:
    found = kernel_log.findings(course.log_so_far(guest))
    _demand(not found, f"the kernel log is not clean: {found[0] if found else ''}")


def _said(answers: dict[str, ProbeResult]) -> str:
    return ", ".join(f"{name} {result}" for name, result in answers.items()) or "no probe came with the livepatch"


def _containers_said(records: tuple[ContainerRecord, ...]) -> str:
    gap = max((record.longest_gap_ms for record in records), default=0)
    return f"{len(records)} containers, longest heartbeat gap {gap:.0f} ms" if records else "no containers"
