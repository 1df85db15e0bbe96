"""How many requests are let in at a time, and when the others are asked to come back.

Those who are sent away get times one after the other, as far apart as it takes the server to be done with one: a
hundred thousand hosts that come at once come back in a line, not in a crowd. Nothing is kept of them but where the
line ends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

_SOONEST = 5.0
"""Seconds after which somebody who was sent away may come back."""
_FIRST_PACE = 1 / 200
"""Seconds for each in the line, until it is known how fast this server is."""
_SLOWEST_PACE = 1.0
_MEASURED_OVER = 1.0
_NEW = 0.3
"""Weight of the newest measurement of the pace."""


class Door:
    """Lets requests in; not for several threads."""

    def __init__(self, *, most: int, latest: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Make one.

        Args:
            most: Requests inside at a time.
            latest: Seconds; nobody is asked to come back later than that.
            clock: Seconds that only rise.
        """
        self._most = most
        self._latest = latest
        self._clock = clock
        self._inside = 0
        self._pace = _FIRST_PACE
        self._end_of_line = -math.inf
        self._full_since: float | None = None
        self._done = 0

    def enter(self) -> int | None:
        """Let one in: None, and `leave` has to follow; or how many seconds later it is to come back."""
        if self._inside < self._most:
            self._inside += 1
            return None
        now = self._clock()
        if self._full_since is None:
            self._full_since, self._done = now, 0
        self._end_of_line = max(self._end_of_line, now + _SOONEST) + self._pace
        if self._end_of_line > now + self._latest:
            # Who comes now stands in line as if it had just begun: later ones would be late for their next turn.
            self._end_of_line = now + _SOONEST
        return math.ceil(self._end_of_line - now)

    def leave(self) -> None:
        """One is done. How long that takes counts only while others are sent away: else the server just waits."""
        self._inside -= 1
        if self._full_since is None:
            return
        self._done += 1
        passed = self._clock() - self._full_since
        if passed >= _MEASURED_OVER:
            newest = min(passed / self._done, _SLOWEST_PACE)
            self._pace += _NEW * (newest - self._pace)
            self._full_since = None
