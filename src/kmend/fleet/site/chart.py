"""Pictures of counts over time, as the numbers that an inline SVG is drawn from. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

WIDTH = 640
HEIGHT = 180
_LEFT = 60
_RIGHT = 8
_TOP = 10
_BOTTOM = 24
_STEPS = (1, 2, 5)
Point = tuple[datetime, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A line across the picture, or a place below it, with what is written there."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What is to be drawn, in units of a picture WIDTH by HEIGHT."""

    line: str
    """Path of the values; they hold until the next one."""
    area: str
    """The same, closed at the bottom."""
    last: tuple[float, float]
    levels: tuple[Mark, ...]
    days: tuple[Mark, ...]
    words: str
    """What it shows, for who does not see it."""
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM


def draw(points: Sequence[Point]) -> Chart | None:
    """The picture of some counts, oldest first; None when there is nothing to draw a line through."""
    if len(points) < 2 or points[0][0] == points[-1][0]:  # noqa: PLR2004 - a line has two ends
        return None
    top = _top(max(value for _, value in points))
    first, last = points[0][0], points[-1][0]

    def x(moment: datetime) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * ((moment - first) / (last - first)), 1)

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * value / top, 1)

    line = f"M{x(first)} {y(points[0][1])}" + "".join(f"H{x(at)}V{y(value)}" for at, value in points[1:])
    bottom = y(0)
    return Chart(
        line=line,
        area=f"{line}V{bottom}H{x(first)}Z",
        last=(x(last), y(points[-1][1])),
        levels=tuple(Mark(at=y(level), text=_short(level)) for level in (0, top / 2, top)),
        days=(Mark(at=x(first), text=_day(first)), Mark(at=x(last), text=_day(last))),
        words=_words(points),
    )


def _top(highest: int) -> int:
    """A round number, even for its half, that is not below the highest."""
    size = 1
    while True:
        for step in _STEPS:
            if 2 * step * size >= highest:
                return 2 * step * size
        size *= 10


def _short(level: float) -> str:
    """A number that fits beside the picture."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if level >= size:
            return f"{level / size:g}{unit}"
    return f"{level:g}"


def _day(moment: datetime) -> str:
    return moment.strftime("%b %-d, %H:%M")


def _words(points: Sequence[Point]) -> str:
    values = [value for _, value in points]
    return f"{values[0]} at {_day(points[0][0])}, {values[-1]} now; lowest {min(values)}, highest {max(values)}."
