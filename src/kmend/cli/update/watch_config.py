"""What ``kmend update watch`` is told: a TOML file (docs/howto/update.md lists its keys)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from kmend.kernels.places import checked
from kmend.kit.errors import InputError

CHANNEL = "edge"
"""Nothing that was not looked at goes further; `kmend release promote` does that."""
_JOBS = 64
_HINT = "docs/howto/update.md describes the file."


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """The file's keys; those with a default may be left out."""

    kernels: tuple[str, ...]
    """Releases in care, as `uname -r` says on the hosts."""
    out: Path
    """Work folder: watch.json, and one folder for each kernel."""
    repo: Path
    """The repository's folder."""
    keys: Path
    """Folder made by `kmend keys init`."""
    cve_records: Path | None = None
    git: Path | None = None
    """Clone of the stable kernel."""
    advisories: Path | None = None
    """OSV records, or the Debian security tracker's JSON."""
    approval: str = "none"
    """``none``, or ``person``: it stops after proving."""
    lab: str = "quick"
    """``quick``, or ``none``: nothing is proven, so nothing is published."""
    jobs: int = 1
    interval_minutes: int = 60
    renew: bool = True
    """Bring package lists, and CVE records and kernel sources that are clones, up to date before each round."""


_REQUIRED = tuple(field.name for field in fields(WatchConfig) if field.default is MISSING)
_KEYS = tuple(field.name for field in fields(WatchConfig))
_CHOICES = {"approval": ("none", "person"), "lab": ("quick", "none")}
_NUMBERS = {"jobs": range(1, _JOBS + 1), "interval_minutes": range(1, 7 * 24 * 60 + 1)}
_INPUTS = ("cve_records", "git", "advisories")


def load(path: Path) -> WatchConfig:
    """The settings in a file; relative paths count from its folder.

    Raises:
        InputError: It cannot be read, or a key is missing, unknown or has a wrong value.
    """
    try:
        keys = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint=_HINT) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}", hint=_HINT) from None
    _check_names(keys, path)
    try:
        return WatchConfig(**{key: _value(key, value, path.absolute().parent) for key, value in keys.items()})
    except ValueError as error:
        raise InputError(f"{path}: {error}.", hint=_HINT) from None


def _check_names(keys: Mapping[str, Any], path: Path) -> None:
    missing = [key for key in _REQUIRED if key not in keys]
    unknown = [key for key in keys if key not in _KEYS]
    faults = [f"lacks {', '.join(missing)}"] if missing else []
    faults += [f"has unknown {', '.join(unknown)}"] if unknown else []
    if faults:
        always = f" The channel is always {CHANNEL}." if "channel" in unknown else ""
        raise InputError(f"{path} {' and '.join(faults)}.", hint=f"Keys: {', '.join(_KEYS)}.{always} {_HINT}")


def _value(key: str, value: Any, folder: Path) -> Any:
    """The value as WatchConfig holds it.

    Raises:
        ValueError: It is none; says which would be.
    """
    if key == "kernels":
        return _releases(value)
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise ValueError(f"{key} must be {' or '.join(map(repr, _CHOICES[key]))}, not {value!r}")
        return value
    if key in _NUMBERS:
        if type(value) is not int or value not in _NUMBERS[key]:
            allowed = _NUMBERS[key]
            raise ValueError(f"{key} must be a number from {allowed.start} to {allowed.stop - 1}, not {value!r}")
        return value
    if key == "renew":
        if not isinstance(value, bool):
            raise ValueError(f"renew must be true or false, not {value!r}")
        return value
    return _path(key, value, folder)


def _releases(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise ValueError(f"kernels must be a list of releases, not {value!r}")
    if len(set(value)) != len(value):
        raise ValueError("kernels names a release twice")
    return tuple(checked(one, what="kernel release") for one in value)


def _path(key: str, value: Any, folder: Path) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} must be a path, not {value!r}")
    path = folder / value
    if key in _INPUTS and not path.exists():
        raise ValueError(f"{key}: there is no {path}")
    return path
