"""``kmend fix``: looks at fix folders, and derives fixes from two source versions."""

from __future__ import annotations

import re
from pathlib import Path

import click

from kmend.build import derive as deriving
from kmend.build import fixes
from kmend.cli.output import show_json
from kmend.cli.progress import shown
from kmend.kernels import store
from kmend.kit.errors import InputError
from kmend.linux.versions import series_of

_FOLDER = click.Path(path_type=Path)
_VERSION = re.compile(r"\d+\.\d+\.\d+[-+~.\w]*")


@click.group()
def fix() -> None:
    """Look at fix folders, and derive fixes from two source versions."""


@fix.command()
@click.argument("folders", nargs=-1, required=True, type=_FOLDER)
@click.option("--source", type=_FOLDER, help="Kernel source tree: check too that the fixes apply to it, together.")
@click.option("--json", "as_json", is_flag=True, help="Print the fixes as JSON.")
def check(folders: tuple[Path, ...], source: Path | None, as_json: bool) -> None:
    """Read fix folders and say what they change; an error names what is wrong with them."""
    loaded = tuple(fixes.load(folder) for folder in folders)
    if source is not None:
        fixes.changed(loaded, source=source)
    if as_json:
        show_json(list(loaded))
        return
    for one in loaded:
        click.echo(f"{one.name}  {one.title}")
        click.echo(f"  closes   {', '.join(one.cves) or '-'}")
        click.echo(f"  changes  {', '.join(fixes.files(one))}")
        click.echo(f"  probe    {'yes' if one.probe else 'no'}")
    if source is not None:
        click.echo(f"All apply to {source}.")


@fix.command()
@click.argument("old")
@click.argument("new")
@click.option(
    "--catalogue", type=_FOLDER, default=Path("fixes"), show_default=True, help="Folder of derive.toml entries."
)
@click.option("--origin", default="", help="Where folders come from; versions need no explanation.")
@click.option("--into", type=_FOLDER, default=Path("build/fixes"), show_default=True, help="Where the folders go.")
@click.option("--json", "as_json", is_flag=True, help="Print what fits and what does not as JSON.")
def derive(old: str, new: str, *, catalogue: Path, origin: str, into: Path, as_json: bool) -> None:
    """Derive every fix of a catalogue that source NEW has and OLD lacks, as fix folders.

    OLD and NEW are package versions (6.1.170-3; fetched when they are not here) or folders with a source tree.
    """
    trees = [_tree(old), _tree(new)]
    origin = origin or f"Debian linux {old} to {new}"
    choice = deriving.choose(catalogue, old=trees[0], new=trees[1], origin=origin)
    for one in choice.fixes:
        fixes.save(one, into / one.name)
    if as_json:
        show_json(choice)
    else:
        for one in choice.fixes:
            click.echo(click.style("derived  ", fg="green") + f"{into / one.name}  {one.title}")
        for misfit in choice.misfits:
            click.echo(click.style("left out ", fg="yellow") + f"{misfit.name}: {misfit.reason}")
    if not choice.fixes:
        raise InputError(f"No fix of {catalogue} fits these two source trees.", hint="The reasons are above.")


def _tree(name: str) -> Path:
    """The source tree that a version or a folder names."""
    folder = Path(name)
    if not folder.exists() and _VERSION.fullmatch(name):
        series = series_of(name)
        with shown() as progress:
            return store.source(series, name, progress=progress)
    if not (folder / "Kbuild").is_file():
        raise InputError(
            f"{folder} is no kernel source tree.",
            hint="Name a package version (`kmend kernel list` shows them) or a folder that holds a file Kbuild.",
        )
    return folder
