"""Which functions somebody is attached to by ftrace: tracers, kprobes, BPF programs, livepatches.

What the kernel says in enabled_functions (Documentation/trace/ftrace.rst): name, number of users, then letters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kmend.linux.livepatch import replaced_functions

_PLACES = ("sys/kernel/tracing", "sys/kernel/debug/tracing")
_LINE = re.compile(r"(?P<name>\S+)(?: \[(?P<module>\S+)\])? \((?P<users>\d+)\)(?P<letters>[ A-Z]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedFunction:
    """A function that others than livepatches are attached to."""

    name: str
    diverted: bool
    """Whether one of them sends its callers elsewhere: no livepatch can replace it meanwhile."""


def enabled_functions(root: Path = Path("/")) -> str | None:
    """What the kernel says of every function that somebody is attached to; None when it may not be read."""
    for place in _PLACES:
        try:
            return (root / place / "enabled_functions").read_text(errors="replace")
        except OSError:
            continue
    return None


def traced_by_others(root: Path = Path("/")) -> tuple[TracedFunction, ...] | None:
    """The functions that others than livepatches are attached to; None when that cannot be told."""
    text = enabled_functions(root)
    if text is None:
        return None
    replaced = replaced_functions(root)
    found = []
    for line in filter(None, map(_LINE.match, text.splitlines())):
        # All livepatches of a function are one user of it together, and only one user may divert.
        ours = (line["module"] or "vmlinux", line["name"]) in replaced
        if int(line["users"]) > ours:
            found.append(TracedFunction(name=line["name"], diverted="I" in line["letters"] and not ours))
    return tuple(found)
