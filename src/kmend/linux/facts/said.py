"""What an engine or a file said, as JSON of which nothing can be taken for granted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from kmend.linux.facts.look import Look, without_credentials
from kmend.model.facts import Setting

_MOST_SETTINGS = 3_000
_MOST_ITEMS = 20_000
_LONGEST = 4_000
_DEPTH = 12
_LARGEST = 1 << 63
_BEFORE = 1
"""Go's zero time is in the year 1: it means never."""


class Said:
    """A JSON value. What is absent or null reads as empty; what has another type does too, with a note."""

    def __init__(self, value: Any, look: Look, what: str) -> None:
        self.value = value
        self._look = look
        self._what = what

    def at(self, *path: str) -> Said:
        """What stands at a path of names."""
        value = self.value
        for name in path:
            if value is None:
                break
            if not isinstance(value, dict):
                self._wrong(path, "an object")
                value = None
                break
            value = value.get(name)
        return Said(value, self._look, f"{self._what}:{'.'.join(path)}" if path else self._what)

    def text(self, *path: str) -> str:
        """A text, cut where it is absurdly long."""
        value = self._of(str, path, "a text")
        return value[:_LONGEST] if value else ""

    def number(self, *path: str) -> int:
        """A number that fits into 64 bits."""
        value = self._of(int, path, "a number")
        if value is None or isinstance(value, bool) or abs(value) >= _LARGEST:
            return 0
        return int(value)

    def flag(self, *path: str) -> bool | None:
        """True, false, or nothing said."""
        found: bool | None = self._of(bool, path, "true or false")
        return found

    def texts(self, *path: str) -> tuple[str, ...]:
        """The texts of a list."""
        value = self.at(*path).value
        if isinstance(value, list) and len(value) <= _MOST_ITEMS and all(type(one) is str for one in value):
            return tuple(one[:_LONGEST] for one in value)
        return tuple(one.text() for one in self.items(*path))

    def items(self, *path: str) -> list[Said]:
        """What a list holds."""
        values = self._of(list, path, "a list") or []
        here = self.at(*path)
        if len(values) > _MOST_ITEMS:
            self._look.miss(here._what, f"it holds {len(values)} entries; only {_MOST_ITEMS} were looked at")  # noqa: SLF001
        return [Said(value, self._look, here._what) for value in values[:_MOST_ITEMS]]  # noqa: SLF001

    def pairs(self, *path: str) -> Iterator[tuple[str, Said]]:
        """The names of an object, with what stands there."""
        here = self.at(*path)
        values = self._of(dict, path, "an object") or {}
        for name in list(values)[:_MOST_ITEMS]:
            yield str(name)[:_LONGEST], here.at(name)

    def moment(self, *path: str) -> datetime | None:
        """A time such as ``2026-11-24T12:00:00.123456789Z``; None for none, and for one that is not readable."""
        text = self.text(*path)
        if not text:
            return None
        whole, _, rest = text.partition(".")
        zone = rest.lstrip("0123456789") if rest else ""
        try:
            found = datetime.fromisoformat(whole + zone)
            utc = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            self._wrong(path, "a time")
            return None
        return utc if utc.year > _BEFORE else None

    def settings(self, *path: str) -> tuple[Setting, ...]:
        """All that stands there, flat; see ``flat``."""
        return flat(self.at(*path).value)

    def _of(self, kind: type, path: tuple[str, ...], words: str) -> Any:
        value = self.at(*path).value
        if value is None or isinstance(value, kind):
            return value
        self._wrong(path, words)
        return None

    def _wrong(self, path: tuple[str, ...], words: str) -> None:
        self._look.miss(":".join(filter(None, (self._what, ".".join(path)))), f"it is not {words}")


def flat(value: Any, *, source: str = "") -> tuple[Setting, ...]:
    """Every value by its dotted name, at most 3,000.

    A list of plain values is one setting, its values with a blank between them; other lists count from 0. True is
    ``true``, null and what is empty are empty. Passwords in addresses are taken out.
    """
    found: list[Setting] = []
    _flatten(value, "", found, source, _DEPTH)
    return tuple(found)


def _flatten(value: Any, name: str, found: list[Setting], source: str, depth: int) -> None:
    if len(found) >= _MOST_SETTINGS or not depth:
        return
    if isinstance(value, list) and any(isinstance(one, (dict, list)) for one in value):
        value = {str(number): one for number, one in enumerate(value[:_MOST_SETTINGS])}
    if isinstance(value, dict) and value:
        for key, one in value.items():
            _flatten(one, f"{name}.{key}" if name else str(key)[:_LONGEST], found, source, depth - 1)
    elif name:
        found.append(Setting(name=name, value=_word(value), source=source))


def _word(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_word(one) for one in value[:_MOST_SETTINGS])[:_LONGEST]
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value == {}:
        return ""
    return without_credentials(str(value)[:_LONGEST])
