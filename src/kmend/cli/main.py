"""The ``kmend`` command: its verbs, and the one place that prints errors and exits."""

from __future__ import annotations

import importlib
import io
import logging
import signal
import sys
import traceback

import click

from kmend import __version__
from kmend.cli.output import colour, show_error
from kmend.kit.errors import BugError, KmendError
from kmend.kit.files import file_problem

# verb → module under kmend.cli that holds a click command of the same name; imported only when used.
_VERBS = {
    "agent": "agent.verb",
    "audit": "audit.verb",
    "build": "build",
    "demo": "demo.verb",
    "facts": "facts",
    "exposure": "exposure.verb",
    "fleet": "fleet.verb",
    "fix": "fix",
    "kernel": "kernel",
    "keys": "keys",
    "lab": "lab",
    "mitigate": "mitigate",
    "object-diff": "object_diff",
    "release": "release",
    "serve": "serve",
    "trust": "trust",
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
    """Live kernel patching for container hosts: build, prove, sign, apply.

    Exit codes: 0 done, 1 an error (what, and what to do, stands on standard error), 130 interrupted. `build` also
    ends with 2 (refused), `agent check` with 10 (a livepatch is available), `update watch --once` and `audit`
    with 10 (something waits for a person).
    """
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows question marks
    try:
        result = command.main(standalone_mode=False, color=colour())
    except Exception as error:  # noqa: BLE001 - one door for all: a person gets one message, whatever happened
        return _explain(error)
    except KeyboardInterrupt:
        return _explain(click.Abort())
    return result if isinstance(result, int) else 0


def _explain(error: Exception) -> int:
    """Print what an error means; the exit code."""
    code = 1
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()
    elif isinstance(error, click.Abort):
        print("Interrupted.", file=sys.stderr)
        code = 130
    elif isinstance(error, click.ClickException):
        error.show()
    elif isinstance(error, KmendError):
        show_error(error)
        code = error.exit_code
    elif isinstance(error, OSError):
        show_error(file_problem(error))
    else:
        logging.getLogger(__name__).debug("what happened:", exc_info=error)
        show_error(_unexpected(error))
    return code


def _unexpected(error: Exception) -> BugError:
    """The error for what kmend did not foresee: what it was, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "kmend" in frame.filename] or frames
    where = f" ({ours[-1].name}, line {ours[-1].lineno})" if ours else ""
    return BugError(
        f"kmend did not expect this: {type(error).__name__}: {error}{where}.",
        hint="This is a fault of kmend: please report it. `kmend -v` before the verb shows more.",
    )
