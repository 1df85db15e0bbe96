"""What the verbs of ``kmend fleet`` share."""

from __future__ import annotations

import functools
from collections.abc import Callable

import click

from kmend.cli.fleet.client import Client
from kmend.cli.output import show_json

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
reason_option = click.option("--reason", default="", help="Why; it is kept and shown.")
limit_option = click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many, the newest first."
)


def client_of(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the client, which is made only when the verb runs: help needs no server and no token."""

    def with_client(connect: Callable[[], Client], /, **options: object) -> None:
        verb(connect(), **options)

    return click.pass_obj(functools.update_wrapper(with_client, verb))


def say(value: object, text: str, *, as_json: bool) -> None:
    """Print a noun, or what it means in words."""
    if as_json:
        show_json(value)
    else:
        print(text)
