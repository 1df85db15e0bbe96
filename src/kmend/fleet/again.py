"""Work that a server does again and again beside the requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from anyio import to_thread

from kmend.kit.errors import KmendError

_log = logging.getLogger(__name__)


async def again_and_again(work: Callable[[], object], *, every: float, what: str) -> None:
    """Do it in a thread for as long as the server runs; what fails once may well go later.

    Args:
        work: What to do.
        every: Seconds of rest in between.
        what: What cannot be done when it fails, for the log.
    """
    told = ""
    while True:
        try:
            await to_thread.run_sync(work)
            told = ""
        except KmendError as error:
            if error.message != told:  # once, not every time
                _log.warning("%s: %s", what, error.message)
            told = error.message
        except Exception:  # noqa: BLE001 - must not end
            _log.exception("%s", what)
        await asyncio.sleep(every)
