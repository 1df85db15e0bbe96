"""``kmend update``: what a distribution update closes, and livepatches for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from kmend.build import fixes as fix_folders
from kmend.build.update import Sources, plan_update
from kmend.cli.output import show_json
from kmend.cli.progress import shown
from kmend.exposure import records as cve_records
from kmend.exposure.units import units
from kmend.kernels import changelog, store
from kmend.kit.files import write_atomic
from kmend.kit.progress import Progress
from kmend.model import wire
from kmend.model.fix import Fix
from kmend.model.update import CveState, UpdatePlan

PLAN = "plan.json"
FIXES = "fixes"
_PATH = click.Path(path_type=Path)
_WORDS = {
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
@click.option(
    "--out", type=_PATH, default=Path("build/update"), show_default=True, help="Folder for plan and fixes."
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(release: str, version: str, records: Path | None, out: Path, as_json: bool) -> None:
    """Say for every CVE that VERSION closes whether the kernel has the code, and derive fixes.

    Writes OUT/fixes/NAME/ (fix folders) and OUT/plan.json.
    """
    with shown() as progress:
        made, fixes = _plan(release, version, records, progress)
    for fix in fixes:
        fix_folders.save(fix, out / FIXES / fix.name)
    write_atomic(out / PLAN, wire.dump(made))
    if as_json:
        show_json(made)
    else:
        _show(made, out, with_records=records is not None)


def _plan(
    release: str, version: str, records: Path | None, progress: Progress
) -> tuple[UpdatePlan, tuple[Fix, ...]]:
    kit = store.load(release)
    old = kit.kernel.version
    series = ".".join(old.split(".")[:2])
    new = store.source(series, version, progress=progress)
    items = changelog.between(changelog.read(store.changelog(version)), old, version)
    progress.step("Reading the CVE records")
    known = cve_records.read(records, changelog.cves_closed(items)) if records else {}
    return plan_update(
        kit.kernel,
        items,
        records=known,
        units=units(kit, progress=progress),
        sources=Sources(old=kit.source, new=new, old_version=old, new_version=version),
        progress=progress,
    )


def _show(made: UpdatePlan, out: Path, *, with_records: bool) -> None:
    click.echo(f"{made.kernel.release} ({made.kernel.version}) to {made.to_version}: {len(made.cves)} CVEs closed")
    for state in CveState:
        rows = [row for row in made.cves if row.state is state]
        click.echo(f"  {len(rows):5}  {state:<10} {_WORDS[state]}")
        for code, count in Counter(row.code for row in rows if row.code).most_common():
            click.echo(f"         {count:5}  {code}")
    severities = Counter(row.severity or "not scored" for row in made.cves if row.state is CveState.FIX)
    if severities:
        click.echo(f"  with a fix: {', '.join(f'{count} {word}' for word, count in severities.most_common())}")
    click.echo(f"{len(made.fixes)} fixes in {out / FIXES}, plan in {out / PLAN}")
    if not with_records:
        click.echo("No CVE records were given (--cve-records), so it is not known which files the CVEs are in.")
