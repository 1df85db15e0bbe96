"""Events as they happen, as server-sent events (WHATWG HTML, section 9.2).

Each server looks into the database once a second, whoever of several servers wrote an event, and tells all its
readers. Nothing is looked for while nobody reads.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.responses import StreamingResponse

from kmend.fleet.api.problems import RefusedError
from kmend.fleet.store.database import Database
from kmend.fleet.store.log import events, newest_event
from kmend.kit.errors import KmendError
from kmend.model import wire
from kmend.model.fleet import Event

MEDIA_TYPE = "text/event-stream"
_EVERY = 1.0
"""Seconds between two looks."""
_AT_ONCE = 500
_MOST_WAITING = 2000
"""Events that wait for a slow reader; then its stream ends, and it may come back for the rest."""
_RETRY = 5000
"""Milliseconds after which a browser comes back."""
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
T = TypeVar("T")
_Line = asyncio.Queue["Event | None"]
"""What waits for one reader; None ends its stream."""


@dataclass(slots=True, kw_only=True)
class Streams:
    """The streams of one server."""

    database: Database
    clock: Callable[[], datetime]
    most: int
    heartbeat: float
    """Seconds after which a stream shows that it lives, and asks whether its reader may still read."""
    _threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(4))
    _lines: set[_Line] = field(default_factory=set)
    _looking: asyncio.Task[None] | None = None
    _began: asyncio.Event = field(default_factory=asyncio.Event)
    """That the server knows what is not new."""
    _ended: bool = False

    def open(self, *, after: int | None, holds: Callable[[], object]) -> StreamingResponse:
        """A stream of what comes after an event, or after now.

        Args:
            after: Id of the last event that the reader knows.
            holds: Asks whether the reader may still read; raises a KmendError when not.

        Raises:
            RefusedError: There are too many streams, or the server is about to end.
        """
        if self._ended or len(self._lines) >= self.most:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The server takes no more streams now.",
                hint="Ask for /api/v1/events?after=… now and then instead.",
                retry=30,
            )
        return StreamingResponse(self._written(after, holds), media_type=MEDIA_TYPE, headers=_HEADERS)

    def end(self) -> None:
        """End all streams: the server is about to, and would wait for them."""
        self._ended = True
        for line in self._lines:
            _put(line, None)

    async def _written(self, after: int | None, holds: Callable[[], object]) -> AsyncIterator[str]:
        """What goes over the wire to one reader."""
        line = _Line(_MOST_WAITING)
        self._lines.add(line)
        try:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look())
            yield f"retry: {_RETRY}\n\n"
            await self._began.wait()
            told: set[int] = set()
            while after is not None:
                page = await self._read(after)
                for event in page:
                    told.add(event.id)
                    yield _as_text(event)
                after = page[-1].id if len(page) == _AT_ONCE else None
            async for text in self._live(line, told, holds):
                yield text
        finally:
            self._lines.discard(line)
            if not self._lines and self._looking:
                self._looking.cancel()
                self._looking = None
                self._began.clear()

    async def _live(self, line: _Line, told: set[int], holds: Callable[[], object]) -> AsyncIterator[str]:
        """What happens from now on, until the reader may no longer read."""
        asked = time.monotonic()
        while not self._ended:
            text = ":\n\n"
            with suppress(TimeoutError):
                event = await asyncio.wait_for(line.get(), self.heartbeat)
                if event is None:
                    return
                text = "" if event.id in told else _as_text(event)
            if time.monotonic() - asked >= self.heartbeat:
                try:
                    await self._in_thread(holds)
                except KmendError:
                    return
                asked = time.monotonic()
            if text:
                yield text

    async def _look(self) -> None:
        """Tell all readers of each event once."""
        last: int | None = None
        while True:
            with suppress(KmendError):  # the database is away: later
                if last is None:
                    last = await self._newest()
                    self._began.set()
                for event in await self._read(last):
                    last = event.id
                    self._tell(event)
            await asyncio.sleep(_EVERY)

    def _tell(self, event: Event) -> None:
        for line in self._lines:
            _put(line, event)

    async def _newest(self) -> int:
        """The last event that is not new; 0 when there is none."""

        def ask() -> int:
            with self.database.reading() as connection:
                return newest_event(connection, settled_by=self.clock())

        return await self._in_thread(ask)

    async def _read(self, after: int) -> Sequence[Event]:
        """The events after an id, the oldest first, so far that none can come in between: readers go on by ids."""

        def ask() -> Sequence[Event]:
            with self.database.reading() as connection:
                return events(connection, after=after, most=_AT_ONCE, oldest_first=True, settled_by=self.clock())

        return await self._in_thread(ask)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(work, limiter=self._threads)


def _put(line: _Line, event: Event | None) -> None:
    """Hand over an event; a reader that is too slow is sent away, and may come back for the rest."""
    if line.full():
        while not line.empty():
            line.get_nowait()
        event = None
    line.put_nowait(event)


def _as_text(event: Event) -> str:
    return f"id: {event.id}\ndata: {json.dumps(wire.plain(event), separators=(',', ':'))}\n\n"
