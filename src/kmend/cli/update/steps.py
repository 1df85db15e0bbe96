"""From a version to a plan, and from a plan to livepatches: what `plan`, `build` and `watch` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kmend.build import fixes as fix_folders
from kmend.build import upstream
from kmend.build.closure import Update
from kmend.build.sources import Sources
from kmend.build.update import plan_update
from kmend.cli.update.report import page, table
from kmend.cli.update.report import report as make_report
from kmend.cli.update.retaking import as_built
from kmend.cli.update.together import put_together
from kmend.cli.update.work import Shop, read_result, real_shop, work_off
from kmend.exposure import records as cve_records
from kmend.exposure.advisories import closed
from kmend.exposure.units import units
from kmend.kernels import store
from kmend.kernels.provider import provider
from kmend.kit.errors import InputError
from kmend.kit.files import lock, write_atomic
from kmend.kit.progress import Progress
from kmend.linux import changelog
from kmend.linux.changelog import ChangelogItem
from kmend.linux.versions import series_of
from kmend.model import wire
from kmend.model.fix import Fix
from kmend.model.kernel import Kernel, Kit
from kmend.model.update import Outcome, PlannedFix, Together, UpdatePlan, UpdateReport

PLAN = "plan.json"
FIXES = "fixes"


def make_plan(
    kit: Kit,
    version: str,
    *,
    records: Path | None,
    clone: Path | None,
    more: Sequence[Path] = (),
    progress: Progress,
) -> tuple[UpdatePlan, tuple[Fix, ...]]:
    """What a version closes for a kernel, and the fixes derived for that.

    Args:
        kit: The kernel's.
        version: Package version; its source is fetched when it is not here.
        records: The kernel CNA's records.
        clone: Of the stable kernel's repository.
        more: Advisories that know of CVEs which the changelog does not name.
        progress: Told about the steps.
    """
    old = kit.kernel.version
    new = store.source(series_of(old), version, progress=progress)
    items = changelog.between(changelog.read(store.changelog(version)), old, version)
    items += _of_advisories(more, items, older=old, newer=version)
    progress.step("Reading the CVE records")
    known = cve_records.read(records, changelog.cves_closed(items)) if records else {}
    built_from = units(kit, progress=progress)
    sources = Sources(old=kit.source, new=new, old_version=old, new_version=version)
    return plan_update(
        kit.kernel,
        items,
        records=known,
        units=built_from,
        update=Update.between(built_from, sources, progress=progress),
        clone=upstream.check(clone) if clone else None,
        progress=progress,
    )


def _of_advisories(
    paths: Sequence[Path], known: Sequence[ChangelogItem], *, older: str, newer: str
) -> tuple[ChangelogItem, ...]:
    """The CVEs that advisories name and the changelog does not, as if it did."""
    found: dict[str, ChangelogItem] = {}
    named = set(changelog.cves_closed(known))
    for path in paths:
        for one in closed(path, older=older, newer=newer, series=series_of(older), compare=provider().compare):
            if one.cve not in named:
                found.setdefault(one.cve, ChangelogItem(version=one.version, subject=one.title, cves=(one.cve,)))
    return tuple(found.values())


def save_plan(made: UpdatePlan, fixes: Sequence[Fix], out: Path) -> None:
    """Write ``fixes/NAME`` and, last, plan.json: where it is, everything is."""
    (out / PLAN).unlink(missing_ok=True)
    for fix in fixes:
        fix_folders.save(fix, out / FIXES / fix.name)
    write_atomic(out / PLAN, wire.dump(made))


def read_plan(path: Path, kernel: Kernel) -> UpdatePlan:
    """The plan that a file holds.

    Raises:
        InputError: There is none, or it is for another kernel.
    """
    if not path.is_file():
        raise InputError(f"There is no plan {path}.", hint="Make it with `kmend update plan`.")
    made = wire.load(UpdatePlan, path.read_bytes(), what=str(path))
    if made.kernel.build_id != kernel.build_id:
        raise InputError(
            f"{path} is for {made.kernel.release} {made.kernel.version}, "
            f"not for {kernel.release} {kernel.version}.",
            hint="Name the plan's kernel, or plan anew.",
        )
    return made


def _planned_fix(folder: Path, planned: PlannedFix) -> Fix:
    fix = fix_folders.load(folder)
    if (fix.name, fix.cves) != (planned.name, planned.cves):
        raise InputError(f"{folder} is not the fix that the plan speaks of.", hint="Plan anew.")
    return fix


def build_plan(
    kit: Kit,
    path: Path,
    *,
    jobs: int,
    lab: str,
    number: int,
    limit: int | None = None,
    again: bool = False,
    progress: Progress,
) -> UpdateReport:
    """Build and prove every fix of a plan, then one livepatch of all that held; goes on where it was.

    Args:
        kit: The kernel that the plan is for.
        path: plan.json; all results come beside it.
        jobs: How many at once.
        lab: ``quick`` or ``none``.
        number: Of the one livepatch.
        limit: At most so many fixes that have no result yet.
        again: Also what did not hold in the VM before.
        progress: Told about each result.

    Raises:
        InputError: The plan is not for this kernel.
        BusyError: Another run works on it.
        MachineError: This machine lacks something.
    """
    made = read_plan(path, kit.kernel)
    fixes = [_planned_fix(path.parent / FIXES / one.name, one) for one in made.fixes]
    shop = real_shop(kit, made, path.parent, lab=lab == "quick", number=number)
    with lock(path.parent / ".lock", what="this update"):
        return _work(made, fixes, shop, jobs=jobs, limit=limit, again=again, lab=lab, progress=progress)


def _work(
    made: UpdatePlan,
    fixes: list[Fix],
    shop: Shop,
    *,
    jobs: int,
    limit: int | None,
    again: bool,
    lab: str,
    progress: Progress,
) -> UpdateReport:
    """The whole work; the report is written also when somebody ends it early."""
    together: Together | None = None
    try:
        results = work_off(fixes, shop, jobs=jobs, limit=limit, again=again, progress=progress)
        enough = {Outcome.PROVEN} if shop.proves else {Outcome.PROVEN, Outcome.BUILT}
        closes = {one.name: one.closes for one in results if one.outcome in enough}
        # The livepatch names what it closes, not what the whole fix would have closed.
        good = [replace(as_built(fix, shop.out), cves=closes[fix.name]) for fix in fixes if fix.name in closes]
        if good:
            taken = {one.name: one.taken for one in results if one.name in closes}
            together = put_together(good, shop, taken=taken, progress=progress)
    finally:
        known = [result for fix in fixes if (result := read_result(shop, fix))]
        report = make_report(made, known, together=together, lab=lab)
        write_atomic(shop.out / "report.json", wire.dump(report))
        write_atomic(shop.out / "report.html", page(report))
        write_atomic(shop.out / "report.md", table(report))
    return report
