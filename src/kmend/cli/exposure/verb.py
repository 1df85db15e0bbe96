"""``kmend exposure``."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from kmend.cli.exposure.gather import Given, exposure_of, given_options
from kmend.cli.exposure.table import lines
from kmend.cli.output import show_json
from kmend.cli.progress import shown
from kmend.exposure.sarif import sarif
from kmend.exposure.vex import cyclonedx, openvex
from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic
from kmend.model import wire
from kmend.model.exposure import Exposure
from kmend.model.fix import CVE_ID

_MOST = 40


@click.command()
@given_options
@click.option("--container", default="", metavar="NAME", help="Only this container, by name, id or pod.")
@click.option("--cve", default="", metavar="CVE-…", help="Only this CVE, with all its evidence.")
@click.option("--all", "everything", is_flag=True, help="List every open CVE, not only the first ones.")
@click.option("--json", "form", flag_value="json", help="Print everything as JSON.")
@click.option("--openvex", "form", flag_value="openvex", help="Print an OpenVEX document, for scanners.")
@click.option("--cyclonedx", "form", flag_value="cyclonedx", help="Print a CycloneDX VEX document.")
@click.option("--sarif", "form", flag_value="sarif", help="Print SARIF 2.1.0.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it into a file instead.")
def exposure(
    *, container: str, cve: str, everything: bool, form: str | None, out: Path | None, **given: Any
) -> None:
    """Say which kernel CVEs are open on this host, and which of them each container can reach.

    Shows first what to do, then the most urgent CVEs: open before closed, known exploits first, then what
    containers reach, then by CVSS. Every verdict has its evidence (--cve shows it). "Could not tell" is never
    counted as closed.
    """
    if cve and not CVE_ID.fullmatch(cve):
        raise InputError(f"{cve!r} is not the id of a CVE.", hint="Write it like CVE-2026-12345.")
    if out is not None and form is None:
        raise InputError("-o writes a document.", hint="Add --json, --openvex, --cyclonedx or --sarif.")
    with shown() as progress:
        _, found = exposure_of(Given(container=container, cve=cve, **given), progress=progress)
    if form is None:
        for line in lines(found, most=sys.maxsize if everything else _MOST, details=bool(cve)):
            click.echo(line)
        return
    document = _document(found, form)
    if out is None:
        show_json(document)
    else:
        # On one line: with indents, Python writes a document of this size five times slower.
        write_atomic(out, json.dumps(wire.plain(document), sort_keys=True) + "\n")


def _document(found: Exposure, form: str) -> object:
    if form == "openvex":
        return openvex(found, now=datetime.now(tz=UTC))
    if form == "cyclonedx":
        return cyclonedx(found, now=datetime.now(tz=UTC))
    return sarif(found) if form == "sarif" else found
