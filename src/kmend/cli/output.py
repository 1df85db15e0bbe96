"""What every verb shows alike: errors and JSON. No third party but click: the agent carries this file."""

from __future__ import annotations

import json
import sys

import click

from kmend.kit.errors import KmendError
from kmend.model import wire


def show_error(error: KmendError) -> None:
    """Print an error and its hint to standard error, in colour only on a terminal."""
    click.echo(click.style("error: ", fg="red", bold=True) + error.message, err=True)
    if error.hint:
        click.echo(click.style("hint: ", fg="cyan") + error.hint, err=True)


def show_json(value: object) -> None:
    """Print a noun, or plain dicts and lists, as JSON."""
    json.dump(wire.plain(value), sys.stdout, indent=2, sort_keys=True)
    print()
