"""What was seen in use, over time: a small file, so that a module that is used on Sundays counts on Mondays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic
from kmend.model import wire

FILE = Path("/var/lib/kmend/audit/modules.json")
_FORGET = timedelta(days=400)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleUse:
    """Modules that were in use, each with the last time."""

    since: datetime
    """First look."""
    looks: int
    last: dict[str, datetime]


def load(path: Path) -> ModuleUse | None:
    """What was seen up to now; None when nothing was written yet.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    return wire.load(ModuleUse, text, what=str(path))


def seen(use: ModuleUse | None, names: frozenset[str], *, now: datetime) -> ModuleUse:
    """What is known with one more look; what was not in use for 400 days is forgotten."""
    use = use or ModuleUse(since=now, looks=0, last={})
    last = {name: when for name, when in use.last.items() if now - when < _FORGET}
    return replace(use, looks=use.looks + 1, last={**last, **dict.fromkeys(names, now)})


def save(use: ModuleUse, path: Path) -> None:
    """Write it so that a kill leaves the old file or the new one."""
    write_atomic(path, wire.dump(use))
