"""``kmend fleet rollout``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from kmend.cli.fleet.client import Client, part
from kmend.cli.fleet.export import export, format_option, output_option, rollout_row
from kmend.cli.fleet.options import client_of, json_option, reason_option, say
from kmend.cli.fleet.words import seconds, table, target, wave
from kmend.model.protocol import NewRollout, Reason, Rollback, RolloutHostPage, RolloutPage
from kmend.model.rollout import BackTo, Limits, Rollout, RolloutPlan, Tally

_POINTS = click.FloatRange(0, 100)


@click.group("rollout")
def rollout() -> None:
    """Bring a livepatch to the fleet, wave by wave; it stops by itself when hosts get worse."""


@rollout.command("create")
@click.argument("livepatches", metavar="LIVEPATCH...", nargs=-1, required=True)
@click.option("--name", required=True, help="For people.")
@click.option("--channel", default="stable", show_default=True, help="Whose hosts take part.")
@click.option("--wave", "waves", multiple=True, help="E.g. 1%, role=canary, '10% zone=a:2h'; in order.")
@click.option("--soak", default="1h", show_default=True, help="For waves that name no time: 30m, 2h, 1d.")
@click.option("--selector", default="", help="Only hosts with these labels take part.")
@click.option("--group", default="", help="Only hosts of this group take part.")
@click.option("--max-concurrent", type=click.IntRange(0), default=0, help="Hosts that may load at a time; 0: all.")
@click.option("--limit-failed", type=_POINTS, default=5.0, show_default=True, help="Percentage points.")
@click.option("--limit-quarantined", type=_POINTS, default=1.0, show_default=True, help="Percentage points.")
@click.option("--limit-rebooted", type=_POINTS, default=1.0, show_default=True, help="Percentage points.")
@click.option("--limit-silent", type=_POINTS, default=5.0, show_default=True, help="Percentage points.")
@json_option
@client_of
def create_verb(
    client: Client,
    *,
    livepatches: tuple[str, ...],
    name: str,
    channel: str,
    waves: tuple[str, ...],
    soak: str,
    selector: str,
    group: str,
    max_concurrent: int,
    limit_failed: float,
    limit_quarantined: float,
    limit_rebooted: float,
    limit_silent: float,
    as_json: bool,
) -> None:
    """Begin a rollout of one LIVEPATCH for each kernel: BUILD_ID=NUMBER, or a folder of `kmend build`.

    Without --wave: 1%, then 10%, then everybody. A wave begins when every host of those before has run the
    livepatch for the soak.
    """
    plan = RolloutPlan(
        name=name,
        channel=channel,
        livepatches=tuple(target(text) for text in livepatches),
        waves=tuple(wave(text, soak=seconds(soak)) for text in waves or ("1%", "10%", "100%")),
        selector=selector,
        max_concurrent=max_concurrent,
        limits=Limits(
            failed=limit_failed, quarantined=limit_quarantined, rebooted=limit_rebooted, silent=limit_silent
        ),
    )
    found = client.send(Rollout, "POST", "/rollouts", NewRollout(plan=plan, group=group))
    say(found, _about(found), as_json=as_json)


@rollout.command("list")
@click.option("--state", default="", help="Only those in this state, e.g. running.")
@json_option
@client_of
def list_verb(client: Client, *, state: str, as_json: bool) -> None:
    """List rollouts, the newest first."""
    found = [one for page in client.pages(RolloutPage, "/rollouts", {"state": state}) for one in page.items]
    rows = [(one.id, one.plan.name, one.plan.channel, one.state.value, _waves(one), one.reason) for one in found]
    head = ("ID", "NAME", "CHANNEL", "STATE", "WAVE", "BECAUSE")
    say(found, table(head, rows, empty="(no rollout)"), as_json=as_json)


@rollout.command("export")
@format_option
@output_option
@client_of
def export_verb(client: Client, *, kind: str, output: Path | None) -> None:
    """Write all rollouts, the newest first, for a spreadsheet or another program."""
    pages = client.pages(RolloutPage, "/rollouts")
    export((one for page in pages for one in page.items), rollout_row, kind=kind, output=output)


@rollout.command("show")
@click.argument("rollout_id", metavar="ROLLOUT")
@json_option
@client_of
def show_verb(client: Client, *, rollout_id: str, as_json: bool) -> None:
    """Show a rollout with the health of its hosts."""
    found = client.get(Rollout, f"/rollouts/{part(rollout_id)}")
    say(found, _about(found), as_json=as_json)


@rollout.command("hosts")
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--stage", default="", help="Only those at this stage, e.g. troubled.")
@json_option
@client_of
def hosts_verb(client: Client, *, rollout_id: str, stage: str, as_json: bool) -> None:
    """List where each host stands in a rollout."""
    path = f"/rollouts/{part(rollout_id)}/hosts"
    found = [one for page in client.pages(RolloutHostPage, path, {"stage": stage}) for one in page.items]
    rows = [(one.host, one.name, one.stage.value, f"{one.changed:%Y-%m-%d %H:%M}") for one in found]
    say(found, table(("ID", "NAME", "STAGE", "SINCE (UTC)"), rows, empty="(no host yet)"), as_json=as_json)


def _changing(name: str, about: str) -> Callable[..., None]:
    @rollout.command(name, help=about)
    @click.argument("rollout_id", metavar="ROLLOUT")
    @reason_option
    @json_option
    @client_of
    def verb(client: Client, *, rollout_id: str, reason: str, as_json: bool) -> None:
        path = f"/rollouts/{part(rollout_id)}/{name}"
        found = client.send(Rollout, "POST", path, Reason(reason=reason))
        say(found, _about(found), as_json=as_json)

    return verb


_changing("pause", "Offer nothing more until it is resumed.")
_changing("resume", "Go on. After a stop this says that somebody looked: troubles count anew from now.")
_changing("abort", "End it for good. Hosts that run the livepatch keep it.")


@rollout.command("rollback")
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--to", "back", multiple=True, metavar="BUILD_ID=NUMBER", help="What hosts go back to.")
@reason_option
@json_option
@client_of
def rollback_verb(client: Client, *, rollout_id: str, back: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Ask hosts that run its livepatch to go back, and block it in the whole fleet."""
    targets = [target(text) for text in back]
    back_to = tuple(BackTo(build_id=one.build_id, number=one.number) for one in targets)
    path = f"/rollouts/{part(rollout_id)}/rollback"
    found = client.send(Rollout, "POST", path, Rollback(back_to=back_to, reason=reason))
    say(found, _about(found), as_json=as_json)


