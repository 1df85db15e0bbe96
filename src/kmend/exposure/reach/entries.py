"""How a process, or a packet, comes to a part of the kernel's source: the table that reach is computed from.

The longest path wins. Each way has gates that must all be open; one open way is enough. ``asks`` are the aliases
under which the kernel itself asks for modules on that way, so a module that is not loaded comes in by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from kmend.exposure.reach.entries_core import CALLS
from kmend.exposure.reach.entries_devices import DEVICES
from kmend.exposure.reach.entries_files import FILES
from kmend.exposure.reach.entries_network import FAMILIES, NETWORK
from kmend.exposure.reach.entry import Code, Entry, Way
from kmend.exposure.reach.gates import NotKnown

ENTRIES = (*FAMILIES, *NETWORK, *FILES, *CALLS, *DEVICES)


def _begin() -> Iterator[tuple[str, Entry]]:
    for entry in ENTRIES:
        yield from ((path, entry) for path in entry.paths)


_ELSE = Entry(
    name="else", paths=("",), ways=(Way(name="?", gates=(NotKnown(),), code=Code.UNKNOWN),), source="no rule"
)
_BY_LENGTH = sorted(_begin(), key=lambda one: -len(one[0]))


@lru_cache(maxsize=1 << 15)
def entry_of(file: str) -> Entry:
    """The entry for a source file: that with the longest path that fits."""
    return next((entry for path, entry in _BY_LENGTH if file.startswith(path)), _ELSE)
