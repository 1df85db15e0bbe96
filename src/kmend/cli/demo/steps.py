"""The stages before the host: kernels, sources, fix, build, keys, release; each says what came of it."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kmend.build import derive
from kmend.build import fixes as fix_folders
from kmend.build.builder import build as build_livepatch
from kmend.build.plan import plan
from kmend.cli.demo.timeline import Timeline
from kmend.kernels import store
from kmend.kit.errors import InputError
from kmend.kit.run import run
from kmend.model.fix import Fix, Objection
from kmend.model.kernel import Kit, OfferedKernel
from kmend.model.lab import LabReport
from kmend.model.livepatch import Livepatch
from kmend.release import ceremony, publish

EDGE, STABLE = "edge", "stable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """The kernel to be repaired, and the version that has the repairs."""

    old: OfferedKernel
    new: OfferedKernel

    @property
    def origin(self) -> str:
        """For the fixes that are derived."""
        return f"Debian linux {self.old.version} to {self.new.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A livepatch that was built, in its folder."""

    livepatch: Livepatch
    folder: Path
    seconds: float


def find_kernels(release: str | None, timeline: Timeline) -> Kernels:
    """The oldest kernel of which a full kit can be had (or the one named), and the newest of its series.

    Raises:
        InputError: The kernel is not offered, or is the newest itself.
        SourceError: There are not two kernels.
    """
    with timeline.stage("kernel", "Asking the package sources which kernels they offer") as came:
        if release is None:
            old, new = store.oldest_and_newest()
        else:
            old = store.find(release)
            new = store.oldest_and_newest(old.series, old.flavour)[1]
        if old.version == new.version:
            raise InputError(
                f"{old.release} has the newest version of its series ({old.version}): nothing newer holds a fix.",
                hint="`kmend kernel list` shows older ones.",
            )
        which = "the oldest" if release is None else "chosen"
        came.append(f"{old.release} ({old.version}, {which} with a full kit); the newest is {new.version}")
    return Kernels(old=old, new=new)


def fetch_kit(kernels: Kernels, timeline: Timeline) -> Kit:
    """The kit of the kernel to be repaired."""
    with timeline.stage("kit", f"Fetching the kit of {kernels.old.release}") as came:
        kit = store.fetch(kernels.old.release, version=kernels.old.version, progress=timeline)
        came.append(f"image, debug symbols, headers and source of {kernels.old.version} are here")
    return kit


def fetch_source(kernels: Kernels, timeline: Timeline) -> Path:
    """The source tree of the newest version."""
    with timeline.stage("source", f"Fetching the source of {kernels.new.version}") as came:
        tree = store.source(kernels.new.series, kernels.new.version, progress=timeline)
        came.append(f"the source of {kernels.new.version} is here")
    return tree


def derive_fixes(
    kit: Kit, newer: Path, kernels: Kernels, *, catalogue: Path, only: str | None, timeline: Timeline
) -> tuple[Fix, ...]:
    """The catalogue's fixes that fit and have a probe, in its order; the first one is said on the timeline.

    Raises:
        InputError: None fits, or not the one that was asked for; the message says why.
    """
    with timeline.stage("fix", "Comparing the two sources") as came:
        choice = derive.choose(catalogue, old=kit.source, new=newer, origin=kernels.origin)
        fixes = tuple(fix for fix in choice.fixes if fix.probe and only in {None, fix.name})
        if not fixes:
            raise _none_fits(choice, kernels, only)
        others = f"; {len(fixes) - 1} more would fit" if len(fixes) > 1 else ""
        came.append(f"{fixes[0].name} “{fixes[0].title}”, {_size(fixes[0])} derived from the two sources{others}")
    return fixes


