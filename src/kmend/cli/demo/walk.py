"""The demo from its first to its last step; reads like its table of contents."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kmend.build.builder import MODULE_FILE
from kmend.cli.demo import on_host, steps
from kmend.cli.demo.beside import Job, kmend_beside, served
from kmend.cli.demo.page import Story, page
from kmend.cli.demo.report import Source, report_of
from kmend.cli.demo.timeline import Timeline
from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic
from kmend.lab.guests import check_rights
from kmend.lab.host import ContainerHost, container_host
from kmend.lab.reporting import REPORT
from kmend.model import wire
from kmend.model.fix import Fix
from kmend.model.kernel import Kit
from kmend.model.lab import LabReport, ProbeResult

JSON_FILE, PAGE_FILE, BEATS_FILE = "report.json", "report.html", "heartbeats.json"
_OURS = {JSON_FILE, PAGE_FILE, BEATS_FILE, "fixes", "livepatch", "keys", "repository", "kmend-agent.pyz", "logs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the caller asked for."""

    release: str | None
    fix: str | None
    out: Path
    catalogue: Path
    checkout: Path
    """Where packaging/ lies."""


def walk(wishes: Wishes, timeline: Timeline) -> Story:
    """Do everything once, and leave the reports.

    Raises:
        InputError: No fix fits these kernels, or none works inside a container here.
        KmendError: A stage failed.
    """
    check_rights()
    _clear(wishes.out)
    kernels = steps.find_kernels(wishes.release, timeline)
    kit = steps.fetch_kit(kernels, timeline)
    with _guest_made(kit, wishes.out, timeline) as guest:
        newer = steps.fetch_source(kernels, timeline)
        fixes = steps.derive_fixes(
            kit, newer, kernels, catalogue=wishes.catalogue, only=wishes.fix, timeline=timeline
        )
        for fix in fixes:
            built = steps.build(fix, kit, out=wishes.out, timeline=timeline)
            story = built and _prove_and_apply(
                built, fix, kit, kernels=kernels, guest=guest, wishes=wishes, timeline=timeline
            )
            if story:
                _leave(story, wishes.out)
                return story
    raise InputError(
        f"No fix of the catalogue could be shown on {kit.kernel.release}: {', '.join(fix.name for fix in fixes)}.",
        hint="The timeline above says why. Name another kernel with --kernel (`kmend kernel list`).",
    )


def _prove_and_apply(
    built: steps.Built,
    fix: Fix,
    kit: Kit,
    *,
    kernels: steps.Kernels,
    guest: Job,
    wishes: Wishes,
    timeline: Timeline,
) -> Story | None:
    """Lab and release beside the host's boot, then the agent's part; None when the probe cannot work there."""
    out = wishes.out
    with served(out / "repository") as port, _lab(built, kit, out, timeline) as lab:
        keys = out / "keys" if (out / "keys").exists() else steps.make_keys(out, timeline)
        files = on_host.Files(agent=steps.make_agent(out, wishes.checkout, timeline), root=keys / "root.json")
        guest.wait()
        with _host(fix, kit, port, timeline) as host:
            lab.look()
            before = on_host.look(host, timeline)
            if before.probe is not ProbeResult.VULNERABLE:
                timeline.say(
                    "fix", f"{fix.name} is passed over: its probe does not say “vulnerable” in a container"
                )
                return None
            enrolled = on_host.enrol(host, files, channel=steps.STABLE, timeline=timeline)
            lab.wait()
            report = _lab_report(built)
            steps.release(built, report, out=out, keys=keys, timeline=timeline)
            record = on_host.apply(
                host, built.livepatch.module, before=before, enrolled=enrolled, timeline=timeline
            )
    measured = report_of(
        Source(fix=fix.name, title=fix.title, fixed_in=kernels.new.version),
        built.livepatch,
        lab=report,
        host=record,
        build_seconds=built.seconds,
        demo_seconds=timeline.seconds,
        timeline=timeline.moments,
    )
    return Story(report=measured, seen=record.observation, fix=fix, livepatch=built.livepatch, lab=report)


@contextmanager
def _host(fix: Fix, kit: Kit, port: int, timeline: Timeline) -> Iterator[ContainerHost]:
    """The container host, up."""
    with ExitStack() as stack:
        with timeline.stage("host", f"Booting a container host with {kit.kernel.release}") as came:
            booted = container_host(kit, probes={fix.name: fix.probe}, forward_port=port, progress=timeline)
            host = stack.enter_context(booted)
            came.append(f"a Debian container host runs {kit.kernel.release} in a VM; its containers are up")
        yield host


@contextmanager
def _guest_made(kit: Kit, out: Path, timeline: Timeline) -> Iterator[Job]:
    """The container host's disk, made beside the block when it is not in the cache."""
    args = ["lab", "guest", "--kernel", kit.kernel.release]
    with timeline.beside("Making the container host's disk") as done:

        def ended(code: int, seconds: float) -> None:
            done()
            said = "could not be made" if code else "is ready (Debian with Docker)"
            timeline.say("host", f"the container host's disk {said}", took=seconds)

        with kmend_beside(args, log=out / "logs" / "guest.log", ended=ended) as job:
            yield job


@contextmanager
def _lab(built: steps.Built, kit: Kit, out: Path, timeline: Timeline) -> Iterator[Job]:
    """The lab's proof, beside the block."""
    args = ["lab", "run", "--kernel", kit.kernel.release, str(built.folder)]
    with timeline.beside(f"Proving {MODULE_FILE} in a VM") as done:

        def ended(code: int, seconds: float) -> None:
            done()
            timeline.say("lab", "the module was NOT proven" if code else _proven_said(built), took=seconds)

        with kmend_beside(args, log=out / "logs" / "lab.log", ended=ended) as job:
            yield job


def _proven_said(built: steps.Built) -> str:
    report = _lab_report(built)
    said = f"{report.probe_before}, loaded: {report.probe_after}, taken out: {report.probe_unloaded}"
    return f"the module is proven in a VM of its own: {said}, kernel log clean"


def _lab_report(built: steps.Built) -> LabReport:
    path = built.folder / REPORT
    return wire.load(LabReport, path.read_bytes(), what=str(path))


def _clear(out: Path) -> None:
    """Take away what an earlier demo left; anything else there is somebody's."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file.", hint="Name a folder with --out.")
    inside = list(out.iterdir()) if out.is_dir() else []
    others = sorted(one.name for one in inside if one.name not in _OURS and not one.name.startswith("."))
    if others:
        raise InputError(
            f"{out} holds other things ({', '.join(others[:3])}); the demo needs a folder of its own.",
            hint="Name another folder with --out.",
        )
    for one in inside:
        if one.name in _OURS:
            shutil.rmtree(one) if one.is_dir() else one.unlink()


def _leave(story: Story, out: Path) -> None:
    write_atomic(out / BEATS_FILE, wire.dump(story.seen))
    write_atomic(out / PAGE_FILE, page(story))
    write_atomic(out / JSON_FILE, wire.dump(story.report))
