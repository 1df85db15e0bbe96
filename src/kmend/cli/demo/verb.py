"""``kmend demo``: the verb."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from kmend.cli.demo.ending import show_ending
from kmend.cli.demo.timeline import Timeline
from kmend.cli.demo.walk import JSON_FILE, PAGE_FILE, Wishes, walk
from kmend.cli.output import show_json
from kmend.kit.errors import InputError
from kmend.kit.files import lock

_FOLDER = click.Path(path_type=Path, file_okay=False)
_CHECKOUT = Path(__file__).resolve().parents[4]


@click.command()
@click.option(
    "--kernel", "release", metavar="RELEASE", help="Repair this kernel instead of the oldest one offered."
)
@click.option("--fix", metavar="NAME", help="Take this fix of the catalogue instead of the first that fits.")
@click.option("--out", type=_FOLDER, default=Path("build/demo"), show_default=True, help="Where everything goes.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the report as JSON; the timeline goes to standard error."
)
def demo(*, release: str | None, fix: str | None, out: Path, as_json: bool) -> int:
    """Show the main job: one fix from source to a running container host.

    Takes the oldest kernel that can be had, derives a fix from the newest one's source, builds, proves, signs and
    publishes a livepatch, boots a container host in a VM, and lets its agent apply it under running containers.
    Leaves report.json and report.html.

    Exit codes: 0 everything held, 1 something did not, or an error.
    """
    if not (_CHECKOUT / "packaging" / "make-agent-pyz").is_file():
        raise InputError(
            "The demo needs kmend's own source tree (it makes the agent's file).",
            hint="Run `make demo` in a checkout of the repository.",
        )
    console = Console(stderr=as_json, highlight=False)
    wishes = Wishes(release=release, fix=fix, out=out, catalogue=_CHECKOUT / "fixes", checkout=_CHECKOUT)
    with lock(out / ".lock", what=f"the demo in {out}"):
        console.print("\n[bold]One fix, from source to a running container host[/]\n")
        timeline = Timeline(console)
        with timeline.shown():
            story = walk(wishes, timeline)
    show_ending(story.report, console, page=out / PAGE_FILE, figures=out / JSON_FILE)
    if as_json:
        show_json(story.report)
    return 0 if story.report.passed else 1
