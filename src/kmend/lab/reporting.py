"""What the lab is given and what it leaves: a built livepatch's folder, and the report about it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kmend.kit.errors import InputError
from kmend.kit.files import sha256_of
from kmend.lab import kernel_log
from kmend.lab.probes import read_probes, together
from kmend.lab.scenario import Course
from kmend.model import wire
from kmend.model.kernel import Kit
from kmend.model.lab import LabReport, ProbeRecord, ProbeResult, Profile
from kmend.model.livepatch import Livepatch

REPORT = "labreport.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A livepatch as `kmend build` left it."""

    folder: Path
    livepatch: Livepatch
    module: Path
    probes: Mapping[str, str]
    """Name → C source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One try of a livepatch: with what, and since when."""

    kit: Kit
    built: Built
    profile: Profile
    accelerator: str
    started: datetime
    begun: float
    """``time.monotonic`` then."""


def begin_trial(kit: Kit, built: Built, *, profile: Profile, accelerator: str) -> Trial:
    """A trial that begins now."""
    return Trial(
        kit=kit,
        built=built,
        profile=profile,
        accelerator=accelerator,
        started=datetime.now(UTC),
        begun=time.monotonic(),
    )


def read_built(kit: Kit, folder: Path) -> Built:
    """What lies in a build folder.

    Raises:
        InputError: It does not hold a livepatch for this kernel.
    """
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
    return Built(folder=folder, livepatch=livepatch, module=module, probes=read_probes(folder))


def report_of(course: Course, trial: Trial, *, console: str) -> LabReport:
    """The report about a course that has ended, one way or the other."""
    return LabReport(
        kernel=trial.kit.kernel,
        livepatch_number=trial.built.livepatch.number,
        livepatch_sha256=trial.built.livepatch.sha256,
        profile=trial.profile,
        accelerator=trial.accelerator,
        passed=not course.failure,
        failure=course.failure,
        probe_before=together(course.before.values()),
        probe_after=together(course.after.values()),
        probe_unloaded=together(course.unloaded.values()),
        probes=tuple(_probe_record(name, course) for name in trial.built.probes),
        transition_ms=course.transition_ms,
        boot_id_before=course.boot_id_before,
        boot_id_after=course.boot_id_after,
        containers=course.containers,
        steps=tuple(course.steps),
        kernel_log_findings=kernel_log.findings(course.log or console),
        console_tail=kernel_log.tail(console) if course.failure else (),
        started=trial.started,
        seconds=round(time.monotonic() - trial.begun, 3),
        series_place=course.place,
        unreached=tuple(course.unreached),
    )


def _probe_record(name: str, course: Course) -> ProbeRecord:
    unknown = ProbeResult.UNKNOWN
    return ProbeRecord(
        name=name,
        before=course.before.get(name, unknown),
        after=course.after.get(name, unknown),
        unloaded=course.unloaded.get(name, unknown),
    )
