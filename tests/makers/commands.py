"""Reads command lines as click would, so that pages can be checked."""

import click

from kmend.cli import main
from kmend.cli.agent import verb


def parse(words: list[str]) -> None:
    """Let click read a command line as it would, without running it."""
    command: click.Command = verb.agent if words[0].startswith("kmend-agent") else main.kmend
    context = click.Context(command)
    rest = words[1:]
    while isinstance(command, click.Group) and not _runs_by_itself(command, rest):
        name, *rest = rest
        found = command.get_command(context, name)
        assert found is not None, f"no verb {name}"
        command = found
    command.make_context(command.name, rest)


def _runs_by_itself(group: click.Group, rest: list[str]) -> bool:
    """Whether a group is asked without a verb of its own, and does something then."""
    return group.invoke_without_command and (not rest or rest[0].startswith("-"))
