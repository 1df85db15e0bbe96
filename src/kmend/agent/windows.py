"""Maintenance windows: ``Sat,Sun 02:00-05:00`` or ``daily 22:00-04:00``. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HOUR = r"(?:[01]\d|2[0-3]):[0-5]\d"
_WINDOW = re.compile(rf"(daily|[A-Z][a-z]+(?:,[A-Z][a-z]+)*) ({_HOUR})-({_HOUR})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Hours of some days; one that ends at or before its begin ends on the next day."""

    days: tuple[int, ...]
    """Days on which it begins; Monday is 0."""
    begin: time
    end: time

    def holds(self, moment: datetime) -> bool:
        """Whether a moment, in the window's time zone, lies in it."""
        at = moment.time()
        if self.begin < self.end:
            return moment.weekday() in self.days and self.begin <= at < self.end
        yesterday = (moment - timedelta(days=1)).weekday()
        return (moment.weekday() in self.days and at >= self.begin) or (yesterday in self.days and at < self.end)

    def __str__(self) -> str:
        """As it is written."""
        days = "daily" if len(self.days) == len(_DAYS) else ",".join(_DAYS[day] for day in self.days)
        return f"{days} {self.begin:%H:%M}-{self.end:%H:%M}"


def parse_window(text: str) -> Window:
    """The window that a text describes.

    Raises:
        ValueError: It describes none.
    """
    found = _WINDOW.fullmatch(text)
    names = found[1].replace("daily", ",".join(_DAYS)).split(",") if found else []
    if found is None or not set(names) <= set(_DAYS):
        raise ValueError(f'{text!r} is not a window such as "Sat,Sun 02:00-05:00" or "daily 22:00-04:00"')
    return Window(
        days=tuple(day for day, name in enumerate(_DAYS) if name in names),
        begin=time.fromisoformat(found[2]),
        end=time.fromisoformat(found[3]),
    )


def within(windows: Sequence[Window], moment: datetime, zone: tzinfo) -> bool:
    """Whether a moment lies in one of the windows; without any, every moment does."""
    return not windows or any(window.holds(moment.astimezone(zone)) for window in windows)
