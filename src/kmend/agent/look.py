"""Looks at the host: when the next is due, where the newest is kept, and the child process that makes one.

Audit and exposure need more memory and time than the daemon may take, so a child does it and is gone again.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from subprocess import Popen

from kmend.agent.apply import Host
from kmend.agent.config import Paths, switched_off
from kmend.agent.timing import place_of
from kmend.kit.errors import InputError, KmendError
from kmend.kit.files import write_atomic, write_problem
from kmend.kit.run import spawn
from kmend.linux.kernel import machine_id
from kmend.model import wire
from kmend.model.look import Look, NotHere

log = logging.getLogger(__name__)
BACKGROUND = "--background"
LONGEST = 1800.0
"""Seconds that one look may take."""
_AGAIN = timedelta(hours=1)
"""After a look that failed; and hosts that start together spread their first looks over it."""
_TOLD = 500


def load_look(paths: Paths) -> Look | None:
    """The newest look; None when there is none, or it cannot be read."""
    try:
        return wire.load(Look, paths.look.read_bytes(), what=str(paths.look))
    except (OSError, InputError):
        return None


def save_look(paths: Paths, look: Look) -> None:
    """Keep a look.

    Raises:
        MachineError: It cannot be written.
    """
    keep(paths.look, look)


def keep(path: Path, noun: object) -> None:
    """Keep a part of a look, for root alone.

    Raises:
        MachineError: It cannot be written.
    """
    try:
        write_atomic(path, wire.dump(noun), mode=0o600)
    except OSError as error:
        raise write_problem(path, error) from error


def load_not_here(paths: Paths, build_id: str) -> tuple[str, ...]:
    """CVEs that a kernel cannot have; empty where no look at this kernel has said so."""
    try:
        found = wire.load(NotHere, paths.not_here.read_bytes(), what=str(paths.not_here))
    except (OSError, InputError):
        return ()
    return found.cves if found.build_id == build_id else ()


def look_command(started: Sequence[str]) -> tuple[str, ...]:
    """The command line of a child that looks, from the one that started the daemon (``sys.orig_argv``)."""
    return (sys.executable, *started[1:-1], "look", BACKGROUND)


def next_look(last: datetime | None, failed: datetime | None, *, start: datetime, hours: int) -> datetime:
    """When the next look is due. Pure.

    Args:
        last: When the newest look was made, if there is one.
        failed: When the last try failed, if it did.
        start: The earliest moment for the first look after the daemon was started.
        hours: Between two looks.
    """
    due = start if last is None else max(start, last + timedelta(hours=hours))
    return due if failed is None else max(due, failed + _AGAIN)


@dataclass(slots=True, kw_only=True)
class Looker:
    """The daemon's side of looks: starts a child when one is due, and sees it end."""

    command: tuple[str, ...] = ()
    """Of the child; empty: no looks."""
    longest: float = LONGEST
    start: datetime | None = None
    failed: datetime | None = None
    _running: Popen[bytes] | None = None
    _until: float = 0.0
    _held: ExitStack = field(default_factory=ExitStack)

    @property
    def busy(self) -> bool:
        """Whether a look is being made."""
        return self._running is not None

    def turn(self, host: Host) -> None:
        """Do what there is to do now; never waits, and what goes wrong is logged."""
        if not self.command:
            return
        now = host.clock.now()
        try:
            if self._running is not None:
                self._see_end(self._running, now)
            elif self._is_due(host, now):
                log.info("looking at this host")
                held = spawn(self.command, env={"XDG_CACHE_HOME": str(host.paths.cache)})
                self._running = self._held.enter_context(held)
                self._until = time.monotonic() + self.longest
        except (KmendError, OSError) as error:
            self._over(f"the look at this host failed: {error}", now)

    def close(self) -> None:
        """End the child, if there is one."""
        self._running = None
        self._held.close()

    def _is_due(self, host: Host, now: datetime) -> bool:
        if self.start is None or now < self.start - _AGAIN:  # the second: the clock was set back
            self.start = now + place_of(machine_id(host.root)) * _AGAIN
        if not host.settings.look_hours or now < self.start or switched_off(host.paths):
            return False
        look = load_look(host.paths)
        last = look.at if look and look.at <= now else None
        return now >= next_look(last, self.failed, start=self.start, hours=host.settings.look_hours)

    def _see_end(self, child: Popen[bytes], now: datetime) -> None:
        code = child.poll()
        if code is None:
            if time.monotonic() > self._until:
                self._over(f"the look at this host took longer than {self.longest:.0f} s and was ended", now)
            return
        told = child.stderr.read(_TOLD).decode(errors="replace").strip() if child.stderr else ""
        self._over(f"the look at this host failed ({code}): {told}" if code else "", now)

    def _over(self, failure: str, now: datetime) -> None:
        self.close()
        self.failed = now if failure else None
        if failure:
            log.warning("%s", failure)
