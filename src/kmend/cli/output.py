"""What every verb reads and shows alike: times, errors, JSON. No third party but click: the agent carries it."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any

import click

from kmend.kit.errors import KmendError
from kmend.kit.printable import printable_lines
from kmend.model import wire


class Seconds(click.FloatRange):
    """A length of time on the command line: not negative, and an end to it."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds; ``nan`` and ``inf`` are refused."""
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return seconds


def colour() -> bool | None:
    """False when the environment asks for none (NO_COLOR), else None: colour on terminals only."""
    return False if os.environ.get("NO_COLOR") else None


def show_error(error: KmendError) -> None:
    """Print an error and its hint to standard error, in colour only on a terminal."""
    click.echo(
        click.style("error: ", fg="red", bold=True) + printable_lines(error.message), err=True, color=colour()
    )
    if error.hint:
        click.echo(click.style("hint: ", fg="cyan") + printable_lines(error.hint), err=True, color=colour())


def show_json(value: object) -> None:
    """Print a noun, or plain dicts and lists, as JSON."""
    json.dump(wire.plain(value), sys.stdout, indent=2, sort_keys=True)
    print()
