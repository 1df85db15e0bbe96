"""``kmend fleet``: the group, and its verbs about the fleet as a whole."""

from __future__ import annotations

import importlib
import os
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten

import click

from kmend.agent.server import check_fingerprint
from kmend.cli.fleet import backup, hosts, livepatches, looks, rollouts, things, tokens, webhooks
from kmend.cli.fleet.client import Client, part
from kmend.cli.fleet.export import FORMATS, event_row, export, output_option
from kmend.cli.fleet.options import client_of, json_option, limit_option, say
from kmend.cli.fleet.words import ago, table
from kmend.kit.errors import InputError
from kmend.kit.printable import counted
from kmend.model.fleet import Host
from kmend.model.protocol import AuditPage, EventPage, FleetSummary
from kmend.model.rollout import Rollout

_DETAIL = 60  # characters
_FILE = click.Path(path_type=Path, dir_okay=False)


class _Verbs(click.Group):
    """Only the simulation needs libraries of the server's, so it is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "simulate"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "simulate":
            return super().get_command(ctx, cmd_name)
        command: click.Command = importlib.import_module("kmend.cli.fleet.simulate").simulate
        return command


@click.group(cls=_Verbs)
@click.option("--server", envvar="KMEND_SERVER", help="Address, e.g. https://fleet.example.org:8443.")
@click.option("--token-file", envvar="KMEND_TOKEN_FILE", type=_FILE, help="File with the token.")
@click.option("--ca", "ca_file", envvar="KMEND_CA", help="Certificates (PEM) that may vouch for the server.")
@click.option("--fingerprint", envvar="KMEND_FINGERPRINT", help="Of the server's certificate, as it printed it.")
@click.pass_context
def fleet(
    context: click.Context,
    *,
    server: str | None,
    token_file: Path | None,
    ca_file: str | None,
    fingerprint: str | None,
) -> None:
    """See and steer the fleet through its server.

    The options may also stand in KMEND_SERVER, KMEND_TOKEN_FILE, KMEND_CA and KMEND_FINGERPRINT, and the token
    itself in KMEND_TOKEN.
    """

    def connect() -> Client:
        token = _token(token_file)
        seen = check_fingerprint(fingerprint) if fingerprint else None
        return Client(server=_server(server), token=token, ca_file=ca_file, fingerprint=seen)

    context.obj = connect


for _group in (
    hosts.host,
    livepatches.livepatch,
    rollouts.rollout,
    tokens.token,
    things.channel,
    things.group,
    things.block,
    webhooks.webhook,
):
    fleet.add_command(_group)
for _verb in (
    backup.backup_verb,
    backup.restore_verb,
    livepatches.cves_verb,
    looks.exposure_verb,
    looks.checks_verb,
):
    fleet.add_command(_verb)


@fleet.command("summary")
@json_option
@client_of
def summary_verb(client: Client, *, as_json: bool) -> None:
    """Show the fleet at a glance."""
    found = client.get(FleetSummary, "/summary")
    states = ", ".join(f"{count} {state}" for state, count in sorted(found.rollouts.items())) or "none"
    text = (
        f"hosts     {found.hosts}\nsafe      {found.safe}\nsoaking   {found.soaking}\n"
        f"troubled  {found.troubled}\nsilent    {found.silent}\nrollouts  {states}\n"
        f"looks     {counted(found.looked_at, 'host')}, {found.failing} with a failed check of high severity, "
        f"{found.exposed} with a container that reaches an open CVE"
    )
    say(found, text, as_json=as_json)


@fleet.command("events")
@click.option("--host", default="", help="Only of this host (id).")
@click.option("--rollout", default="", help="Only of this rollout (id).")
@click.option("--export", "kind", type=FORMATS, help="All of them for a spreadsheet or another program instead.")
@output_option
@limit_option
@json_option
@client_of
def events_verb(
    client: Client, *, host: str, rollout: str, kind: str | None, output: Path | None, limit: int, as_json: bool
) -> None:
    """Show what happened, the newest first."""
    found = client.get(EventPage, "/events", {"host": host, "rollout": rollout, "limit": limit}).items
    if not found:
        # Of a host that was removed there may be events, of one that never was there are none: say so.
        if host:
            client.get(Host, f"/hosts/{part(host)}")
        if rollout:
            client.get(Rollout, f"/rollouts/{part(rollout)}")
    if kind:
        pages = client.pages(EventPage, "/events", {"host": host, "rollout": rollout})
        export((one for page in pages for one in page.items), event_row, kind=kind, output=output)
        return
    now = datetime.now(tz=UTC)
    rows = [(ago(event.at, now), event.kind.value, event.text) for event in found]
    say(found, table(("WHEN", "KIND", "WHAT"), rows, empty="(nothing happened yet)"), as_json=as_json)


@fleet.command("audit")
@limit_option
@json_option
@client_of
def audit_verb(client: Client, *, limit: int, as_json: bool) -> None:
    """Show who changed what, the newest first."""
    found = client.get(AuditPage, "/audit", {"limit": limit}).items
    rows = [
        (f"{one.at:%Y-%m-%d %H:%M}", one.actor, one.action, one.subject, shorten(one.detail, _DETAIL) or "-")
        for one in found
    ]
    say(
        found,
        table(("WHEN (UTC)", "WHO", "ACTION", "SUBJECT", "DETAIL"), rows, empty="(nothing yet)"),
        as_json=as_json,
    )


def _server(server: str | None) -> str:
    if not server or not server.startswith(("https://", "http://")):
        raise InputError(
            "Which server?" if not server else f"{server!r} is no address of a server.",
            hint="Give --server https://ADDRESS:PORT, or set KMEND_SERVER.",
        )
    return server


def _token(file: Path | None) -> str:
    try:
        text = file.read_text().strip() if file else os.environ.get("KMEND_TOKEN", "").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file} cannot be read as a token: {getattr(error, 'strerror', None) or error}."
        ) from None
    # A token goes into a header, so it has to be one word.
    if not text or not text.isascii() or len(text.split()) != 1:
        raise InputError("There is no token.", hint="Give --token-file FILE, or set KMEND_TOKEN.")
    return text
