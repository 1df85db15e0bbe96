"""Reads command lines as click would, so that pages can be checked."""

import click

from kmend.cli import main
from kmend.cli.agent import verb


def parse(words: list[str]) -> None:
    """Let click read a command line as it would, without running it."""
    command: click.Command = verb.agent if words[0].startswith("kmend-agent") else main.kmend
    context = click.Context(command)
    rest = words[1:]
    while isinstance(command, click.Group):
        name, *rest = rest
        found = command.get_command(context, name)
        assert found is not None, f"no verb {name}"
        command = found
    command.make_context(command.name, rest)
