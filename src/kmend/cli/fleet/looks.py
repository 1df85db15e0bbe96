"""``kmend fleet exposure``, ``kmend fleet checks``, ``kmend fleet host look``: what agents saw of their hosts."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from kmend.cli.fleet.client import Client, part
from kmend.cli.fleet.options import client_of, json_option, say
from kmend.cli.fleet.words import ago, table
from kmend.kit.printable import counted, printable
from kmend.model.look import Look, ReachGroup, Told
from kmend.model.protocol import FleetCheckList, HostContainersPage, KeptLook, ReachedCveList

_NAMED = 8
_LINES = 20
_most = click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many, the worst first."
)


@click.command("exposure")
@click.argument("cve", metavar="[CVE]", required=False)
@click.option(
    "--reach",
    type=click.Choice([one.value for one in Told]),
    help="Only containers that can, or of which nobody can tell.",
)
@_most
@json_option
@client_of
def exposure_verb(client: Client, *, cve: str | None, reach: str | None, limit: int, as_json: bool) -> None:
    """Show which containers of the fleet can reach a CVE; without one, which CVEs containers reach.

    Only open CVEs of hosts whose agents have CVE records (cve_records in agent.toml) are among them.
    """
    if cve is None:
        _cves(client, limit, as_json=as_json)
        return
    pages = client.pages(HostContainersPage, f"/cves/{part(cve)}/containers", {"reach": reach})
    found = [one for page in pages for one in page.items]
    now = datetime.now(tz=UTC)
    head = ("HOST", "NAME", "LOOKED", "REACH", "CONTAINERS")
    rows = [
        (
            one.host,
            printable(one.name),
            ago(one.looked, now),
            one.reach.replace("-", " "),
            names(one.containers, one.count),
        )
        for one in found
    ]
    say(found, table(head, rows, empty="(no container that is known of reaches it)"), as_json=as_json)


@click.command("checks")
@_most
@json_option
@client_of
def checks_verb(client: Client, *, limit: int, as_json: bool) -> None:
    """Show which checks of the audit failed over the fleet, the worst first."""
    found = client.get(FleetCheckList, "/checks", {"limit": limit}).items
    rows = [
        (
            one.severity.value,
            printable(one.check),
            str(one.hosts),
            str(one.subjects),
            printable(one.title, most=70),
        )
        for one in found
    ]
    head = ("SEVERITY", "CHECK", "HOSTS", "SUBJECTS", "WHAT")
    say(found, table(head, rows, empty="(nothing failed, or no host has sent a look)"), as_json=as_json)


@click.command("look")
@click.argument("host_id", metavar="HOST")
@json_option
@client_of
def look_verb(client: Client, *, host_id: str, as_json: bool) -> None:
    """Show the newest look at one host: its audit, and which open CVEs its containers reach."""
    found = client.get(KeptLook, f"/hosts/{part(host_id)}/look")
    say(found, "\n".join(_about(found.look, datetime.now(tz=UTC))), as_json=as_json)


def names(first: tuple[str, ...], count: int) -> str:
    """Some containers, and how many more there are."""
    shown = first[:_NAMED]
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    return ", ".join(printable(one, most=60) for one in shown) + more


def _cves(client: Client, limit: int, *, as_json: bool) -> None:
    found = client.get(ReachedCveList, "/cves", {"limit": limit}).items
    rows = [
        (one.cve, f"{one.score:.1f}", "yes" if one.exploited else "-", str(one.hosts), str(one.containers))
        for one in found
    ]
    head = ("CVE", "CVSS", "EXPLOITED", "HOSTS", "CONTAINERS")
    say(found, table(head, rows, empty="(no container that is known of reaches an open CVE)"), as_json=as_json)


def _about(look: Look, now: datetime) -> list[str]:
    lines = [f"looked     {ago(look.at, now)}, by kmend {printable(look.version)}"]
    if look.audit is not None:
        scores = (
            f"{printable(one.area)} {'-' if one.percent is None else f'{one.percent}%'}"
            for one in look.audit.scores
        )
        lines.append(f"scores     {', '.join(scores)}")
        lines += [
            f"failed     {one.severity:<9} {printable(one.check)}: {names(one.subjects[:3], one.count)}"
            for one in look.audit.failed[:_LINES]
        ]
        lines += _more(len(look.audit.failed) - _LINES)
    if look.exposure is not None:
        counts = (f"{count} {printable(verdict)}" for verdict, count in look.exposure.verdicts.items() if count)
        lines.append(f"CVEs       {', '.join(counts)}; containers reach {look.exposure.reachable}")
        lines += [_group(one) for one in look.exposure.groups[:_LINES]]
        lines += _more(len(look.exposure.groups) - _LINES)
        lines += [f"note       {printable(one)}" for one in look.exposure.missing]
    return [*lines, *(f"error      {printable(one)}" for one in look.errors)]


def _group(one: ReachGroup) -> str:
    first = f", first {printable(one.cves[0].cve)}" if one.cves else ""
    return f"{one.reach.value:<15}{counted(len(one.cves), 'CVE')}{first}: {names(one.containers, one.count)}"


def _more(count: int) -> list[str]:
    return [f"           and {count} more (--json)"] if count > 0 else []
