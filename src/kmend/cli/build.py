"""``kmend build``: fixes and a kernel in, a livepatch out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from kmend.build import fixes as fix_folders
from kmend.build.builder import MANIFEST_FILE, MODULE_FILE
from kmend.build.builder import build as build_livepatch
from kmend.build.plan import plan
from kmend.cli.output import show_json
from kmend.cli.progress import shown
from kmend.kernels import store
from kmend.model.fix import Objection
from kmend.model.livepatch import Livepatch

_REFUSED = 2
_FOLDER = click.Path(path_type=Path)


@click.command()
@click.option("--kernel", "release", required=True, metavar="RELEASE", help="As `uname -r` says on the hosts.")
@click.option(
    "--number", default=1, show_default=True, help="The livepatch's number; higher ones replace lower ones."
)
@click.option(
    "-o", "--out", type=_FOLDER, default=Path("livepatch"), show_default=True, help="Folder for the result."
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest, or the objections, as JSON.")
@click.argument("folders", nargs=-1, required=True, type=_FOLDER, metavar="FIXDIR...")
def build(release: str, number: int, out: Path, as_json: bool, folders: tuple[Path, ...]) -> int:
    """Build the livepatch that applies the fixes in FIXDIR... to one exact kernel.

    Leaves livepatch.ko, livepatch.json and the fixes' probes in a folder; nothing when it fails.

    Exit codes: 0 built, 1 wrong input or an error, 2 refused (a fix cannot be livepatched as it is).
    """
    begin = time.monotonic()
    fixes = [fix_folders.load(folder) for folder in folders]
    kit = store.load(release)
    with shown() as progress:
        result = build_livepatch(plan(fixes, kit.kernel, number=number), kit, out=out, progress=progress)
    if isinstance(result, Livepatch):
        _show_built(result, out, seconds=time.monotonic() - begin, as_json=as_json)
        return 0
    show_objections(result, as_json=as_json)
    return _REFUSED


def _show_built(livepatch: Livepatch, out: Path, *, seconds: float, as_json: bool) -> None:
    if as_json:
        show_json(livepatch)
        return
    proven = sum(function.bytes_proven for function in livepatch.functions)
    click.echo(f"Built {livepatch.module} for {livepatch.kernel.release} in {seconds:.1f} s")
    click.echo(f"  closes    {', '.join(livepatch.cves) or '-'}")
    for function in livepatch.functions:
        click.echo(f"  replaces  {function.name} in {function.object} ({function.size} bytes)")
    click.echo(f"  proven    {proven} bytes of code equal to the running kernel's")
    for caution in livepatch.cautions:
        click.echo(click.style("  caution   ", fg="yellow") + f"{caution.place} [{caution.code}]")
        click.echo(f"            {caution.reason}")
        click.echo(f"            {caution.advice}")
    click.echo(f"  left in   {out / MODULE_FILE} and {MANIFEST_FILE}")


def show_objections(objections: Sequence[Objection], *, as_json: bool) -> None:
    """Print objections: to standard error for people, to standard output as JSON."""
    if as_json:
        show_json({"objections": list(objections)})
        return
    for objection in objections:
        click.echo(
            click.style("refused: ", fg="yellow", bold=True) + f"{objection.place} [{objection.code}]", err=True
        )
        click.echo(f"  {objection.reason}", err=True)
        for line in objection.evidence:
            click.echo(f"    {line}", err=True)
        if objection.advice:
            click.echo(click.style("  instead: ", fg="cyan") + objection.advice, err=True)
