"""From the kernel log's own time stamps to the guest's clock. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kmend.kit.errors import MachineError
from kmend.lab import kernel_log

MARK = "kmend-demo clock"
"""Written to the kernel log with the guest's time in ms behind it, so that both clocks can be compared."""


def moments(log: str, module: str) -> tuple[int, int, int]:
    """When the kernel began to enable a livepatch, began its transition, and ended it: ms since 1970.

    Args:
        log: The kernel log with at least one MARK line.
        module: The livepatch's name.

    Raises:
        MachineError: The log does not tell.
    """
    lines = [(at, text) for at, text in kernel_log.messages(log) if at >= 0]
    # Each mark reached the log a little after its time was read, so the largest difference is the nearest.
    differences = [int(text.split()[-1]) - at * 1000 for at, text in lines if MARK in text]
    if not differences:
        raise MachineError("The kernel log of the container host has no clock mark.")
    return (
        round(_first(lines, f"livepatch: enabling patch '{module}'") + max(differences)),
        round(_first(lines, f"livepatch: '{module}': starting patching transition") + max(differences)),
        round(_first(lines, f"livepatch: '{module}': patching complete") + max(differences)),
    )


def _first(lines: Iterable[tuple[float, str]], words: str) -> float:
    for at, text in lines:
        if words in text:
            return at * 1000
    raise MachineError(f"The kernel log of the container host does not say: {words}")
