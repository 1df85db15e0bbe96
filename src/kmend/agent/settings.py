"""What the owner of a host wants: ``/etc/kmend/agent.toml`` (docs/reference/agent-config.md lists its keys)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from kmend.agent.redact import redacted
from kmend.agent.windows import Window, parse_window
from kmend.kit.errors import InputError
from kmend.trust.download import Limits, open_source
from kmend.trust.layout import check_channel

_HINT = (
    "docs/reference/agent-config.md describes the file; with the package it lies below /usr/share/doc/kmend-agent."
)
_BLOCKED = re.compile(r"[A-Za-z0-9][\w.-]*")


class UpdatePolicy(StrEnum):
    """Where a livepatch may come from."""

    REMOTE = "remote"
    """The repository."""
    LOCAL_FIRST = "local-first"
    """This host's own copy when it has something to load, else the repository."""
    LOCAL = "local"
    """This host's own copy only; `kmend agent fetch` fills it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The file's keys; each may be left out."""

    repository: str = ""
    """Instead of the enrolment's; empty: the enrolment's."""
    channel: str = ""
    """Instead of the enrolment's; empty: the enrolment's."""
    proxy: str = ""
    """Web proxy; empty: as the environment says."""
    ca_file: str = ""
    """The only authorities to trust for https; empty: the system's."""
    update_policy: UpdatePolicy = UpdatePolicy.REMOTE
    pin_number: int | None = None
    """This livepatch and no other."""
    pin_date: datetime | None = None
    """Nothing that was published later."""
    delay_hours: int = 0
    """How long a livepatch must have been published."""
    windows: tuple[Window, ...] = ()
    """When livepatches may be loaded; none: at any time."""
    time_zone: str = "UTC"
    """Of the windows."""
    blocklist: tuple[str, ...] = ()
    """Numbers of livepatches, names of fixes and CVE ids that are not to be loaded."""
    soak_minutes: int = 15
    watch_units: bool = True
    """Whether a unit that fails takes the livepatch out."""
    watch_containers: bool = True
    """Whether a container that its runtime starts again does."""
    watch_ignore: tuple[str, ...] = ()
    """Names of units and containers that do not count; ``*`` stands for anything."""
    transition_seconds: int = 60
    check_in_minutes: int = 5
    """How often the daemon looks at the repository."""
    server_ca: str = ""
    """Certificates that may vouch for the server, instead of the enrolment's; empty: the enrolment's."""
    server_proxy: str = ""
    """Instead of what the environment says; empty: what the environment says."""
    metrics_file: str = ""
    """For node_exporter's textfile collector; empty: none is written."""
    look_hours: int = 24
    """How often the daemon looks at its host (audit, exposure); 0: never."""
    look_audit: bool = True
    audit_waivers: str = ""
    """File of what the audit is to accept; empty: nothing."""
    cve_records: str = ""
    """The kernel CNA's records; empty: nothing is said about CVEs."""
    kernel_files: str = ""
    """Which code the kernel contains, as `kmend kernel files` wrote it."""
    kev: str = ""
    """CISA's known exploited vulnerabilities."""
    advisories: tuple[str, ...] = ()
    """What package versions closed: OSV records, Debian's tracker."""

    @property
    def in_words(self) -> dict[str, str]:
        """What differs from the defaults, without passwords in addresses."""
        changed = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _word(value) for name, value in changed.items() if value != getattr(Settings(), name)}

    @property
    def zone(self) -> tzinfo:
        """The time zone of the windows; UTC needs no tzdata on the host."""
        return UTC if self.time_zone == "UTC" else ZoneInfo(self.time_zone)


KEYS = tuple(field.name for field in fields(Settings))
_NUMBERS = {
    "pin_number": range(1, 1_000_000_000),
    "delay_hours": range(24 * 366),
    "soak_minutes": range(24 * 60 + 1),
    "transition_seconds": range(1, 3601),
    "check_in_minutes": range(1, 24 * 60 + 1),
    "look_hours": range(24 * 31 + 1),
}


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return value.isoformat() if isinstance(value, datetime) else redacted(str(value))


def load_settings(path: Path) -> Settings:
    """The settings in a file; all defaults when there is none.

    Raises:
        InputError: It cannot be read, or a key is unknown or has a wrong value.
    """
    try:
        keys = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint=_HINT) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}", hint=_HINT) from None
    if unknown := [key for key in keys if key not in KEYS]:
        raise InputError(f"{path} has unknown {', '.join(unknown)}.", hint=f"Keys: {', '.join(KEYS)}. {_HINT}")
    return _settings(keys, path)


def _settings(keys: Mapping[str, Any], path: Path) -> Settings:
    try:
        found = Settings(**{key: _value(key, value) for key, value in keys.items()})
        _check_pins(found)
    except InputError as error:
        raise InputError(f"{path}: {error.message}", hint=error.hint or _HINT) from None
    except ValueError as error:
        raise InputError(f"{path}: {error}.", hint=_HINT) from None
    return found