def _none_fits(choice: derive.Choice, kernels: Kernels, only: str | None) -> InputError:
    reasons = [f"\n  {misfit.name}: {misfit.reason}" for misfit in choice.misfits if only in {None, misfit.name}]
    if only and not reasons:
        known = ", ".join([*(fix.name for fix in choice.fixes), *(misfit.name for misfit in choice.misfits)])
        return InputError(f"The catalogue has no fix {only} with a probe.", hint=f"There are: {known}.")
    return InputError(
        f"No fix of the catalogue fits {kernels.old.version} and {kernels.new.version}:{''.join(reasons)}",
        hint="Name another kernel with --kernel (`kmend kernel list`), or write a fix: docs/howto/write-a-fix.md.",
    )


def _size(fix: Fix) -> str:
    lines = fix.diff.splitlines()
    added = sum(line.startswith("+") and not line.startswith("+++") for line in lines)
    removed = sum(line.startswith("-") and not line.startswith("---") for line in lines)
    return f"+{added} −{removed} lines"  # noqa: RUF001 - a minus sign, for people


def build(fix: Fix, kit: Kit, *, out: Path, timeline: Timeline) -> Built | None:
    """The livepatch with this fix; None when the builder objects, which is said."""
    fix_folders.save(fix, out / "fixes" / fix.name)
    folder = out / "livepatch"
    begin = time.monotonic()
    with timeline.stage("build", f"Building a livepatch with {fix.name}") as came:
        result = build_livepatch(plan([fix], kit.kernel, number=1), kit, out=folder, progress=timeline)
        seconds = time.monotonic() - begin
        came.append(_built_said(result) if isinstance(result, Livepatch) else _refused_said(fix, result))
    return Built(livepatch=result, folder=folder, seconds=seconds) if isinstance(result, Livepatch) else None


def _built_said(livepatch: Livepatch) -> str:
    functions = [function.name for function in livepatch.functions]
    proven = sum(function.bytes_proven for function in livepatch.functions)
    return (
        f"{livepatch.module}.ko replaces {', '.join(functions)}; "
        f"{proven:,} bytes of recompiled original equal the kernel's own"
    )


def _refused_said(fix: Fix, objections: tuple[Objection, ...]) -> str:
    return f"{fix.name} is passed over: {objections[0].place}: {objections[0].reason}"


def make_keys(out: Path, timeline: Timeline) -> Path:
    """A keys folder and an empty signed repository beside it; returns the keys folder."""
    keys = out / "keys"
    with timeline.stage("keys", "Making keys") as came:
        # Trial keys: they sign for nobody but this demo's own host.
        made = ceremony.init_keys(keys, now=datetime.now(UTC), passphrase=None, channels=(EDGE, STABLE))
        publish.init_repository(out / "repository", keys, now=datetime.now(UTC))
        root = made.role("root")
        came.append(
            f"{len(root.keys)} root keys of which {root.threshold} must sign, one key per role and channel, "
            "one for modules"
        )
    return keys


def make_agent(out: Path, checkout: Path, timeline: Timeline) -> Path:
    """The agent as one file."""
    target = out / "kmend-agent.pyz"
    with timeline.stage("agent", "Making the agent's file") as came:
        run([sys.executable, checkout / "packaging" / "make-agent-pyz", target], cwd=checkout)
        came.append(f"{target.name}: one file of {target.stat().st_size / 1e6:.1f} MB, pure Python")
    return target


def release(built: Built, report: LabReport, *, out: Path, keys: Path, timeline: Timeline) -> None:
    """Publish to edge, promote to stable.

    Raises:
        InputError: The release refuses it.
    """
    repo = out / "repository"
    with timeline.stage("release", "Signing and publishing") as came:
        publish.publish(built.folder, repo=repo, keys=keys, channel=EDGE, now=datetime.now(UTC), progress=timeline)
        publish.promote(
            report.kernel.build_id,
            source=EDGE,
            to=STABLE,
            repo=repo,
            keys=keys,
            now=datetime.now(UTC),
            progress=timeline,
        )
        came.append(f"module signed, published to {EDGE}, read back as a host would, promoted to {STABLE}")
