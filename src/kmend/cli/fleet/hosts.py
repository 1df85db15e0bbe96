"""``kmend fleet host``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from kmend.cli.fleet import looks
from kmend.cli.fleet.client import Client, part
from kmend.cli.fleet.export import export, format_option, host_row, output_option
from kmend.cli.fleet.options import client_of, json_option, limit_option, say
from kmend.cli.fleet.words import ago, labels, table
from kmend.model.fleet import Host, HostReport
from kmend.model.protocol import HostChange, HostPage, ReportList


@click.group("host")
def host() -> None:
    """List, show, change and remove hosts."""


@host.command("list")
@click.option("--selector", default="", help="By labels, e.g. env=prod,zone in (a,b).")
@click.option("--group", default="", help="Of a group.")
@click.option("--name", default="", help="Of this name, in full.")
@click.option("--channel", default="", help="That follow a channel.")
@click.option("--build-id", default="", help="That run a kernel.")
@click.option("--running", type=int, help="That run a livepatch's number.")
@click.option("--silent", is_flag=True, help="That were not heard of lately.")
@click.option("--state", default="", help="That stand so, as the dashboard says: safe, pending, quarantined …")
@click.option("--open-to", default="", metavar="CVE", help="On which a livepatch for their kernel would close it.")
@json_option
@client_of
def list_verb(
    client: Client,
    *,
    selector: str,
    group: str,
    name: str,
    channel: str,
    build_id: str,
    running: int | None,
    silent: bool,
    state: str,
    open_to: str,
    as_json: bool,
) -> None:
    """List hosts; all conditions have to hold."""
    query = {
        "selector": selector,
        "group": group,
        "name": name,
        "channel": channel,
        "build_id": build_id,
        "running": running,
        "silent": "true" if silent else "",
        "in_state": state,
        "open_to": open_to,
    }
    found = [one for page in client.pages(HostPage, "/hosts", query) for one in page.items]
    now = datetime.now(tz=UTC)
    head = ("ID", "NAME", "CHANNEL", "KERNEL", "LIVEPATCH", "SEEN", "LABELS")
    say(found, table(head, [_row(one, now) for one in found], empty="(no host)"), as_json=as_json)


@host.command("export")
@click.option("--selector", default="", help="By labels, e.g. env=prod,zone in (a,b).")
@click.option("--group", default="", help="Of a group.")
@click.option("--channel", default="", help="That follow a channel.")
@click.option("--state", default="", help="That stand so, as the dashboard says: safe, pending, quarantined …")
@click.option("--open-to", default="", metavar="CVE", help="On which a livepatch for their kernel would close it.")
@format_option
@output_option
@client_of
def export_verb(
    client: Client,
    *,
    selector: str,
    group: str,
    channel: str,
    state: str,
    open_to: str,
    kind: str,
    output: Path | None,
) -> None:
    """Write all hosts, or some, for a spreadsheet or another program."""
    query = {"selector": selector, "group": group, "channel": channel, "in_state": state, "open_to": open_to}
    pages = client.pages(HostPage, "/hosts", query)
    export((one for page in pages for one in page.items), host_row, kind=kind, output=output)


@host.command("show")
@click.argument("host_id", metavar="HOST")
@json_option
@client_of
def show_verb(client: Client, *, host_id: str, as_json: bool) -> None:
    """Show one host with what it reported last."""
    found = client.get(Host, f"/hosts/{part(host_id)}")
    say(found, _about(found, datetime.now(tz=UTC)), as_json=as_json)


@host.command("history")
@click.argument("host_id", metavar="HOST")
@limit_option
@json_option
@client_of
def history_verb(client: Client, *, host_id: str, limit: int, as_json: bool) -> None:
    """Show what a host reported, the newest first; what was like the report before is left out."""
    found = client.get(ReportList, f"/hosts/{part(host_id)}/reports", {"limit": limit}).items
    rows = [
        (f"{one.taken:%Y-%m-%d %H:%M:%S}", one.report.kernel.release, _livepatch(one.report), _trouble(one.report))
        for one in found
    ]
    head = ("WHEN (UTC)", "KERNEL", "LIVEPATCH", "TROUBLE")
    say(found, table(head, rows, empty="(no report yet)"), as_json=as_json)


@host.command("set")
@click.argument("host_id", metavar="HOST")
@click.option("--name", help="Its name.")
@click.option("--channel", help="The channel that it follows.")
@click.option("--label", "pairs", multiple=True, metavar="KEY=VALUE", help="Sets a label; may be repeated.")
@click.option("--no-label", "gone", multiple=True, metavar="KEY", help="Takes a label away; may be repeated.")
@json_option
@client_of
def set_verb(
    client: Client,
    *,
    host_id: str,
    name: str | None,
    channel: str | None,
    pairs: tuple[str, ...],
    gone: tuple[str, ...],
    as_json: bool,
) -> None:
    """Change a host's name, channel or labels."""
    path = f"/hosts/{part(host_id)}"
    changed = None
    if pairs or gone:
        known = {**client.get(Host, path).labels, **labels(pairs)}
        changed = {key: value for key, value in known.items() if key not in gone}
    found = client.send(Host, "PATCH", path, HostChange(name=name, channel=channel, labels=changed))
    say(found, _about(found, datetime.now(tz=UTC)), as_json=as_json)


@host.command("remove")
@click.argument("host_id", metavar="HOST")
@json_option
@client_of
def remove_verb(client: Client, *, host_id: str, as_json: bool) -> None:
    """Forget a host; its agent has to enrol again to come back."""
    client.remove(f"/hosts/{part(host_id)}")
    say({"removed": host_id}, f"{host_id} is removed.", as_json=as_json)


host.add_command(looks.look_verb)


def _row(found: Host, now: datetime) -> tuple[str, ...]:
    report = found.report
    return (
        found.id,
        found.name,
        found.channel,
        report.kernel.release if report else "-",
        _livepatch(report) if report else "-",
        ago(found.seen, now),
        _labels(found) or "-",
    )


def _about(found: Host, now: datetime) -> list[str]:
    lines = [
        f"host       {found.name} ({found.id}), enrolled {found.enrolled:%Y-%m-%d %H:%M} UTC",
        f"channel    {found.channel}",
        f"labels     {_labels(found) or 'none'}",
        f"seen       {ago(found.seen, now)}",
    ]
    report = found.report
    if report is None:
        return lines
    lines.append(f"kernel     {report.kernel.release} (build id {report.kernel.build_id[:12]}…)")
    lines.append(f"livepatch  {_livepatch(report)}")
    if report.held:
        lines.append(f"held       {report.held}")
    if report.failure:
        lines.append(f"failed     livepatch {report.failure.number}: {report.failure.reason}")
    lines += [f"held back  livepatch {one.number}: {one.reason}" for one in report.quarantined]
    return lines


def _livepatch(report: HostReport) -> str:
    return "none" if report.running is None else f"{report.running} ({report.phase})"


def _trouble(report: HostReport) -> str:
    """What is wrong by one report, in a few words."""
    told = [f"held: {report.held}"] if report.held else []
    if report.failure:
        told.append(f"livepatch {report.failure.number} failed: {report.failure.reason}")
    if report.unexpected_reboot:
        told.append("unexpected reboot")
    told += [f"livepatch {one.number} held back: {one.reason}" for one in report.quarantined]
    return "; ".join(told) or "-"


def _labels(found: Host) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(found.labels.items()))