def _waves(found: Rollout) -> str:
    return f"{found.wave + 1} of {len(found.plan.waves)}"


def _about(found: Rollout) -> list[str]:
    plan, health = found.plan, found.health
    lines = [
        f"rollout    {plan.name} ({found.id}), channel {plan.channel}, begun {found.created:%Y-%m-%d %H:%M} UTC",
        f"state      {found.state}: {found.reason}",
        f"wave       {_waves(found)}",
    ]
    for index, one in enumerate(plan.waves):
        mark = "→" if index == found.wave else " "
        selector = f" of {one.selector}" if one.selector else ""
        lines.append(f"         {mark} {one.percent:g}%{selector}, soak {one.soak} s")
    lines += [f"livepatch  {one.number} for build id {one.build_id[:12]}…" for one in plan.livepatches]
    lines.append(f"hosts      {health.done} done, {health.in_flight} loading, {health.pending} to settle")
    if found.running is not None:
        lines.append(f"run it     {found.running} now")
    if found.judged is None:
        return [*lines, "health     not counted yet"]
    return [*lines, f"updated    {_tally(health.updated)}", f"waiting    {_tally(health.waiting)}"]


def _tally(tally: Tally) -> str:
    return (
        f"{tally.hosts}: {tally.failed} failed, {tally.quarantined} quarantined, "
        f"{tally.rebooted} rebooted, {tally.silent} silent"
    )