def _check_pins(found: Settings) -> None:
    if found.pin_number is not None and (found.pin_date is not None or found.delay_hours):
        raise ValueError("pin_number names one livepatch, so pin_date and delay_hours cannot stand beside it")


def _value(key: str, value: Any) -> Any:
    """The value as Settings holds it.

    Raises:
        ValueError: It is none; says which would be.
        InputError: The same, where another part of kmend checks it.
    """
    if key in _NUMBERS:
        return _number(key, value)
    return _READERS[key](key, value)


def _number(key: str, value: Any) -> int:
    allowed = _NUMBERS[key]
    if type(value) is not int or value not in allowed:
        raise ValueError(f"{key} must be a number from {allowed.start} to {allowed.stop - 1}, not {value!r}")
    return value


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} must be a text, not {value!r}")
    return value


def _repository(key: str, value: Any) -> str:
    text = _text(key, value)
    if "://" not in text and not text.startswith("/"):
        raise ValueError(f"{key} must be an address or the full path of a folder, not {text!r}")
    open_source(text, limits=Limits())
    return text


def _proxy(key: str, value: Any) -> str:
    text = _text(key, value)
    if not re.fullmatch(r"https?://[^/\s]+/?", text):
        raise ValueError(f"{key} must be an address such as http://proxy.example:3128, not {redacted(text)!r}")
    return text


def _full_path(key: str, value: Any) -> str:
    text = _text(key, value)
    if not text.startswith("/"):
        raise ValueError(f"{key} must be a full path, not {text!r}")
    return text


def _place(key: str, value: Any) -> str:
    """A full path, or an address that records can be fetched from."""
    text = _text(key, value)
    if not text.startswith("/") and not re.fullmatch(r"(https?|file|git|ssh)://\S+", text):
        raise ValueError(f"{key} must be a full path or an address such as https://…, not {redacted(text)!r}")
    return text


def _places(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and value:
        return tuple(_place(key, one) for one in value)
    raise ValueError(f'{key} must be a list such as ["/var/lib/advisories"], not {value!r}')


def _channel(key: str, value: Any) -> str:
    return check_channel(_text(key, value))


def _policy(key: str, value: Any) -> UpdatePolicy:
    if value not in list(UpdatePolicy):
        raise ValueError(f"{key} must be {' or '.join(repr(str(one)) for one in UpdatePolicy)}, not {value!r}")
    return UpdatePolicy(value)


def _moment(key: str, value: Any) -> datetime:
    """A TOML date is its whole day in UTC; a TOML time needs an offset."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time(), tzinfo=UTC) + timedelta(days=1)
    raise ValueError(f"{key} must be a date such as 2026-11-24, or a time with an offset, not {value!r}")


def _zone(key: str, value: Any) -> str:
    text = _text(key, value)
    try:
        Settings(time_zone=text).zone.utcoffset(None)
    except (OSError, ValueError, LookupError):
        raise ValueError(f"{key}: this host knows no time zone {text!r}") from None
    return text


def _windows(key: str, value: Any) -> tuple[Window, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise ValueError(f'{key} must be a list such as ["Sat,Sun 02:00-05:00"], not {value!r}')
    return tuple(parse_window(one) for one in value)


def _blocklist(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(_blocked(key, one) for one in value)
    raise ValueError(f"{key} must be a list of numbers, names of fixes and CVE ids, not {value!r}")


def _blocked(key: str, value: Any) -> str:
    named = isinstance(value, str) and _BLOCKED.fullmatch(value)
    if not named and (type(value) is not int or value < 1):
        raise ValueError(f"{key}: {value!r} is neither a livepatch's number nor the name of a fix or CVE")
    return str(value)


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key} must be true or false, not {value!r}")  # noqa: TRY004 - one kind for all
    return value


def _names(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(one, str) and one for one in value):
        return tuple(value)
    raise ValueError(f'{key} must be a list such as ["certbot.service", "batch-*"], not {value!r}')


def _metrics(key: str, value: Any) -> str:
    text = _text(key, value)
    if not text.startswith("/") or not text.endswith(".prom"):
        raise ValueError(f"{key} must be a full path that ends in .prom, not {text!r}")
    return text


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "repository": _repository,
    "channel": _channel,
    "proxy": _proxy,
    "ca_file": _full_path,
    "update_policy": _policy,
    "pin_date": _moment,
    "windows": _windows,
    "time_zone": _zone,
    "blocklist": _blocklist,
    "metrics_file": _metrics,
    "server_ca": _full_path,
    "server_proxy": _proxy,
    "watch_units": _flag,
    "watch_containers": _flag,
    "watch_ignore": _names,
    "look_audit": _flag,
    "audit_waivers": _full_path,
    "cve_records": _place,
    "kernel_files": _full_path,
    "kev": _full_path,
    "advisories": _places,
}
