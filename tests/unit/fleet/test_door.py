"""Who is let in, and when the others come back."""

import itertools

import pytest

from kmend.fleet.door import Door
from makers.clock import Clock


@pytest.fixture
def clock():
    """A clock that stands still until it is set."""
    return Clock()


def test_so_many_are_inside_and_no_more(clock):
    """Who leaves makes room for one."""
    door = Door(most=2, latest=60, clock=clock)
    assert [door.enter(), door.enter()] == [None, None]
    assert door.enter() >= 5
    door.leave()
    assert door.enter() is None
    assert door.enter() >= 5


def test_those_who_are_sent_away_come_back_in_a_line(clock):
    """One after the other, nobody too soon and nobody too late; at the end the line begins anew."""
    door = Door(most=0, latest=60, clock=clock)
    times = [door.enter() for _ in range(100_000)]
    assert (min(times), max(times)) == (5, 60)
    line = list(itertools.takewhile(lambda pair: pair[0] <= pair[1], itertools.pairwise(times)))
    assert len(line) > 10_000
    fullest = max(times.count(second) for second in range(6, 61))
    assert fullest <= len(times) / 55 * 1.2


def test_the_line_is_as_fast_as_the_server(clock):
    """What one takes is measured while the door is full, and only then."""
    door = Door(most=1, latest=3600, clock=clock)
    assert door.enter() is None
    for _ in range(400):  # ten a second, with somebody who waits all the time
        door.enter()
        clock.now += 0.1
        door.leave()
        assert door.enter() is None
    begun = door.enter()
    last = [door.enter() for _ in range(100)][-1]
    assert last - begun == pytest.approx(10, abs=1.1)


def test_a_server_that_waits_is_not_slow(clock):
    """Hours with nothing to do say nothing about what it could do."""
    door = Door(most=1, latest=3600, clock=clock)
    for _ in range(3):
        assert door.enter() is None
        clock.now += 3600
        door.leave()
    assert door.enter() is None
    assert [door.enter() for _ in range(100)][-1] <= 6
