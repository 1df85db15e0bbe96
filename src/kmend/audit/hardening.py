"""kernel-hardening-checker, when it is here: its opinion of the kernel's configuration, beside our own checks.

It is an external program (GPL-3.0, Alexander Popov) that is run, never shipped. It reads files made from the
facts, so that facts of another host can be judged too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kmend.audit.check import Demand
from kmend.kit.errors import InputError
from kmend.kit.run import run
from kmend.model.facts import Facts

PROGRAM = "kernel-hardening-checker"
_OLD_FIELDS = 6


def ask(facts: Facts, program: str, *, folder: Path) -> tuple[Demand, ...]:
    """What it says of the kernel of these facts.

    Args:
        facts: Whose kernel.
        program: Its name, or the path of it.
        folder: Where the files for it go.

    Raises:
        ProgramError: It is not here, or failed.
        InputError: The kernel's configuration was not seen, or what it says is not understood.
    """
    if facts.kernel.config is None:
        raise InputError("The facts hold no configuration of the kernel, which kernel-hardening-checker reads.")
    config, line, sysctls = folder / "config", folder / "cmdline", folder / "sysctl"
    header = (
        f"# Linux/{'x86_64' if facts.kernel.architecture == 'x86_64' else 'arm64'} {facts.kernel.release} Kernel"
    )
    settings = [f"{one.name}={one.value}" for one in facts.kernel.config]
    config.write_text("\n".join([f"{header} Configuration", *settings]) + "\n")
    line.write_text(" ".join(facts.kernel.command_line) + "\n")
    sysctls.write_text("".join(f"{one.name} = {one.value}\n" for one in facts.sysctls))
    done = run([program, "-m", "json", "-c", str(config), "-l", str(line), "-s", str(sysctls)])
    return read(done.text)


def read(text: str) -> tuple[Demand, ...]:
    """Its answer: a list of objects, or in releases before 0.6.10 of lists.

    Raises:
        InputError: It is neither.
    """
    try:
        lines = json.loads(text[text.index("[") :])
        return tuple(_demand(line) for line in lines)
    except (ValueError, KeyError, TypeError, IndexError):
        raise InputError(
            f"What {PROGRAM} says is not understood.", hint="Run it by hand with `-m json`."
        ) from None


def _demand(line: Any) -> Demand:
    if isinstance(line, dict):
        option, kind, wanted = line["option_name"], line["type"], line["desired_val"]
        reason, result = line["reason"], line["check_result"]
    else:
        option, kind, wanted, _, reason, result = line[:_OLD_FIELDS]
    result = str(result)
    return Demand(str(option), str(kind), str(wanted), str(reason), result.startswith("OK"), result)
