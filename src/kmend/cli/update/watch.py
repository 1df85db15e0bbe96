"""``kmend update watch``: new kernel versions become published livepatches by themselves."""

from __future__ import annotations

import time
from pathlib import Path

import click

from kmend.cli.output import show_json
from kmend.cli.progress import shown
from kmend.cli.update.rounds import STATUS, one_round
from kmend.cli.update.watch_config import WatchConfig, load
from kmend.kit.files import lock
from kmend.model.watch import WatchOutcome, WatchReport
from kmend.release import status

WAITS = 10


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=Path("/etc/kmend/watch.toml"),
    show_default=True,
    help="Kernels in care, and where everything lies.",
)
@click.option("--once", is_flag=True, help="One round, then end.")
@click.option("--json", "as_json", is_flag=True, help="Print watch.json after each round.")
def watch(*, path: Path, once: bool, as_json: bool) -> int:
    """Look for new kernel versions; for each kernel in care build, prove and publish to edge.

    What the lab did not pass is never published, and nothing is promoted. With approval = "person" it stops after
    proving, and says what waits. Goes on until it is interrupted (Ctrl-C, SIGTERM); the next start goes on there.

    Exit code with --once: 0 nothing new or all done, 1 something failed, 10 something waits for a person.
    """
    config = load(path)
    status.published(config.repo, config.keys, build_id="")  # whether it is a repository at all
    with lock(config.out / ".watch.lock", what="`kmend update watch`"):
        if once:
            return _code(_round(config, as_json=as_json))
        try:
            while True:
                _round(config, as_json=as_json)
                time.sleep(60 * config.interval_minutes)
        except KeyboardInterrupt:
            click.echo("Ended; the next start goes on where this one was.", err=True)
    return 0


def _round(config: WatchConfig, *, as_json: bool) -> WatchReport:
    with shown() as progress:
        report = one_round(config, progress=progress)
    if as_json:
        show_json(report)
    else:
        _show(report, config)
    return report


def _code(report: WatchReport) -> int:
    outcomes = {row.outcome for row in report.kernels}
    if report.problems or WatchOutcome.FAILED in outcomes:
        return 1
    return WAITS if WatchOutcome.WAITS in outcomes else 0


def _show(report: WatchReport, config: WatchConfig) -> None:
    click.echo(f"{report.ended:%Y-%m-%d %H:%M} UTC, in full in {config.out / STATUS}")
    for row in report.kernels:
        click.echo(f"{row.outcome:<10}{row.release}  {row.worked_off or row.newest or '?'}  {row.reason}")
        if row.advice:
            click.echo(f"{'':10}{row.advice}")
    for problem in report.problems:
        click.echo(f"problem   {problem}")
