"""How often each may ask."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmend.fleet.allowance import Allowance
from makers.clock import Clock


@pytest.fixture
def clock():
    """A clock that stands still until it is set."""
    return Clock()


def test_so_many_at_once_and_then_as_many_as_time_gives(clock):
    """Who waits as long as was said is let, and then no more often than the pace."""
    allowance = Allowance(per_second=2, at_once=3, clock=clock)
    assert [allowance.take("a") for _ in range(4)] == [None, None, None, 1]
    clock.now += 1
    assert [allowance.take("a") for _ in range(3)] == [None, None, 1]
    clock.now += 3600
    assert [allowance.take("a") for _ in range(4)] == [None, None, None, 1]


def test_each_has_an_own_one(clock):
    """One that is used up is nobody else's matter, however many there are."""
    allowance = Allowance(per_second=0.01, at_once=1, clock=clock)
    assert allowance.take("loud") is None
    assert all(allowance.take(str(number)) is None for number in range(5000))
    assert allowance.take("loud") == 100


def test_full_buckets_are_forgotten(clock):
    """What is kept does not grow with all that ever asked."""
    allowance = Allowance(per_second=1, at_once=1, clock=clock)
    for number in range(10_000):
        assert allowance.take(str(number)) is None
        clock.now += 1
    assert len(allowance._left) <= 1001


@given(
    pauses=st.lists(st.floats(0, 5), min_size=1, max_size=200),
    per_second=st.floats(0.1, 10),
    at_once=st.integers(1, 20),
)
def test_never_more_than_the_pace_allows(pauses, per_second, at_once):
    """In whatever rhythm somebody asks; and who is sent away is let after the time that was said."""
    clock = Clock()
    allowance = Allowance(per_second=per_second, at_once=at_once, clock=clock)
    begun = clock.now
    for let, pause in enumerate(pauses, start=1):
        clock.now += pause
        later = allowance.take("a")
        if later is not None:
            clock.now += later
            assert allowance.take("a") is None
        assert let <= math.floor(at_once + (clock.now - begun) * per_second + 1e-6)
