"""``kmend mitigate``: switch off what a CVE is in, until it is closed; reversible, and told what it breaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from kmend.cli.exposure.gather import Given, exposure_of, given_options
from kmend.cli.output import show_json
from kmend.cli.progress import shown
from kmend.exposure import dropins
from kmend.exposure.dropins import Mitigation
from kmend.kit.errors import InputError
from kmend.kit.printable import printable
from kmend.model.fix import CVE_ID


@click.command()
@click.argument("cve", required=False, default="")
@given_options
@click.option("--dry-run", is_flag=True, help="Only say what would be written, and what it breaks.")
@click.option("--list", "listing", is_flag=True, help="Show the mitigations that are there.")
@click.option("--remove", is_flag=True, help="Take the mitigation of CVE out.")
@click.option("--refresh", is_flag=True, help="Take out the mitigations of all CVEs that are closed; for a timer.")
@click.option("--yes-breaks", is_flag=True, help="Write it although it breaks what was named.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def mitigate(
    cve: str,
    *,
    dry_run: bool,
    listing: bool,
    remove: bool,
    refresh: bool,
    yes_breaks: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Keep the code of CVE from being reached, where no livepatch closes it yet.

    Writes a drop-in for this CVE alone: a module block in /etc/modprobe.d or a sysctl in /etc/sysctl.d. Refuses
    where the code is built in or in use, and where something would break that nobody has agreed to (--yes-breaks).
    """
    given = Given(**options)
    _check(cve, given, chosen=[listing, remove, refresh], dry_run=dry_run)
    if listing:
        found = dropins.held(given.root)
    elif remove:
        found = (_remove(given.root, cve, dry_run=dry_run),)
    elif refresh:
        found = tuple(_refresh(given, dry_run=dry_run))
    else:
        found = (_write(given, cve, dry_run=dry_run, yes_breaks=yes_breaks),)
    if as_json:
        show_json({"mitigations": found, "dry_run": dry_run})
        return
    word = "is in force" if listing else "is taken out" if remove or refresh else "is written"
    for one in found:
        click.echo(_line(one, f"would be {word.removeprefix('is ')}" if dry_run and not listing else word))
    if not found:
        click.echo("No mitigation is in force." if listing else "No mitigation is of a CVE that is closed.")


def _check(cve: str, given: Given, *, chosen: list[bool], dry_run: bool) -> None:
    if sum(chosen) > 1:
        raise InputError("Give one of --list, --remove and --refresh.")
    needs_cve = chosen[1] or not any(chosen)
    if needs_cve and not CVE_ID.fullmatch(cve):
        raise InputError("Which CVE?", hint="Write it like `kmend mitigate CVE-2026-12345 --records …`.")
    if cve and not needs_cve:
        raise InputError("--list and --refresh are about all CVEs.", hint="Leave the CVE out.")
    if given.facts is not None and not dry_run and not chosen[0]:
        raise InputError(
            "Saved facts can be judged here, but not changed.", hint="Add --dry-run, or run it on that host."
        )


def _write(given: Given, cve: str, *, dry_run: bool, yes_breaks: bool) -> Mitigation:
    with shown() as progress:
        facts, found = exposure_of(replace(given, cve=cve), progress=progress)
    if not found.cves:
        raise InputError(f"The record of {cve} cannot be used: {found.unread[0].why}")
    there = dropins.held(given.root) if given.facts is None else ()
    one = dropins.plan(facts, found.cves[0], held=there, now=datetime.now(tz=UTC))
    if dry_run:
        return one
    if one.breaks and not yes_breaks:
        raise InputError(
            f"This could break {'; '.join(one.breaks)}. Nothing was written.",
            hint="Add --yes-breaks where none of it is used here.",
        )
    _warn(dropins.write(given.root, one))
    return one


def _remove(root: Path, cve: str, *, dry_run: bool) -> Mitigation:
    there = dropins.held(root)
    one = next((one for one in there if one.cve == cve), None)
    if one is None:
        raise InputError(
            f"There is no mitigation of {cve}.", hint="`kmend mitigate --list` shows those there are."
        )
    if not dry_run:
        _warn(dropins.remove(root, one, others=there))
    return one


def _refresh(given: Given, *, dry_run: bool) -> Iterator[Mitigation]:
    if not dropins.held(given.root):
        return
    with shown() as progress:
        _, found = exposure_of(given, progress=progress)
    for one, left in dropins.lift_closed(given.root, found, dry_run=dry_run):
        _warn(left)
        yield one


def _warn(text: str) -> None:
    if text:
        click.echo(f"note: {text}", err=True)


def _line(one: Mitigation, word: str) -> str:
    what = f"blocks {', '.join(one.blocks)}" if one.blocks else f"sets {one.sysctl}={one.value}"
    breaks = f" Breaks {'; '.join(one.breaks)}." if one.breaks else ""
    return printable(f"{one.cve}: {what}; /{one.file} {word}.{breaks}", most=400)
