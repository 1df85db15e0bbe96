"""The ``kmend`` command: its verbs, and the one place that prints errors and exits."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
from pathlib import Path

import click

from kmend import __version__
from kmend.cli.output import show_error
from kmend.kit.errors import KmendError
from kmend.kit.files import write_problem

# verb → module under kmend.cli that holds a click command of the same name; imported only when used.
_VERBS = {
    "agent": "agent",
    "build": "build",
    "demo": "demo.verb",
    "fix": "fix",
    "kernel": "kernel",
    "keys": "keys",
    "lab": "lab",
    "object-diff": "object_diff",
    "release": "release",
    "update": "update.verb",
}


class _Verbs(click.Group):
    """Loads a verb's module when it is asked for, so that each starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"kmend.cli.{_VERBS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kmend")
@click.option("-v", "--verbose", is_flag=True, help="Say which programs are run, and more.")
def kmend(verbose: bool) -> None:
    """Live kernel patching for container hosts: build, prove, sign, apply."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(levelname).1s %(name)s: %(message)s",
    )


def main() -> None:
    """Entry point of the ``kmend`` program."""
    # Being asked to end is like Ctrl-C: what is under way cleans up after itself.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run_command(kmend))


def run_command(command: click.Command) -> int:
    """Run a click command and return the exit code; every error ends as one clear message.

    1 for errors of any kind (wrong options too), 130 for Ctrl-C; commands return other codes themselves.
    """
    try:
        result = command.main(standalone_mode=False)
    except KmendError as error:
        show_error(error)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 1
    except (click.Abort, KeyboardInterrupt):
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        show_error(write_problem(Path(str(error.filename or "a file")), error))
        return 1
    return result if isinstance(result, int) else 0
