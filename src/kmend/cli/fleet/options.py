"""What the verbs of ``kmend fleet`` share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import click

from kmend.cli.fleet.client import Client
from kmend.cli.output import show_json
from kmend.kit.printable import printable, printable_lines

_LINE = 4000

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


def say(value: object, text: str | Sequence[str], *, as_json: bool) -> None:
    """Print a noun, or what it means in words.

    Names and reasons come from hosts: nothing in them moves the cursor, and in ``text`` given as lines nothing
    makes a line of its own.
    """
    if as_json:
        show_json(value)
    else:
        lines = (printable(line, most=_LINE) for line in text)
        print(printable_lines(text) if isinstance(text, str) else "\n".join(lines))
