"""``kmend fleet webhook``."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click

from kmend.cli.fleet.client import Client, part
from kmend.cli.fleet.options import client_of, json_option, limit_option, say
from kmend.cli.fleet.words import ago, table
from kmend.kit.errors import SourceError
from kmend.model.protocol import DeliveryPage, NewWebhook, WebhookList, WebhookRequest
from kmend.model.webhook import Delivery, DeliveryState, Happening

_PATIENCE = 30
_CHOICES = [one.value for one in Happening if one != Happening.TEST]


@click.group("webhook")
def webhook() -> None:
    """Tell other programs of what happens to rollouts and hosts."""


@webhook.command("create")
@click.argument("name")
@click.argument("url")
@click.option("--on", "happenings", multiple=True, type=click.Choice(_CHOICES), help="Of this only; repeatable.")
@json_option
@client_of
def create_verb(client: Client, *, name: str, url: str, happenings: tuple[str, ...], as_json: bool) -> None:
    """Tell URL of what happens; the key of the signatures is printed this once."""
    asked = WebhookRequest(name=name, url=url, happenings=tuple(Happening(one) for one in happenings))
    made = client.send(NewWebhook, "POST", "/webhooks", asked)
    say(made, f"webhook  {made.webhook.id}\nsecret   {made.secret}", as_json=as_json)


@webhook.command("list")
@json_option
@client_of
def list_verb(client: Client, *, as_json: bool) -> None:
    """List webhooks, the newest first."""
    found = client.get(WebhookList, "/webhooks").items
    rows = [(one.id, one.name, one.url, ", ".join(one.happenings) or "everything") for one in found]
    say(found, table(("ID", "NAME", "URL", "ON"), rows, empty="(no webhook)"), as_json=as_json)


@webhook.command("delete")
@click.argument("webhook_id", metavar="WEBHOOK")
@json_option
@client_of
def delete_verb(client: Client, *, webhook_id: str, as_json: bool) -> None:
    """Forget a webhook, and what waits for it."""
    client.remove(f"/webhooks/{part(webhook_id)}")
    say({"removed": webhook_id}, f"{webhook_id} is deleted.", as_json=as_json)


@webhook.command("test")
@click.argument("webhook_id", metavar="WEBHOOK")
@json_option
@client_of
def test_verb(client: Client, *, webhook_id: str, as_json: bool) -> None:
    """Send a notice that says that nothing happened, and wait for what comes of it."""
    sent = client.send(Delivery, "POST", f"/webhooks/{part(webhook_id)}/test", None)
    until = time.monotonic() + _PATIENCE
    while sent.state == DeliveryState.WAITING and not sent.error and time.monotonic() < until:
        time.sleep(0.3)
        page = client.get(DeliveryPage, f"/webhooks/{part(webhook_id)}/deliveries")
        sent = next((one for one in page.items if one.id == sent.id), sent)
    if sent.error or sent.state == DeliveryState.WAITING:
        raise SourceError(
            f"The notice did not arrive: {sent.error or f'nothing within {_PATIENCE} seconds'}.",
            hint=f"`kmend fleet webhook deliveries {webhook_id}` shows how it goes on.",
        )
    say(sent, f"It arrived: {sent.status}.", as_json=as_json)


@webhook.command("deliveries")
@click.argument("webhook_id", metavar="WEBHOOK")
@limit_option
@json_option
@client_of
def deliveries_verb(client: Client, *, webhook_id: str, limit: int, as_json: bool) -> None:
    """Show what was sent to a webhook or waits for it, the newest first."""
    found = client.get(DeliveryPage, f"/webhooks/{part(webhook_id)}/deliveries", {"limit": limit}).items
    now = datetime.now(tz=UTC)
    rows = [
        (ago(one.notice.at, now), one.notice.happening.value, one.state.value, str(one.tries), one.error or "-")
        for one in found
    ]
    head = ("WHEN", "ON", "STATE", "TRIES", "ERROR")
    say(found, table(head, rows, empty="(nothing was sent yet)"), as_json=as_json)
