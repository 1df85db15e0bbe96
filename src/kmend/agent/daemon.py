"""`kmend agent run`: looks at the repository again and again, and does what `update` does."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from kmend.agent import sync
from kmend.agent.apply import Clock, Host, WallClock
from kmend.agent.checkin import CheckIns
from kmend.agent.look import Looker
from kmend.agent.settings import load_settings
from kmend.agent.timing import first_wait, next_wait, place_of
from kmend.kit.errors import BusyError, InputError, KmendError
from kmend.kit.files import lock
from kmend.linux.kernel import machine_id
from kmend.linux.notify import notify, watchdog_seconds
from kmend.trust.download import Limits

log = logging.getLogger(__name__)

_STEP = 10.0
# What one look may take at most has to stay below WatchdogSec of kmend-agent.service.
_LIMITS = Limits(total=120)


@dataclass(frozen=True, slots=True, kw_only=True)
class PetClock:
    """A clock whose long sleeps tell systemd that the service is alive."""

    inner: Clock = field(default_factory=WallClock)
    step: float = _STEP
    """Longest silence, in seconds."""

    def now(self) -> datetime:
        """The moment."""
        return self.inner.now()

    def monotonic(self) -> float:
        """Seconds that only rise."""
        return self.inner.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait, and say so."""
        left = seconds
        while left > 0:
            notify("WATCHDOG=1")
            self.inner.sleep(min(left, self.step))
            left -= self.step
        notify("WATCHDOG=1")


@dataclass(slots=True, kw_only=True)
class Daemon:
    """What is remembered from one look to the next."""

    host: Host
    chance: Callable[[], float] = random.random
    failures: int = 0
    said: str = ""
    server: CheckIns = field(default_factory=CheckIns)
    looker: Looker = field(default_factory=Looker)

    def run(self) -> None:
        """Look, wait, and so on, until asked to end (KeyboardInterrupt).

        Raises:
            BusyError: Another daemon runs.
        """
        with lock(self.host.paths.daemon, what="kmend agent run"), _service(), closing(self.looker):
            place = place_of(machine_id(self.host.root))
            self._sleep(first_wait(place, interval=self._interval))
            while True:
                self.look()
                wait = next_wait(
                    self.host.clock.now(),
                    interval=self._interval,
                    place=place,
                    failures=self.failures,
                    chance=self.chance(),
                )
                self.server.rest(self.host, wait, sleep=self._sleep)

    def look(self) -> None:
        """Do once what `update` does, by the settings as they are now; what goes wrong is logged and counted."""
        notify("WATCHDOG=1")
        try:
            self.host = replace(with_settings(self.host), meanwhile=self.server.meanwhile)
            self.server.check_in(self.host)
            done = sync.update(self.host, limits=_LIMITS)
        except BusyError as error:
            self._say(logging.INFO, error.message)
        except InputError as error:  # for a person to put right: asking less often helps nobody
            self.failures = 0
            self._say(logging.ERROR, f"{error.message} {error.hint}".strip())
        except (KmendError, OSError) as error:
            self.failures += 1
            self._say(logging.ERROR, str(error))
        else:
            self.failures = 0
            decision = done.decision
            what = f"livepatch {decision.offered} is loaded" if done.applied else str(decision.verdict)
            self._say(logging.INFO, f"{what}: {decision.because}")
            self.server.note_refusal(self.host, decision)
        if self.server.check_in(self.host, news=True):  # it heard how this look ended, and wants something else
            self.server.urgent = True

    @property
    def _interval(self) -> float:
        return self.host.settings.check_in_minutes * 60.0

    def _sleep(self, seconds: float) -> None:
        log.debug("the next look is in %.0f s", seconds)
        left = seconds
        while left > 0:
            self.looker.turn(self.host)
            piece = min(left, _STEP) if self.looker.busy else left
            self.host.clock.sleep(piece)
            left -= piece

    def _say(self, level: int, text: str) -> None:
        """Say in the journal what is new, and in the service's status what is."""
        notify(f"STATUS={text.splitlines()[0] if text else ''}")
        if text != self.said:
            log.log(level, "%s", text)
        self.said = text


def with_settings(host: Host) -> Host:
    """The host with agent.toml as it is now.

    Raises:
        InputError: It cannot be used.
    """
    settings = load_settings(host.paths.settings)
    return replace(
        host,
        settings=settings,
        soak=settings.soak_minutes * 60.0,
        transition_timeout=float(settings.transition_seconds),
    )


def pet_clock() -> PetClock:
    """A clock that keeps the watchdog of the service content: three times as often as it asks for."""
    asked = watchdog_seconds()
    return PetClock(step=min(_STEP, asked / 3) if asked else _STEP)


@contextmanager
def _service() -> Iterator[None]:
    """Tells systemd when the service is ready and when it ends."""
    try:  # it may be asked to end as soon as it has said that it is ready
        notify("READY=1", "STATUS=Waiting for the first look.")
        yield
    finally:
        notify("STOPPING=1")
