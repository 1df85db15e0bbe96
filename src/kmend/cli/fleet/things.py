"""``kmend fleet channel``, ``group`` and ``block``."""

from __future__ import annotations

import click

from kmend.cli.fleet.client import Client, part
from kmend.cli.fleet.options import client_of, json_option, reason_option, say
from kmend.cli.fleet.words import table, target
from kmend.model.fleet import Block, Channel, Group
from kmend.model.protocol import Blocking, BlockList, ChannelChange, ChannelList, GroupChange, GroupList


@click.group("channel")
def channel() -> None:
    """List, make, pause and resume channels."""


@channel.command("list")
@json_option
@client_of
def list_channels(client: Client, *, as_json: bool) -> None:
    """List channels."""
    found = client.get(ChannelList, "/channels").items
    rows = [(one.name, "paused" if one.paused else "open", one.reason or "-") for one in found]
    say(found, table(("CHANNEL", "STATE", "BECAUSE"), rows, empty="(no channel)"), as_json=as_json)


@channel.command("create")
@click.argument("name")
@json_option
@client_of
def create_channel(client: Client, *, name: str, as_json: bool) -> None:
    """Make a channel that hosts can follow; the signed repository needs one of the same name."""
    _put_channel(client, name, ChannelChange(), as_json=as_json)


@channel.command("pause")
@click.argument("name")
@reason_option
@json_option
@client_of
def pause_channel(client: Client, *, name: str, reason: str, as_json: bool) -> None:
    """Offer nothing in it but rollbacks."""
    _put_channel(client, name, ChannelChange(paused=True, reason=reason), as_json=as_json)


@channel.command("resume")
@click.argument("name")
@json_option
@client_of
def resume_channel(client: Client, *, name: str, as_json: bool) -> None:
    """Go on with a paused channel."""
    _put_channel(client, name, ChannelChange(), as_json=as_json)


@click.group("group")
def group() -> None:
    """List, make and remove groups: label selectors with a name."""


@group.command("list")
@json_option
@client_of
def list_groups(client: Client, *, as_json: bool) -> None:
    """List groups."""
    found = client.get(GroupList, "/groups").items
    rows = [(one.name, one.selector or "(every host)") for one in found]
    say(found, table(("GROUP", "SELECTOR"), rows, empty="(no group)"), as_json=as_json)


@group.command("set")
@click.argument("name")
@click.argument("selector")
@json_option
@client_of
def set_group(client: Client, *, name: str, selector: str, as_json: bool) -> None:
    """Make or change a group."""
    found = client.send(Group, "PUT", f"/groups/{part(name)}", GroupChange(selector=selector))
    say(found, f"Group {found.name} is {found.selector or 'every host'}.", as_json=as_json)


@group.command("remove")
@click.argument("name")
@json_option
@client_of
def remove_group(client: Client, *, name: str, as_json: bool) -> None:
    """Forget a group; rollouts that were made with it go on."""
    client.remove(f"/groups/{part(name)}")
    say({"removed": name}, f"Group {name} is removed.", as_json=as_json)


@click.group("block")
def block() -> None:
    """List, add and lift blocks: livepatches that no host is offered."""


@block.command("list")
@json_option
@client_of
def list_blocks(client: Client, *, as_json: bool) -> None:
    """List blocks, the newest first."""
    found = client.get(BlockList, "/blocks").items
    rows = [(one.build_id, str(one.number), f"{one.since:%Y-%m-%d %H:%M}", one.reason) for one in found]
    head = ("BUILD ID", "NUMBER", "SINCE (UTC)", "BECAUSE")
    say(found, table(head, rows, empty="(nothing is blocked)"), as_json=as_json)


@block.command("add")
@click.argument("livepatch")
@click.option("--reason", required=True, help="Why; hosts show it.")
@json_option
@client_of
def add_block(client: Client, *, livepatch: str, reason: str, as_json: bool) -> None:
    """Offer LIVEPATCH (BUILD_ID=NUMBER, or a folder of `kmend build`) to no host any more."""
    found = client.send(Block, "PUT", _address(livepatch), Blocking(reason=reason))
    say(found, f"Livepatch {found.number} is blocked for {found.build_id}.", as_json=as_json)


@block.command("remove")
@click.argument("livepatch")
@json_option
@client_of
def remove_block(client: Client, *, livepatch: str, as_json: bool) -> None:
    """Let LIVEPATCH be offered again."""
    client.remove(_address(livepatch))
    say({"removed": livepatch}, f"{livepatch} is no longer blocked.", as_json=as_json)


def _put_channel(client: Client, name: str, change: ChannelChange, *, as_json: bool) -> None:
    found = client.send(Channel, "PUT", f"/channels/{part(name)}", change)
    say(found, f"Channel {found.name} is {'paused' if found.paused else 'open'}.", as_json=as_json)


def _address(livepatch: str) -> str:
    one = target(livepatch)
    return f"/blocks/{part(one.build_id)}/{one.number}"
