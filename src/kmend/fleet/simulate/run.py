"""Lets simulated hosts enrol and check in at a given rate, and counts what came of it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus

from kmend.fleet.simulate.connections import Answer, Connection, Server, is_delay
from kmend.fleet.simulate.hosts import SimulatedHost
from kmend.kit.errors import SourceError
from kmend.kit.printable import counted
from kmend.kit.progress import Progress
from kmend.model import wire
from kmend.model.protocol import CheckedIn, Enrolled

_LATER = 10.0
"""Seconds until a host asks again that was sent away without a time, or had no answer."""
_TELL_EVERY = 1.0
_PER_WORD = 60
_REASONS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much, and for how long."""

    connections: int
    """At most so many requests are under way."""
    rate: float
    """Check-ins per second of all hosts together; 0: as fast as the connections allow."""
    rounds: int
    """Check-ins of each host; 0: until the time is over."""
    seconds: float
    """0: until the rounds are over."""
    fresh: bool = False
    """A new connection for each check-in, as hosts make that ask every five minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What came of it. Times in ms from the moment at which a check-in was due to its answer."""

    hosts: int
    enrol_seconds: float
    seconds: float
    accepted: int
    """Reports that the server said it keeps."""
    delayed: int
    """Check-ins that were asked to come again later; they did, and are counted again."""
    refused: dict[str, int]
    """Other answers: status → how many."""
    unanswered: int
    per_second: float
    p50: float
    p99: float
    longest: float
    offers: dict[str, int]
    """Reason of an offer → how often it was given, the commonest ones."""
    running: dict[str, int]
    """Number of a livepatch, or ``none`` → hosts that run it in the end."""
    quarantined: int
    """Hosts that quarantined one."""
    silent: int
    """Hosts that fell silent."""


class Simulation:
    """Hosts and what they met."""

    def __init__(self, server: Server, hosts: Sequence[SimulatedHost], load: Load, progress: Progress) -> None:
        """Make one; nothing is sent yet."""
        self.hosts = hosts
        self._server = server
        self._load = load
        self._progress = progress
        self._tally = _Tally()
        self._enrol_seconds = 0.0
        self._seconds = 0.0

    async def enrol(self, token: str) -> None:
        """Enrol all hosts as fast as the server takes them.

        Raises:
            SourceError: It refuses one, or does not answer.
        """
        begun = time.monotonic()
        self._progress.step(f"Enrolling {counted(len(self.hosts), 'host')}")
        waiting = iter(self.hosts)
        done = itertools.count(1)

        async def work(connection: Connection) -> None:
            for host in waiting:
                await self._enrol(connection, host, token)
                self._progress.amount(next(done), len(self.hosts), unit="hosts")

        await self._with_connections(work, fresh=False)
        self._enrol_seconds = time.monotonic() - begun

    async def check_in(self) -> None:
        """Let them check in. Cancelling it ends it at once; what was counted so far stays."""
        self._progress.step("Checking in")
        schedule = _Schedule(self.hosts, self._load)
        begun = told = time.monotonic()

        async def work(connection: Connection) -> None:
            nonlocal told
            while (due := await schedule.next()) is not None:
                again = await self._check_in(connection, due.host, due.at)
                schedule.done(due, again=again)
                self._seconds = time.monotonic() - begun
                if time.monotonic() - told > _TELL_EVERY:
                    told = time.monotonic()
                    self._progress.amount(self._tally.accepted, schedule.total, unit="check-ins")

        hands_out = asyncio.create_task(schedule.run())
        try:
            await self._with_connections(work, fresh=self._load.fresh)
        finally:
            hands_out.cancel()
            self._seconds = time.monotonic() - begun

    def result(self) -> Simulated:
        """What came of it so far."""
        tally, times = self._tally, sorted(self._tally.times)
        running = Counter("none" if one.running is None else str(one.running) for one in self.hosts)
        return Simulated(
            hosts=len(self.hosts),
            enrol_seconds=round(self._enrol_seconds, 1),
            seconds=round(self._seconds, 1),
            accepted=tally.accepted,
            delayed=tally.delayed,
            refused=dict(tally.refused),
            unanswered=tally.unanswered,
            per_second=round(tally.accepted / self._seconds, 1) if self._seconds else 0.0,
            p50=_share(times, 0.5),
            p99=_share(times, 0.99),
            longest=_share(times, 1.0),
            offers=dict(tally.offers.most_common(_REASONS)),
            running=dict(running),
            quarantined=sum(bool(one.quarantined) for one in self.hosts),
            silent=sum(one.gone for one in self.hosts),
        )

    async def _with_connections(
        self, work: Callable[[Connection], Coroutine[None, None, None]], *, fresh: bool
    ) -> None:
        connections = [
            Connection(self._server, fresh=fresh) for _ in range(min(self._load.connections, len(self.hosts)))
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for one in connections:
                    group.create_task(work(one))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            for one in connections:
                one.close()

    async def _enrol(self, connection: Connection, host: SimulatedHost, token: str) -> None:
        body = json.dumps(wire.plain(host.enrolment())).encode()
        while True:
            answer = await connection.post("/enrol", bearer=token, body=body)
            if not is_delay(answer):
                break
            await asyncio.sleep(answer.retry_after or _LATER)
        if answer.status != HTTPStatus.CREATED:
            said = answer.content[:300].decode(errors="replace")
            raise SourceError(f"The server does not enrol {host.name}: {answer.status} {said}")
        host.host = wire.load(Enrolled, answer.content, what="the server's answer").host

    async def _check_in(self, connection: Connection, host: SimulatedHost, due: float) -> float | None:
        """Check one in; seconds until it has to try again, None when it is done."""
        at = datetime.now(tz=UTC)
        try:
            answer = await connection.post("/check-in", bearer=host.credential, body=host.report(at))
        except SourceError:
            self._tally.unanswered += 1
            return _LATER
        if is_delay(answer):
            self._tally.delayed += 1
            return answer.retry_after or _LATER
        self._take(host, answer, at, (time.monotonic() - due) * 1000)
        return None

    def _take(self, host: SimulatedHost, answer: Answer, at: datetime, milliseconds: float) -> None:
        if answer.status != HTTPStatus.OK:
            self._tally.refused[str(answer.status)] += 1
            return
        heard = _checked_in(answer.content)
        self._tally.accepted += 1
        self._tally.times.append(milliseconds)
        self._tally.offers[heard.offer.because[:_PER_WORD]] += 1
        host.hears(heard.offer, reported=at)


@dataclass(slots=True)
class _Tally:
    accepted: int = 0
    delayed: int = 0
    unanswered: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    offers: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, order=True)
