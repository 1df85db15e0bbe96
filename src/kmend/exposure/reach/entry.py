"""What the table of entries is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kmend.exposure.reach.gates import Gate


class Code(StrEnum):
    """When the code of a way is in the kernel."""

    ASKED = "asked"
    """Built in, loaded, or brought in by one of ``asks``."""
    HARDWARE = "hardware"
    """When its hardware is here: then udev has loaded it, or will."""
    LOADED = "loaded"
    """Only when it is there already."""
    UNKNOWN = "unknown"
    """When it is there already; else nobody knows what brings it in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way into the code."""

    name: str
    gates: tuple[Gate, ...]
    asks: tuple[str, ...] = ()
    code: Code = Code.ASKED


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A part of the kernel and the ways into it."""

    name: str
    paths: tuple[str, ...]
    """A folder (with ``/`` at its end), a file, or how names of files begin."""
    ways: tuple[Way, ...]
    source: str
    """Where the kernel says so."""
