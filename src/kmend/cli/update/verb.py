"""``kmend update``: what a distribution update closes, and livepatches for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from kmend.cli.output import show_json
from kmend.cli.progress import shown
from kmend.cli.update.report import WORDS, counts
from kmend.cli.update.steps import FIXES, PLAN, build_plan, make_plan, save_plan
from kmend.cli.update.watch import watch
from kmend.exposure.fetching import local
from kmend.kernels import store
from kmend.model.update import CveState, Outcome, UpdatePlan, UpdateReport

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


update.add_command(watch)


@update.command()
@click.option("--kernel", "release", required=True, metavar="RELEASE", help="As `uname -r` says on the hosts.")
@click.option("--to", "version", required=True, metavar="VERSION", help="Package version that closes the CVEs.")
@click.option(
    "--cve-records",
    "records",
    metavar="PATH|URL",
    help="The kernel CNA's records: a clone, an archive (.tar.zst, .zip), or the address of either.",
)
@click.option(
    "--advisories",
    multiple=True,
    metavar="PATH|URL",
    help="OSV records or the Debian security tracker's JSON: CVEs that the changelog does not name.",
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
    records: str | None,
    advisories: tuple[str, ...],
    clone: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Say for every CVE that VERSION closes whether the kernel has the code, and derive fixes.

    Writes OUT/fixes/NAME/ (fix folders) and OUT/plan.json.
    """
    with shown() as progress:
        kit = store.load(release)
        made, fixes = make_plan(
            kit,
            version,
            records=local(records, progress=progress) if records else None,
            clone=clone,
            more=[local(one, progress=progress) for one in advisories],
            progress=progress,
        )
    save_plan(made, fixes, out)
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

    Goes on where an earlier run ended. Writes results/, built/, together/, report.json, .html and .md beside the
    plan. Exit code 0 when every fix was built or refused with a reason, 1 when something failed.
    """
    kit = store.load(release)
    with shown() as progress:
        report = build_plan(
            kit, path, jobs=jobs, lab=lab, number=number, limit=limit, again=again, progress=progress
        )
    if as_json:
        show_json(report)
    else:
        _show_report(report, path.parent)
    return 1 if any(row.outcome is Outcome.FAILED for row in report.cves) else 0


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
