"""When the daemon looks at the repository: each host at its own place, slower while things go wrong. Pure."""

from __future__ import annotations

import hashlib
from datetime import datetime

_JITTER = 0.1
_SLOWEST = 3600.0
_FIRST = 60.0


def place_of(identity: str) -> float:
    """A host's own place in each interval, from 0 up to 1; identities spread evenly, and it stays the same."""
    digest = hashlib.sha256(b"kmend check-in\0" + identity.encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def first_wait(place: float, *, interval: float) -> float:
    """Seconds from the start of the daemon to the first look: soon, since a boot has taken the livepatch out.

    Hosts that boot together spread over a minute.
    """
    return place * min(_FIRST, interval)


def next_wait(now: datetime, *, interval: float, place: float, failures: int, chance: float) -> float:
    """Seconds until the next look.

    Without failures it is the host's own place in an interval, at least half an interval away, and up to a tenth
    of the interval later. After failures the pause doubles each time, up to an hour, and is drawn from half to one
    and a half of that, so that hosts that failed together do not come back together.

    Args:
        now: The moment.
        interval: Seconds.
        place: The host's place, from 0 up to 1.
        failures: How many looks in a row have failed.
        chance: A random number from 0 up to 1.
    """
    if failures:
        pause = min(interval * 2.0 ** min(failures, 20), max(_SLOWEST, interval))
        return pause * (0.5 + chance)
    earliest = now.timestamp() + interval / 2
    return interval / 2 + (place * interval - earliest) % interval + _JITTER * interval * chance
