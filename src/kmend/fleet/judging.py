"""Judges the running rollouts again and again, beside the check-ins: counting a large fleet takes its time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta

from anyio import to_thread

from kmend.fleet.store.database import Database
from kmend.fleet.store.health import Hearing, count_health, keep_judgement
from kmend.fleet.store.listening import listen
from kmend.fleet.store.rollouts import find_rollout, rollouts
from kmend.kit.errors import KmendError
from kmend.model.rollout import Rollout, RolloutState

_log = logging.getLogger(__name__)
EVERY = timedelta(seconds=2)
_SHARE = 10
"""Of the time at most one part in so many goes into counting."""


def judge_due(database: Database, hearing: Hearing) -> int:
    """Judge the running rollouts that nobody judged lately; how many.

    They are counted without holding anything up; only the judgement is written with the rollout locked, and only
    if nobody else has judged or changed it meanwhile.

    Raises:
        MachineError: The database does not answer.
    """
    with database.writing() as connection:
        hearing = listen(connection, hearing)
        running = rollouts(connection, state=RolloutState.RUNNING.value, most=1000)
    due = [one for one in running if one.judged is None or abs(hearing.now - one.judged) >= EVERY]
    return sum(_judge(database, one, hearing) for one in due)


async def keep_judging(database: Database, hearing: Callable[[], Hearing]) -> None:
    """Judge for as long as the server runs. When this fails, check-ins judge by themselves, more slowly."""
    while True:
        begun = time.monotonic()
        try:
            await to_thread.run_sync(judge_due, database, hearing())
        except KmendError as error:
            _log.warning("rollouts cannot be judged now: %s", error.message)
        except Exception:  # noqa: BLE001 - must not end: what comes later may well be judged
            _log.exception("a rollout could not be judged")
        await asyncio.sleep(max(EVERY.total_seconds(), _SHARE * (time.monotonic() - begun)))


def _judge(database: Database, rollout: Rollout, hearing: Hearing) -> bool:
    with database.reading() as connection:
        health = count_health(connection, rollout, hearing)
    with database.writing() as connection:
        locked = find_rollout(connection, rollout.id, lock=True)
        if locked is None or _moved(locked) != _moved(rollout):
            return False
        keep_judgement(connection, locked, health, hearing)
    return True


def _moved(rollout: Rollout) -> tuple[object, ...]:
    """What must be the same for a count to hold."""
    return rollout.state, rollout.wave, rollout.judged, rollout.counted_from
