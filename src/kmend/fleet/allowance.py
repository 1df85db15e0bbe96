"""How often each token may ask: a bucket of requests that fills up again by and by.

So no program of somebody's crowds out the others, however fast it asks. Each replica counts for itself, and begins
with full buckets: nothing depends on them but the pace.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from threading import Lock

_REMEMBERED = 1000
"""Buckets, after which the full ones are forgotten: who is not known has a full one."""


class Allowance:
    """Counts the requests of each; for several threads."""

    def __init__(self, *, per_second: float, at_once: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Make one.

        Args:
            per_second: Requests of one token in the long run.
            at_once: Requests of one token that did not ask for some time.
            clock: Seconds that only rise.
        """
        self._per_second = per_second
        self._at_once = at_once
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}
        """Who → requests that were left, and when."""
        self._lock = Lock()

    def take(self, who: str) -> int | None:
        """Let somebody ask once more: None; or how many seconds later it would be let."""
        with self._lock:
            now = self._clock()
            left = self._left_now(*self._left.get(who, (self._at_once, now)), now)
            if left < 1:
                return math.ceil((1 - left) / self._per_second)
            self._left[who] = left - 1, now
            if len(self._left) > _REMEMBERED:
                self._forget(now)
            return None

    def _left_now(self, left: float, since: float, now: float) -> float:
        return min(self._at_once, left + (now - since) * self._per_second)

    def _forget(self, now: float) -> None:
        self._left = {
            who: bucket for who, bucket in self._left.items() if self._left_now(*bucket, now) < self._at_once
        }
