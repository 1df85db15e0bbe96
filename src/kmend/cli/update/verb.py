"""``kmend update``: what a distribution update closes, and livepatches for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from kmend.build import fixes as fix_folders
from kmend.build import upstream
from kmend.build.closure import Update
from kmend.build.sources import Sources
from kmend.build.update import plan_update
from kmend.cli.output import show_json
from kmend.cli.progress import shown
from kmend.cli.update.report import WORDS, counts, page
from kmend.cli.update.report import report as make_report
from kmend.cli.update.retaking import as_built
from kmend.cli.update.together import put_together
from kmend.cli.update.work import Shop, read_result, real_shop, work_off
from kmend.exposure import records as cve_records
from kmend.exposure.units import units
from kmend.kernels import changelog, store
from kmend.kit.errors import InputError
from kmend.kit.files import lock, write_atomic
from kmend.kit.progress import Progress
from kmend.model import wire
from kmend.model.fix import Fix
from kmend.model.kernel import Kernel
from kmend.model.update import CveState, Outcome, PlannedFix, Together, UpdatePlan, UpdateReport

PLAN = "plan.json"
FIXES = "fixes"
_PATH = click.Path(path_type=Path)
_STATES = {
    CveState.FIX: "a fix was derived",
    CveState.NOT_BUILT: "this kernel does not contain the code",
    CveState.REFUSED: "no fix could be derived",
    CveState.UNKNOWN: "could not be told",
}


@click.group()
def update() -> None:
    """From a distribution update to livepatches, CVE by CVE."""


@update.command()
@click.option("--kernel", "release", required=True, metavar="RELEASE", help="As `uname -r` says on the hosts.")
@click.option("--to", "version", required=True, metavar="VERSION", help="Package version that closes the CVEs.")
@click.option(
    "--cve-records",
    "records",
    type=_PATH,
    help="The kernel CNA's records: a clone, or an archive (.tar.zst, .zip).",
)
@click.option("--git", "clone", type=_PATH, help="Clone of the stable kernel: take the very commits that merge.")
@click.option(
    "--out", type=_PATH, default=Path("build/update"), show_default=True, help="Folder for plan and fixes."
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(
    release: str,
    version: str,
    *,
    records: Path | None,
    clone: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Say for every CVE that VERSION closes whether the kernel has the code, and derive fixes.

    Writes OUT/fixes/NAME/ (fix folders) and OUT/plan.json.
    """
    with shown() as progress:
        made, fixes = _plan(release, version, records=records, clone=clone, progress=progress)
    for fix in fixes:
        fix_folders.save(fix, out / FIXES / fix.name)
    write_atomic(out / PLAN, wire.dump(made))
    if as_json:
        show_json(made)
    else:
        _show(made, out, with_records=records is not None)


@update.command("build")
@click.option("--kernel", "release", required=True, metavar="RELEASE", help="The kernel that the plan is for.")
@click.option("--plan", "path", type=_PATH, default=Path("build/update/plan.json"), show_default=True)
@click.option("-j", "jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="How many at once.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many fixes that have no result yet.")
@click.option("--lab", type=click.Choice(["quick", "none"]), default="quick", show_default=True)
@click.option("--number", default=1, show_default=True, help="Number of the one livepatch of all fixes.")
@click.option("--again", is_flag=True, help="Try again what did not hold in the VM before.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def build_(
    release: str,
    *,
    path: Path,
    jobs: int,
    limit: int | None,
    lab: str,
    number: int,
    again: bool,
    as_json: bool,
) -> int:
    """Build and prove every fix of a plan, then one livepatch of all that held.

    Goes on where an earlier run ended. Writes results/, built/, together/, report.json and report.html beside the
    plan. Exit code 0 when every fix was built or refused with a reason, 1 when something failed.
    """
    kit = store.load(release)
    made = _read_plan(path, kit.kernel)
    fixes = [_planned_fix(path.parent / FIXES / one.name, one) for one in made.fixes]
    shop = real_shop(kit, made, path.parent, lab=lab == "quick", number=number)
    with lock(path.parent / ".lock", what="this update"), shown() as progress:
        report = _work(made, fixes, shop, jobs=jobs, limit=limit, again=again, lab=lab, progress=progress)
    if as_json:
        show_json(report)
    else:
        _show_report(report, path.parent)
    return 1 if any(row.outcome is Outcome.FAILED for row in report.cves) else 0


def _read_plan(path: Path, kernel: Kernel) -> UpdatePlan:
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
        good = {one.name for one in results if one.outcome is (Outcome.PROVEN if shop.proves else Outcome.BUILT)}
        if not shop.proves:
            good |= {one.name for one in results if one.outcome is Outcome.PROVEN}
        if good:
            together = put_together(
                [as_built(fix, shop.out) for fix in fixes if fix.name in good], shop, progress=progress
            )
    finally:
        known = [result for fix in fixes if (result := read_result(shop, fix))]
        report = make_report(made, known, together=together, lab=lab)
        write_atomic(shop.out / "report.json", wire.dump(report))
        write_atomic(shop.out / "report.html", page(report))
    return report


def _show_report(report: UpdateReport, out: Path) -> None:
    for outcome, number, codes in counts(report):
        click.echo(f"{number:5}  {WORDS[outcome]}")
        for code, count in codes:
            click.echo(f"       {count:5}  {code}")
    one = report.together
    if one is not None:
        click.echo(
            f"One livepatch of {len(one.fixes)} fixes ({one.functions} functions): {one.outcome} {one.reason}"
        )
        for left in one.left_out:
            click.echo(f"  left out  {left.name}: {left.reason}")
    click.echo(f"Report: {out / 'report.html'} and report.json")


def _plan(
    release: str,
    version: str,
    *,
    records: Path | None,
    clone: Path | None,
    progress: Progress,
) -> tuple[UpdatePlan, tuple[Fix, ...]]:
    kit = store.load(release)
    old = kit.kernel.version
    series = ".".join(old.split(".")[:2])
    new = store.source(series, version, progress=progress)
    items = changelog.between(changelog.read(store.changelog(version)), old, version)
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


def _show(made: UpdatePlan, out: Path, *, with_records: bool) -> None:
    click.echo(f"{made.kernel.release} ({made.kernel.version}) to {made.to_version}: {len(made.cves)} CVEs closed")
    for state in CveState:
        rows = [row for row in made.cves if row.state is state]
        click.echo(f"  {len(rows):5}  {state:<10} {_STATES[state]}")
        for code, count in Counter(row.code for row in rows if row.code).most_common():
            click.echo(f"         {count:5}  {code}")
    severities = Counter(row.severity or "not scored" for row in made.cves if row.state is CveState.FIX)
    if severities:
        click.echo(f"  with a fix: {', '.join(f'{count} {word}' for word, count in severities.most_common())}")
    click.echo(f"{len(made.fixes)} fixes in {out / FIXES}, plan in {out / PLAN}")
    if not with_records:
        click.echo("No CVE records were given (--cve-records), so it is not known which files the CVEs are in.")
