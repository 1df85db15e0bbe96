"""Times as people read them. Pure."""

from __future__ import annotations

_SECOND = 1000


def elapsed(seconds: float) -> str:
    """Seconds as minutes and seconds, e.g. ``3:07``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def milliseconds(amount: float) -> str:
    """A duration given in ms: ``85 ms``, ``1.4 s``."""
    return f"{amount:.0f} ms" if amount < _SECOND else f"{amount / _SECOND:.1f} s"


def clock(moment: str) -> str:
    """The time of day of what Docker says, e.g. ``03:12:44.031``."""
    return moment.partition("T")[2].rstrip("Z")[:12] or moment
