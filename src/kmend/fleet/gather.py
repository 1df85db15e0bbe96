"""Gathers what arrives while a transaction is under way into the next one: they wait for the disk together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from anyio import CapacityLimiter, to_thread

Item = TypeVar("Item")
Result = TypeVar("Result")


class Gatherer(Generic[Item, Result]):
    """Does items together, as many as wait; one group at a time. Nothing is kept between groups."""

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        threads: CapacityLimiter,
        most: int = 64,
    ) -> None:
        """Make one.

        Args:
            work: Does a group in a thread; for each item what came of it, errors too.
            threads: Where the threads come from.
            most: Items of a group.
        """
        self._work = work
        self._threads = threads
        self._most = most
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._runs: asyncio.Task[None] | None = None

    async def do(self, item: Item) -> Result:
        """What came of an item, once its group is done."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._runs is None or self._runs.done():
            self._runs = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            items = [item for item, _ in group]
            try:
                results = await to_thread.run_sync(self._work, items, limiter=self._threads)
            except Exception as error:  # noqa: BLE001 - whoever waits has to hear of it, whatever it was
                results = [error] * len(items)
            for (_, future), result in zip(group, results, strict=True):
                _tell(future, result)


def _tell(future: asyncio.Future[Result], result: Result | Exception) -> None:
    if future.done():
        return  # who asked has gone
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
