"""``kmend fleet token``."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from kmend.cli.fleet.client import Client, part
from kmend.cli.fleet.options import client_of, json_option, say
from kmend.cli.fleet.words import ago, labels, table
from kmend.model.fleet import Role, Token
from kmend.model.protocol import NewToken, TokenList, TokenRequest


@click.group("token")
def token() -> None:
    """Make, list and revoke tokens of people, programs and enrolments."""


@token.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True, help="What it may do.")
@click.option("--days", type=click.IntRange(1), help="Until it expires; never without.")
@click.option("--uses", type=click.IntRange(1), help="Enrolment: how many hosts; any number without.")
@click.option("--channel", default="", help="Enrolment: what its hosts follow; stable without.")
@click.option("--label", "pairs", multiple=True, metavar="KEY=VALUE", help="Enrolment: its hosts get it.")
@json_option
@client_of
def create_verb(
    client: Client,
    *,
    name: str,
    role: str,
    days: int | None,
    uses: int | None,
    channel: str,
    pairs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a token; its text is printed this once."""
    asked = TokenRequest(name=name, role=Role(role), days=days, uses=uses, channel=channel, labels=labels(pairs))
    made = client.send(NewToken, "POST", "/tokens", asked)
    say(made, made.text, as_json=as_json)


@token.command("list")
@json_option
@client_of
def list_verb(client: Client, *, as_json: bool) -> None:
    """List tokens, the newest first."""
    found = client.get(TokenList, "/tokens").items
    now = datetime.now(tz=UTC)
    rows = [
        (one.id, one.name, one.role.value, ago(one.created, now), ago(one.last_used, now), _state(one, now))
        for one in found
    ]
    head = ("ID", "NAME", "ROLE", "MADE", "USED", "STATE")
    say(found, table(head, rows, empty="(no token)"), as_json=as_json)


@token.command("revoke")
@click.argument("token_id", metavar="TOKEN_ID")
@json_option
@client_of
def revoke_verb(client: Client, *, token_id: str, as_json: bool) -> None:
    """Let a token hold no longer; hosts that were enrolled with it stay."""
    client.remove(f"/tokens/{part(token_id)}")
    say({"removed": token_id}, f"Token {token_id} is revoked.", as_json=as_json)


def _state(found: Token, now: datetime) -> str:
    if found.revoked:
        return "revoked"
    if found.expires is not None and found.expires <= now:
        return "expired"
    if found.uses_left is not None:
        return f"{found.uses_left} uses left" if found.uses_left else "used up"
    return "good" if found.expires is None else f"good until {found.expires:%Y-%m-%d}"
