"""``kmend agent enroll`` and ``leave``: belonging to a server of the fleet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kmend.agent import membership
from kmend.agent.server import Link, check_address, check_fingerprint
from kmend.cli.agent.answer import Answer, answer_with, host_of, json_option
from kmend.kit.errors import InputError
from kmend.linux.kernel import host_name

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("enroll")
@click.option("--server", required=True, help="Address, e.g. https://fleet.example.org:8443.")
@click.option("--token-file", type=_FILE, required=True, help="File with an enrolment token.")
@click.option("--ca", "ca_file", type=_FILE, help="Certificates (PEM) that may vouch for the server.")
@click.option("--fingerprint", help="SHA-256 of the server's certificate, as `kmend serve` printed it.")
@click.option("--name", help="Of this host, for people; default: its host name.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Several may be given.")
@click.option("--force", is_flag=True, help="Leave the server that this host belongs to.")
@json_option
@click.pass_obj
def enroll(
    machine: Path,
    *,
    server: str,
    token_file: Path,
    ca_file: Path | None,
    fingerprint: str | None,
    name: str | None,
    labels: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> int:
    """Make this host a member of a server's fleet.

    The daemon then reports to it, and loads what it offers as update_policy says; only what is signed, as before.
    """

    def work() -> Answer:
        if ca_file and fingerprint:
            raise InputError("--ca and --fingerprint do not go together.", hint="One of them says whom to trust.")
        host = host_of(machine)
        link = Link(
            address=check_address(server),
            ca=membership.read_ca(ca_file) if ca_file else "",
            fingerprint=check_fingerprint(fingerprint) if fingerprint else "",
            proxy=host.settings.server_proxy,
        )
        made = membership.join(
            host.paths,
            link,
            token=membership.read_token(token_file),
            name=name or host_name(machine) or "host",
            labels=dict(map(_label, labels)),
            now=host.clock.now(),
            force=force,
        )
        return Answer(made, f"Enrolled with {made.server} as {made.host}, in channel {made.channel}.")

    return answer_with(work, as_json=as_json)


@click.command("leave")
@json_option
@click.pass_obj
def leave(machine: Path, *, as_json: bool) -> int:
    """Forget the server; what is loaded stays, and the host goes by its own settings from now on."""

    def work() -> Answer:
        server = membership.leave(host_of(machine).paths)
        text = f"Left {server}; remove the host there too." if server else "This host belongs to no server."
        return Answer(membership.Left(server=server), text)

    return answer_with(work, as_json=as_json)


VERBS: Sequence[click.Command] = (enroll, leave)


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"{text!r} is no label.", hint="Write NAME=VALUE.")
    return name, value
