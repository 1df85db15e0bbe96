"""Waivers: findings that somebody accepted, with the reason and the day on which that ends.

The file is TOML::

    [[waiver]]
    check = "container-privileged"
    subject = "container backup*"
    reason = "The backup reads block devices; moved to a host of its own in Q3."
    expires = 2027-01-31
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kmend.kit.errors import InputError
from kmend.model.finding import Finding

_KEYS = {"check", "subject", "reason", "expires"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """One waiver."""

    check: str
    """Id of a check, or a pattern."""
    subject: str
    """Pattern; ``*`` for every subject."""
    reason: str
    expires: date
    """Last day on which it holds (UTC)."""

    def is_over(self, now: datetime) -> bool:
        """Whether it has run out."""
        return now.date() > self.expires

    def covers(self, one: Finding) -> bool:
        """Whether a finding is meant by it."""
        return fnmatchcase(one.check, self.check) and fnmatchcase(one.subject, self.subject)


def reason_for(one: Finding, waivers: Sequence[Waiver], *, now: datetime) -> str:
    """Why a finding is accepted; empty when no waiver that holds covers it."""
    found = next((waiver for waiver in waivers if not waiver.is_over(now) and waiver.covers(one)), None)
    return f"{found.reason} (until {found.expires.isoformat()})" if found else ""


def read(path: Path) -> tuple[Waiver, ...]:
    """The waivers of a file.

    Raises:
        InputError: It cannot be read, or a waiver lacks a reason or an end.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"The waivers {path} cannot be read: {error}") from None
    entries = content.get("waiver")
    if not isinstance(entries, list) or set(content) - {"waiver"}:
        raise InputError(f"{path} has no [[waiver]] entries, or others.", hint="See docs/reference/audit.md.")
    return tuple(_waiver(entry, f"{path}, waiver {number}") for number, entry in enumerate(entries, 1))


def _waiver(entry: Any, where: str) -> Waiver:
    wrong = set(entry) - _KEYS if isinstance(entry, dict) else {"not a table"}
    if wrong:
        raise InputError(
            f"{where}: {', '.join(sorted(wrong))} is not known.", hint=f"Keys: {', '.join(sorted(_KEYS))}."
        )
    check, reason = entry.get("check"), entry.get("reason")
    subject, expires = entry.get("subject", "*"), entry.get("expires")
    for name, given in (("check", check), ("reason", reason), ("subject", subject)):
        if not isinstance(given, str) or not given.strip():
            raise InputError(f"{where}: {name} is missing, or no text.")
    if isinstance(expires, datetime):
        expires = expires.date()
    if not isinstance(expires, date):
        raise InputError(
            f"{where}: expires is missing, or no date.", hint="Write it as 2027-01-31, without quotes."
        )
    return Waiver(check=check, subject=subject, reason=reason.strip(), expires=expires)
