"""``kmend fleet simulate``: hosts that are not real, for a server on this machine."""

from __future__ import annotations

import asyncio

import click

from kmend.cli.fleet.client import Client
from kmend.cli.fleet.options import client_of, json_option, say
from kmend.cli.progress import shown
from kmend.fleet.simulate.connections import local_server
from kmend.fleet.simulate.hosts import Behaviour, make_hosts
from kmend.fleet.simulate.run import Load, Simulated, Simulation
from kmend.kit.errors import InputError
from kmend.model.kernel import Kernel

_INTERRUPTED = 130
_SHARE = click.FloatRange(0, 1)


@click.command("simulate")
@click.option("--hosts", type=click.IntRange(1, 200_000), required=True, help="How many.")
@click.option(
    "--rate", type=click.FloatRange(0, 100_000), default=0.0, help="Check-ins per second; 0: all it can."
)
@click.option("--seconds", type=click.FloatRange(0, 86400), default=0.0, help="For how long.")
@click.option("--rounds", type=click.IntRange(0, 100_000), default=0, help="Check-ins of each host.")
@click.option(
    "--connections", type=click.IntRange(1, 4096), default=64, show_default=True, help="At a time, at most."
)
@click.option("--fresh", is_flag=True, help="A new connection for each check-in, as real hosts make.")
@click.option("--bad", type=_SHARE, default=0.0, help="Share of hosts that quarantine what they load, 0 to 1.")
@click.option("--silent", type=_SHARE, default=0.0, help="Share of hosts that fall silent once offered something.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same hosts.")
@click.option("--release", default="6.1.0-0-simulated", show_default=True, help="The hosts' kernel.")
@click.option("--build-id", default="51" * 20, show_default=True, help="Its build id.")
@json_option
@client_of
def simulate(
    client: Client,
    *,
    hosts: int,
    rate: float,
    seconds: float,
    rounds: int,
    connections: int,
    fresh: bool,
    bad: float,
    silent: float,
    seed: int,
    release: str,
    build_id: str,
    as_json: bool,
) -> None:
    """Enrol simulated hosts and let them check in, with a server on this machine only.

    They speak the agents' protocol, take the offers that they get, and tell of it. The token is one for enrolment,
    good for that many hosts. Ends with 1 when a check-in was refused or not answered, with 130 after Ctrl-C.
    """
    if not seconds and not rounds:
        raise InputError("For how long?", hint="Give --seconds or --rounds.")
    server = local_server(client.server, ca_file=client.ca_file, fingerprint=client.fingerprint)
    kernel = Kernel(release=release, version="simulated", build_id=build_id)
    made = make_hosts(hosts, Behaviour(kernel=kernel, bad=bad, silent=silent), seed=seed)
    load = Load(connections=connections, rate=rate, rounds=rounds, seconds=seconds, fresh=fresh)
    with shown() as progress:
        simulation = Simulation(server, made, load, progress)
        ended = _run(simulation, client.token)
    result = simulation.result()
    say(result, _words(result), as_json=as_json)
    failed = bool(result.refused or result.unanswered)
    click.get_current_context().exit(int(failed) if ended else _INTERRUPTED)


def _run(simulation: Simulation, token: str) -> bool:
    """Whether it came to its end."""

    async def everything() -> None:
        await simulation.enrol(token)
        await simulation.check_in()

    try:
        asyncio.run(everything())
    except KeyboardInterrupt:
        return False
    return True


def _words(result: Simulated) -> str:
    rows: list[tuple[str, object]] = [
        ("hosts", f"{result.hosts}, enrolled in {result.enrol_seconds} s"),
        ("check-ins", f"{result.accepted} in {result.seconds} s, {result.per_second} per second"),
        ("delayed", result.delayed),
        ("refused", _counted(result.refused, "with status") if result.refused else 0),
        ("unanswered", result.unanswered),
        ("answered in", f"{result.p50} ms (half), {result.p99} ms (99%), {result.longest} ms (all)"),
        ("running", _counted(result.running, "hosts run")),
        ("quarantined", result.quarantined),
        ("silent", result.silent),
        *(("offered", f"{count}: {because}") for because, count in result.offers.items()),
    ]
    return "\n".join(f"{name:12} {value}" for name, value in rows)


def _counted(counts: dict[str, int], what: str) -> str:
    return ", ".join(f"{count} {what} {name}" for name, count in sorted(counts.items()))
