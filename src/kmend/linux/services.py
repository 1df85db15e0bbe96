"""Services as systemd shows them. Looks only."""

from __future__ import annotations

from collections.abc import Sequence

from kmend.kit.errors import ProgramError
from kmend.kit.run import run

_TIMEOUT = 20
_QUERY = ("systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager", "--full")


def failed_units() -> tuple[str, ...] | None:
    """Names of the units that have failed; None where systemd does not answer."""
    try:
        text = run(_QUERY, timeout=_TIMEOUT).text
    except ProgramError:
        return None
    return tuple(sorted(line.split()[0] for line in text.splitlines() if line.strip()))


def unit_state(name: str) -> str | None:
    """``active``, ``inactive``, ``failed`` and the like; None where systemd does not answer."""
    try:
        done = run(("systemctl", "is-active", name), timeout=_TIMEOUT, check=False)
    except ProgramError:
        return None
    return done.text.strip() or None


def journal(units: Sequence[str], *, lines: int) -> str | None:
    """The newest journal lines of some units; None where there is no journal."""
    words = [word for unit in units for word in ("--unit", unit)]
    try:
        return run(("journalctl", "--no-pager", "--lines", str(lines), *words), timeout=_TIMEOUT).text
    except ProgramError:
        return None


def going_down() -> bool | None:
    """Whether the system is being shut down in order; None where systemd does not answer."""
    try:
        done = run(("systemctl", "is-system-running"), timeout=_TIMEOUT, check=False)
    except ProgramError:
        return None
    word = done.text.strip()
    return word == "stopping" if word else None
