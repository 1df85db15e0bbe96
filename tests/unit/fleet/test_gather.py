"""What waits is done together."""

import asyncio
import threading

import pytest
from anyio import CapacityLimiter

from kmend.fleet.gather import Gatherer


def run(scenario):
    """Run a scenario in a loop of its own."""
    return asyncio.run(scenario())


def test_what_arrives_while_a_group_is_under_way_goes_into_the_next():
    """The first goes alone, the others together, in groups that are not too large."""
    groups = []
    began, first = threading.Event(), threading.Event()

    def work(items):
        groups.append(list(items))
        began.set()
        first.wait(5)
        return [item * 2 for item in items]

    async def scenario():
        gatherer = Gatherer(work, threads=CapacityLimiter(2), most=4)
        tasks = [asyncio.create_task(gatherer.do(0))]
        await asyncio.to_thread(began.wait, 5)
        tasks += [asyncio.create_task(gatherer.do(number)) for number in range(1, 7)]
        await asyncio.sleep(0)
        first.set()
        return await asyncio.gather(*tasks)

    assert run(scenario) == [0, 2, 4, 6, 8, 10, 12]
    assert groups == [[0], [1, 2, 3, 4], [5, 6]]


def test_an_error_is_told_to_whom_it_concerns():
    """One of a result to one, one of the whole group to all of it; afterwards it goes on."""

    def work(items):
        if "all" in items:
            raise ZeroDivisionError
        return [ValueError(item) if item == "bad" else item for item in items]

    async def scenario():
        gatherer = Gatherer(work, threads=CapacityLimiter(2))
        told = await asyncio.gather(*(gatherer.do(word) for word in ("good", "bad")), return_exceptions=True)
        with pytest.raises(ZeroDivisionError):
            await gatherer.do("all")
        return told, await gatherer.do("good")

    (good, bad), after = run(scenario)
    assert (good, type(bad), after) == ("good", ValueError, "good")


def test_who_goes_away_does_not_disturb_the_others():
    """A client that closed its connection is not waited for."""

    async def scenario():
        gatherer = Gatherer(list, threads=CapacityLimiter(2))
        gone = asyncio.create_task(gatherer.do("gone"))
        stays = asyncio.create_task(gatherer.do("stays"))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert run(scenario) == "stays"
