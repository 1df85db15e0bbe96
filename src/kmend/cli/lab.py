"""``kmend lab``: prove a livepatch in a VM."""

from __future__ import annotations

from pathlib import Path

import click

from kmend.cli.output import Seconds, show_json
from kmend.cli.progress import shown
from kmend.kernels import store
from kmend.lab.accelerator import accelerator
from kmend.lab.guests import host_disk
from kmend.lab.lab import run_lab
from kmend.lab.reporting import REPORT
from kmend.model.lab import LabReport, Profile


@click.group()
def lab() -> None:
    """Boot the very kernel in a VM and prove a livepatch there."""


@lab.command()
@click.option("--kernel", "release", required=True, metavar="RELEASE", help="The kernel, as `uname -r` names it.")
@click.option(
    "--profile",
    type=click.Choice([str(profile) for profile in Profile]),
    default=str(Profile.QUICK),
    show_default=True,
    help="quick: busybox, seconds. host: Debian with Docker and three containers.",
)
@click.option("--soak", type=Seconds(), help="Seconds under load; 5 (quick) or 15 (host) if not given.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def run(release: str, profile: str, soak: float | None, as_json: bool, folder: Path) -> int:
    """Prove the livepatch that `kmend build` left in FOLDER; writes labreport.json there.

    Exit code 0 when everything held, 1 when something failed.
    """
    kit = store.load(release)
    with shown() as progress:
        report = run_lab(kit, folder, profile=Profile(profile), soak=soak, progress=progress)
    if as_json:
        show_json(report)
    else:
        show_report(report, folder / REPORT)
    return 0 if report.passed else 1


@lab.command()
@click.option("--kernel", "release", required=True, metavar="RELEASE", help="The kernel that boots it once.")
def guest(release: str) -> None:
    """Make the host profile's Debian guest ahead of time (about two minutes, once; needs root)."""
    kit = store.load(release)
    with shown() as progress:
        disk = host_disk(kit, accelerator=accelerator(kit, progress), progress=progress)
    click.echo(f"The guest is in {disk}.")


def show_report(report: LabReport, path: Path) -> None:
    """Print a report for a person."""
    for step in report.steps:
        sign = click.style("ok    ", fg="green") if step.passed else click.style("failed", fg="red", bold=True)
        click.echo(f"{sign}  {step.name:<15} {step.seconds:6.1f} s  {step.detail}".rstrip())
    for line in report.kernel_log_findings:
        click.echo(f"        kernel: {line}")
    verdict = "proven" if report.passed else f"NOT proven: {report.failure}"
    click.echo(f"Livepatch {report.livepatch_number} for {report.kernel.release} is {verdict}")
    if report.passed and not report.probes:
        click.echo("No probe came with it: that the bug is gone was not tested.")
    click.echo(f"Report: {path}")
