"""``kmend fleet livepatch``, ``kmend fleet cves``: what is published, its proof, and who is still open to what."""

from __future__ import annotations

import click

from kmend.cli.fleet.client import Client, part
from kmend.cli.fleet.options import client_of, json_option, say
from kmend.cli.fleet.words import table, target
from kmend.kit.printable import counted, printable
from kmend.model.protocol import CveStanding, FleetCveList, FleetLivepatchList, LivepatchProof

_most = click.option("--limit", type=click.IntRange(1, 1000), default=200, show_default=True, help="How many.")


@click.group("livepatch")
def livepatch() -> None:
    """Livepatches that are published for the fleet, as the server's --repository has them."""


@livepatch.command("list")
@_most
@json_option
@client_of
def list_verb(client: Client, *, limit: int, as_json: bool) -> None:
    """List them, with how many hosts run each."""
    found = client.get(FleetLivepatchList, "/livepatches", {"limit": limit}).items
    rows = [
        (
            printable(one.kernel.release),
            one.kernel.build_id,
            str(one.number),
            ", ".join(one.channels) or "-",
            str(len(one.cves)),
            str(one.hosts),
        )
        for one in found
    ]
    head = ("KERNEL", "BUILD ID", "NUMBER", "CHANNELS", "CVES", "HOSTS")
    say(found, table(head, rows, empty="(none; is the server started with --repository?)"), as_json=as_json)


@livepatch.command("show")
@click.argument("which", metavar="LIVEPATCH")
@json_option
@client_of
def show_verb(client: Client, *, which: str, as_json: bool) -> None:
    """Show one with its proof: BUILD_ID=NUMBER, or a folder of `kmend build`."""
    asked = target(which)
    found = client.get(LivepatchProof, f"/livepatches/{part(asked.build_id)}/{asked.number}")
    say(found, _about(found), as_json=as_json)


@click.command("cves")
@click.argument("cve", metavar="[CVE]", required=False)
@_most
@json_option
@client_of
def cves_verb(client: Client, *, cve: str | None, limit: int, as_json: bool) -> None:
    """Show on how many hosts each CVE is open that a livepatch closes; or how hosts stand with one CVE.

    `kmend fleet host list --open-to CVE` names the hosts.
    """
    if cve is not None:
        one = client.get(CveStanding, f"/open-cves/{part(cve)}")
        runs = "it runs" if one.closed == 1 else "they run"
        text = (
            f"open      {counted(one.open, 'host')}, though a livepatch for their kernel closes it\n"
            f"closed    {counted(one.closed, 'host')}, by the livepatch that {runs}\n"
            f"not told  {counted(one.unknown, 'host')}: no known livepatch for their kernel speaks of it"
        )
        say(one, text, as_json=as_json)
        return
    found = client.get(FleetCveList, "/open-cves", {"limit": limit}).items
    rows = [(one.cve, str(one.open), str(one.closed)) for one in found]
    say(found, table(("CVE", "OPEN ON", "CLOSED ON"), rows, empty="(no CVE is known)"), as_json=as_json)


def _about(found: LivepatchProof) -> str:
    one = found.livepatch
    published = f"{found.published:%Y-%m-%d %H:%M} UTC" if found.published else "not known when"
    lines = [
        f"livepatch  {one.number} for {one.kernel.release} (build id {one.kernel.build_id})",
        f"channels   {', '.join(found.channels) or 'none now'}; published {published}",
        f"hosts      {found.hosts} {'runs' if found.hosts == 1 else 'run'} it now",
        f"built      {one.builder}, {one.compiler}",
        f"sha256     {one.sha256}",
    ]
    if found.blocked:
        lines.append(f"blocked    {found.blocked}")
    lines += [f"rollout    {one}" for one in found.rollouts]
    lines += [f"fix        {fix.title} ({', '.join(fix.cves)}), from {fix.origin}" for fix in one.fixes]
    lines += [
        f"replaces   {function.name} in {function.object}: "
        f"{function.size} bytes, {function.bytes_proven} found equal, the rest addresses"
        for function in one.functions
    ]
    if (lab := found.report) is None:
        lines.append("lab        no report in the channel")
    else:
        ended = "passed" if lab.passed else f"failed: {lab.failure}"
        lines.append(
            f"lab        {ended} ({lab.profile}, {lab.accelerator}, {lab.started:%Y-%m-%d}): "
            f"before {lab.probe_before}, with it {lab.probe_after}, taken out {lab.probe_unloaded}; "
            f"transition {lab.transition_ms:.0f} ms"
        )
    return "\n".join(printable(line) for line in lines)
