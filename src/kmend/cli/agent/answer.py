"""How every verb of the agent answers: a noun for programs, text for people, an exit code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from kmend.agent.apply import Host
from kmend.agent.config import Paths
from kmend.agent.settings import load_settings
from kmend.cli.output import show_json
from kmend.kit.errors import KmendError
from kmend.kit.printable import printable_lines

json_option = click.option("--json", "as_json", is_flag=True, help="Answer as JSON, errors too.")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a verb says: a noun for programs, text for people, an exit code."""

    value: object
    text: str
    code: int = 0


def host_of(machine: Path, *, soak: float | None = None, timeout: float | None = None) -> Host:
    """The machine with its owner's settings, and what the command line says instead.

    Raises:
        InputError: agent.toml cannot be used.
    """
    settings = load_settings(Paths(root=machine).settings)
    return Host(
        root=machine,
        settings=settings,
        soak=settings.soak_minutes * 60 if soak is None else soak,
        transition_timeout=settings.transition_seconds if timeout is None else timeout,
    )


def answer_with(
    work: Callable[[], Answer], *, as_json: bool, on_error: Callable[[KmendError], Answer] | None = None
) -> int:
    """Do a verb's work and say what came of it; the exit code.

    Args:
        work: The verb.
        as_json: Answer as JSON; an error is JSON too.
        on_error: What an error means to a verb whose exit codes have a meaning of their own.
    """
    try:
        answer = work()
    except KmendError as error:
        if on_error is None and not as_json:
            raise
        answer = on_error(error) if on_error else Answer(None, "", error.exit_code)
        if as_json:
            show_json({"error": _error_fields(error)})
            return answer.code
    if as_json:
        show_json(answer.value)
    else:
        print(printable_lines(answer.text))
    return answer.code


def _error_fields(error: KmendError) -> dict[str, str]:
    return {
        "kind": type(error).__name__,
        "reason": str(getattr(error, "reason", "")),
        "message": error.message,
        "hint": error.hint,
    }
