"""``kmend audit``: how this container host is set up, judged by its facts.

Exit codes: 0 done, 1 an error, 10 something at or above --fail-on failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from kmend import __version__
from kmend.audit import advisories, hardening, waivers
from kmend.audit.check import Case, Check, Demand
from kmend.audit.judge import audit as judge
from kmend.audit.judge import only_containers
from kmend.audit.registry import PROFILES, select
from kmend.audit.since import difference
from kmend.audit.views.common import failed, reference
from kmend.audit.views.junit import junit
from kmend.audit.views.markdown import markdown
from kmend.audit.views.page import page
from kmend.audit.views.sarif import sarif
from kmend.cli.audit import table
from kmend.cli.audit.modules import learn, modules
from kmend.cli.facts import facts_of, facts_options
from kmend.cli.output import show_json
from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic
from kmend.model import wire
from kmend.model.facts import Facts
from kmend.model.finding import FORMAT, AuditReport, Severity

_FOUND = 10
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_VIEWS: dict[str, Callable[[AuditReport], str]] = {
    "json": wire.dump,
    "sarif": sarif,
    "junit": junit,
    "markdown": markdown,
    "html": page,
}


@click.group(invoke_without_command=True)
@facts_options
@click.option(
    "--profile", default="all", show_default=True, metavar="NAME", help=f"Which checks: {', '.join(PROFILES)}."
)
@click.option(
    "--check", "checks", multiple=True, metavar="ID", help="Only this check, pattern, area or CIS number."
)
@click.option(
    "--container", "containers", multiple=True, metavar="NAME", help="Only this container, by name, id or pod."
)
@click.option("--waivers", "waivers_file", type=_FILE, help="TOML file of what is accepted, why, and until when.")
@click.option(
    "--advisories", "advisories_file", type=click.Path(path_type=Path, exists=True),
    help="What distributions say of their packages: the Debian tracker's JSON, or OSV records.",
)  # fmt: skip
@click.option(
    "--since", "older", type=_FILE, help="Say what changed since this report (--json of an earlier run)."
)
@click.option(
    "--fail-on", type=click.Choice([one.value for one in Severity]),
    help="End with 10 when something of this severity or worse failed.",
)  # fmt: skip
@click.option(
    "--hardening-checker", "checker", is_flag=True, help="Ask kernel-hardening-checker too, if it is here."
)
@click.option(
    "--format", "view", type=click.Choice(["text", *_VIEWS]), default="text", show_default=True, help="How."
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the report to this file."
)
@click.option("--all", "everything", is_flag=True, help="Show every subject, and what passed.")
@click.option("--list", "listing", is_flag=True, help="List the checks of the profile, and make none.")
@click.option("--no-learn", is_flag=True, help="Do not note which kernel modules are in use now.")
@click.pass_context
def audit(
    context: click.Context,
    facts: Path | None,
    root: Path,
    *,
    profile: str,
    checks: tuple[str, ...],
    containers: tuple[str, ...],
    waivers_file: Path | None,
    advisories_file: Path | None,
    older: Path | None,
    fail_on: str | None,
    checker: bool,
    view: str,
    as_json: bool,
    out: Path | None,
    everything: bool,
    listing: bool,
    no_learn: bool,
) -> int:
    """Check how this container host is set up: engines, images, containers, runtimes, modules, kernel.

    One look, and nothing is started in a container. What the facts do not show counts as neither pass nor fail.
    Run it as root: what the caller may not see could not be told.

    Exit codes: 0 done, 1 an error, 10 something at or above --fail-on failed.
    """
    if context.invoked_subcommand is not None:
        return 0
    chosen = select(profile, checks)
    if listing:
        _list(chosen, as_json=as_json)
        return 0
    before = load_report(older) if older else None
    accepted = waivers.read(waivers_file) if waivers_file else ()
    said = advisories.read(advisories_file) if advisories_file else {}
    seen = facts_of(facts, root)
    known = learn(seen, live=facts is None and root == Path("/") and not no_learn)
    case = Case(facts=seen, advisories=said, used_modules=frozenset(known.last if known else ()))
    if checker:
        case = replace(case, demands=_demands(seen))
    if containers:
        case = _only(case, containers)
    report = judge(case, chosen, version=__version__, profile=profile, waivers=accepted, now=datetime.now(tz=UTC))
    if before:
        report = replace(report, difference=difference(before, report))
    _show(report, view="json" if as_json else view, out=out, everything=everything)
    return _code(report, fail_on)


audit.add_command(modules)


def load_report(path: Path) -> AuditReport:
    """A report that --json wrote.

    Raises:
        InputError: It cannot be read, or is of a newer format.
    """
    report = wire.load(AuditReport, path.read_bytes(), what=str(path))
    if report.format > FORMAT:
        raise InputError(
            f"{path} has format {report.format}, and this version reads {FORMAT}.", hint="Use a newer kmend."
        )
    return report


def _demands(facts: Facts) -> tuple[Demand, ...]:
    with TemporaryDirectory(prefix="kmend-audit-") as folder:
        return hardening.ask(facts, hardening.PROGRAM, folder=Path(folder))


def _only(case: Case, wanted: tuple[str, ...]) -> Case:
    found = only_containers(case, wanted)
    if found is None:
        raise InputError(
            f"No container is called {', '.join(wanted)}.", hint="Give a name, or the begin of an id."
        )
    return found


def _show(report: AuditReport, *, view: str, out: Path | None, everything: bool) -> None:
    if view == "text":
        lines = list(table.lines(report, everything=everything))
        if out is None:
            click.echo("\n".join(lines))
        else:
            write_atomic(out, "".join(f"{click.unstyle(line)}\n" for line in lines))
        return
    text = _VIEWS[view](report)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_atomic(out, text)


def _code(report: AuditReport, fail_on: str | None) -> int:
    if fail_on is None:
        return 0
    return _FOUND if any(one.severity.rank >= Severity(fail_on).rank for one in failed(report)) else 0


def _list(chosen: tuple[Check, ...], *, as_json: bool) -> None:
    if as_json:
        show_json([one.rule for one in chosen])
        return
    for one in chosen:
        number = reference(one.rule)
        click.echo(
            f"{one.rule.severity.value:<9} {one.rule.id:<44} {one.rule.title}{f' [{number}]' if number else ''}"
        )
