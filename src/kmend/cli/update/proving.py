"""Building goes on while what is built already is proven, many livepatches in one VM."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

from kmend.kit.errors import KmendError, MachineError, ProgramError
from kmend.lab.reporting import REPORT
from kmend.lab.series import Proofs
from kmend.model.fix import Fix
from kmend.model.lab import LabReport
from kmend.model.update import FixResult, Outcome

log = logging.getLogger(__name__)

SERIES = 16
"""At most so many livepatches in one boot."""

Proves = Callable[[Sequence[Path]], Proofs]


def built_and_proven(
    fixes: Sequence[Fix],
    *,
    jobs: int,
    build: Callable[[Fix], FixResult],
    prove: Callable[[Sequence[FixResult]], Iterator[FixResult]] | None,
) -> Iterator[FixResult]:
    """Each result as it becomes known, in any order; when a proof is repeated, twice for the same fix.

    Whatever ends this early: what is being built then is finished and kept, and nothing new begins.

    Args:
        fixes: All that is to be done.
        jobs: How many are built at once.
        build: Gives the result of one fix; it is called in other threads.
        prove: Proves results that are ``BUILT``; without it they stay so.
    """
    stop = threading.Event()

    def unless_stopped(fix: Fix) -> FixResult | None:
        if stop.is_set():
            return None
        try:
            return build(fix)
        except BaseException:
            stop.set()
            raise

    done: SimpleQueue[Future[FixResult | None]] = SimpleQueue()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for fix in fixes:
                pool.submit(unless_stopped, fix).add_done_callback(done.put)
            results = (result for _ in fixes if (result := done.get().result()) is not None)
            yield from results if prove is None else _proven(results, prove)
        finally:
            stop.set()


def _proven(
    results: Iterator[FixResult], prove: Callable[[Sequence[FixResult]], Iterator[FixResult]]
) -> Iterator[FixResult]:
    waiting: list[FixResult] = []
    for result in results:
        if result.outcome is not Outcome.BUILT:
            yield result
            continue
        waiting.append(result)
        if len(waiting) == SERIES:
            yield from prove(waiting)
            waiting = []
    if waiting:
        yield from prove(waiting)


def prove_series(results: Sequence[FixResult], built: Path, proves: Proves) -> Iterator[FixResult]:
    """What becomes of built fixes in the VM; an error that is not this machine's is the result of those left.

    Args:
        results: Of fixes that are built.
        built: Folder of their folders.
        proves: Proves the livepatches in some folders.

    Raises:
        MachineError: This machine cannot run the lab at all.
    """
    left = {built / result.name: result for result in results}
    everything = dict(left)
    try:
        with closing(proves(list(left))) as proofs:
            for folder, report in proofs:
                left.pop(folder, None)
                yield _of_report(everything[folder], report, folder)
    except (MachineError, KmendError) as error:
        if isinstance(error, MachineError) and not isinstance(error, ProgramError):
            raise
        log.debug("Proving a series", exc_info=True)
        for result in left.values():
            yield replace(result, outcome=Outcome.FAILED, code="error", reason=error.message, advice=error.hint)


def _of_report(result: FixResult, report: LabReport, folder: Path) -> FixResult:
    seconds = round(report.seconds, 1)
    if report.passed:
        return replace(result, outcome=Outcome.PROVEN, lab_seconds=seconds)
    return replace(
        result,
        outcome=Outcome.FAILED,
        code="lab",
        reason=report.failure,
        advice=f"{folder / REPORT} has the console.",
        lab_seconds=seconds,
    )