class _Due:
    at: float
    number: int
    host: SimulatedHost = field(compare=False)
    round: int = field(default=1, compare=False)


class _Schedule:
    """When which host checks in: spread evenly over the time that one round takes."""

    def __init__(self, hosts: Sequence[SimulatedHost], load: Load) -> None:
        self._start = now = time.monotonic()
        self._load = load
        self._gap = 1 / load.rate if load.rate else 0.0
        self._round = self._gap * len(hosts)
        self._end = now + load.seconds if load.seconds else float("inf")
        # In order of time, and so a heap already.
        self._heap = [_Due(now + self._gap * number, number, host) for number, host in enumerate(hosts)]
        self._under_way = 0
        self._sooner = asyncio.Event()
        self._ready: asyncio.Queue[_Due | None] = asyncio.Queue()
        counts = [load.rounds * len(hosts), int(load.seconds * load.rate)]
        self.total = min((count for count in counts if count), default=0)
        """Check-ins until it is over; 0 when nobody knows."""

    async def run(self) -> None:
        """Hand out who is due, until all is over."""
        while time.monotonic() < self._end and (self._heap or self._under_way):
            now = time.monotonic()
            while self._heap and self._heap[0].at <= now:
                self._under_way += 1
                self._ready.put_nowait(heapq.heappop(self._heap))
            first = self._heap[0].at if self._heap else self._end
            self._sooner.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(first, self._end, now + 1) - now):
                    await self._sooner.wait()
        for _ in range(self._load.connections):
            self._ready.put_nowait(None)

    async def next(self) -> _Due | None:
        """The next one, when it is due; None when all is over."""
        due = await self._ready.get()
        return None if time.monotonic() >= self._end else due

    def done(self, due: _Due, *, again: float | None) -> None:
        """One was tried; ``again``: it was sent away for so many seconds."""
        self._under_way -= 1
        now = time.monotonic()
        if again is not None:
            self._push(replace(due, at=now + again))
        elif not due.host.gone and (not self._load.rounds or due.round < self._load.rounds):
            at = self._start + self._gap * due.number + self._round * due.round if self._load.rate else now
            self._push(replace(due, at=at, round=due.round + 1))
        elif not self._heap and not self._under_way:
            self._sooner.set()

    def _push(self, due: _Due) -> None:
        heapq.heappush(self._heap, due)
        if self._heap[0] is due:
            self._sooner.set()


@lru_cache(maxsize=1024)
def _checked_in(content: bytes) -> CheckedIn:
    """What an answer says; most hosts are answered alike."""
    return wire.load(CheckedIn, content, what="the server's answer")


def _share(times: Sequence[float], share: float) -> float:
    """The time below which that share of the sorted times lies."""
    return round(times[min(len(times) - 1, int(len(times) * share))], 1) if times else 0.0
