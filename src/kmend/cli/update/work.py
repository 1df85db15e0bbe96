"""Builds and proves the fixes of a plan one by one; a second start goes on where the first one ended."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kmend.build.builder import build
from kmend.build.fixes import changed
from kmend.build.plan import plan
from kmend.cli.update.merging import Merger
from kmend.cli.update.proving import Proves, built_and_proven, prove_series
from kmend.cli.update.retaking import Attempt, Retaker, keep, real_retaker
from kmend.kit.errors import InputError, KmendError, MachineError, ProgramError
from kmend.kit.files import write_atomic
from kmend.kit.progress import Progress, Silent
from kmend.lab.series import Proofs, run_lab_series
from kmend.model import wire
from kmend.model.fix import Fix, Objection, ObjectionCode
from kmend.model.kernel import Kit
from kmend.model.livepatch import Livepatch
from kmend.model.update import FixResult, Outcome, UpdatePlan

log = logging.getLogger(__name__)

Builds = Callable[[Sequence[Fix], Path], Livepatch | tuple[Objection, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """What the work is done with: the real builder and lab, or stand-ins in tests."""

    build_id: str
    builds: Builds
    proves: Proves | None
    """None when no VM is asked for."""
    out: Path
    """Folder of the plan: ``results``, ``built``, ``taken`` and ``together`` come here."""
    retaker: Retaker
    """Knows what can be left out of a derived fix."""
    applies: Callable[[Sequence[Fix]], str]
    """Why fixes cannot be applied together, or nothing: the first and cheapest thing that a trial finds out."""
    merger: Callable[[Mapping[str, Sequence[str]]], Merger]
    """Given what was taken of each fix, makes fixes go together that touch the same files."""


def real_shop(kit: Kit, made: UpdatePlan, out: Path, *, lab: bool, number: int) -> Shop:
    """Builder and lab for one kernel and a plan for it."""

    def builds(fixes: Sequence[Fix], folder: Path) -> Livepatch | tuple[Objection, ...]:
        return build(plan(fixes, kit.kernel, number=number), kit, out=folder, progress=Silent())

    def applies(fixes: Sequence[Fix]) -> str:
        try:
            changed(tuple(fixes), source=kit.source)
        except InputError as error:
            return error.message
        return ""

    def proves(folders: Sequence[Path]) -> Proofs:
        return run_lab_series(kit, folders, progress=Silent())

    retaker = real_retaker(made, kit)
    return Shop(
        build_id=kit.kernel.build_id,
        builds=builds,
        proves=proves if lab else None,
        out=out,
        retaker=retaker,
        applies=applies,
        merger=retaker.merger,
    )


def diff_hash(fix: Fix) -> str:
    """What tells two versions of a fix apart."""
    return hashlib.sha256(fix.diff.encode()).hexdigest()


def work_off(
    fixes: Sequence[Fix],
    shop: Shop,
    *,
    jobs: int = 1,
    limit: int | None = None,
    again: bool = False,
    progress: Progress,
) -> tuple[FixResult, ...]:
    """Build and prove fixes; each result is on the disk before the next fix begins.

    Args:
        fixes: All that the plan holds.
        shop: What to work with.
        jobs: How many at once.
        limit: At most so many that have no result yet.
        again: Also those that failed before; errors of kmend or the machine are always tried again.
        progress: Told about each result.

    Returns:
        The results of all fixes that have one, in the order of ``fixes``.

    Raises:
        MachineError: This machine lacks something, so that every other fix would fail too.
    """
    known = {fix.name: read_result(shop, fix) for fix in fixes}
    todo = [fix for fix in fixes if _is_open(known[fix.name], shop, again=again)][:limit]
    open_names = {fix.name for fix in fixes if _is_open(known[fix.name], shop, again=again)}
    progress.step(f"Building{' and proving' if shop.proves else ''} {len(todo)} of {len(fixes)} fixes")
    for result in _results(todo, known, shop, jobs):
        known[result.name] = result
        open_names.discard(result.name)
        progress.note(f"{result.outcome:<8} {result.name}  {_short(result)}".rstrip())
        progress.amount(len(fixes) - len(open_names), len(fixes), unit="fixes")
    return tuple(result for result in known.values() if result is not None)


def _short(result: FixResult) -> str:
    seconds = result.build_seconds + result.lab_seconds
    why = f"[{result.code}] {result.reason[:100].strip()}" if result.code else f"{result.functions} functions"
    return f"{seconds:.0f} s  {why}"


def _results(
    todo: Sequence[Fix], known: dict[str, FixResult | None], shop: Shop, jobs: int
) -> Iterator[FixResult]:
    before = dict(known)
    proves = shop.proves

    def prove(results: Sequence[FixResult]) -> Iterator[FixResult]:
        assert proves is not None  # noqa: S101 - passed on only then
        for result in prove_series(results, shop.out / "built", proves):
            _keep(shop, result)
            yield result

    return built_and_proven(
        todo,
        jobs=jobs,
        build=lambda fix: one(fix, shop, before=before[fix.name]),
        prove=prove if proves else None,
    )


def _keep(shop: Shop, result: FixResult) -> None:
    write_atomic(shop.out / "results" / f"{result.name}.json", wire.dump(result))


def read_result(shop: Shop, fix: Fix) -> FixResult | None:
    """The result of an earlier run, if it is of this very fix and kernel."""
    path = shop.out / "results" / f"{fix.name}.json"
    if not path.is_file():
        return None
    try:
        result = wire.load(FixResult, path.read_bytes(), what=str(path))
    except InputError:
        return None
    same = result.build_id == shop.build_id and result.sha256 == diff_hash(fix) and result.name == fix.name
    return result if same else None


def _is_open(result: FixResult | None, shop: Shop, *, again: bool) -> bool:
    if result is None or result.code in {"error", "crash"}:
        return True
    if result.outcome is Outcome.BUILT and shop.proves is not None:
        return True
    return again and result.outcome is Outcome.FAILED


def one(fix: Fix, shop: Shop, *, before: FixResult | None) -> FixResult:
    """Build one fix, unless it is built already; the result is written to ``results/NAME.json``.

    Raises:
        MachineError: This machine lacks something (a program that failed is a result instead).
    """
    begin = time.monotonic()
    blank = FixResult(
        name=fix.name,
        build_id=shop.build_id,
        sha256=diff_hash(fix),
        outcome=Outcome.FAILED,
        code="error",
        reason="",
        advice="",
        functions=0,
        left_out=(),
        closes=(),
        build_seconds=0.0,
        lab_seconds=0.0,
    )
    try:
        result = _tried(fix, shop, blank=blank, before=before)
    except ProgramError as error:
        result = replace(blank, reason=error.message, advice=error.hint)
    except MachineError:
        raise
    except KmendError as error:
        result = replace(blank, reason=error.message, advice=error.hint)
    except Exception as error:  # one fix that kmend stumbles over must not end a night's work
        log.exception("Fix %s", fix.name)
        result = replace(blank, code="crash", reason=f"{type(error).__name__}: {error}")
    if not result.build_seconds:
        result = replace(result, build_seconds=round(time.monotonic() - begin, 1))
    _keep(shop, result)
    return result


def _tried(fix: Fix, shop: Shop, *, blank: FixResult, before: FixResult | None) -> FixResult:
    folder = shop.out / "built" / fix.name
    if before is not None and before.outcome is Outcome.BUILT and (folder / "livepatch.json").is_file():
        return before
    shutil.rmtree(folder, ignore_errors=True)
    begin = time.monotonic()
    attempt = shop.retaker.build(fix, shop.builds, folder)
    keep(attempt, fix, shop.out)
    return replace(_of_build(attempt, blank), build_seconds=round(time.monotonic() - begin, 1))


def _of_build(attempt: Attempt, blank: FixResult) -> FixResult:
    if isinstance(attempt.made, Livepatch):
        return _of_livepatch(attempt, attempt.made, blank)
    first = attempt.made[0]
    more = f" (and {len(attempt.made) - 1} more objections)" if len(attempt.made) > 1 else ""
    evidence = f": {line}" if (line := _telling(first.evidence)) else ""
    return replace(
        blank,
        # What compiles to the same code closes nothing here: the difference is in code that this kernel has not.
        outcome=Outcome.NOT_BUILT if first.code is ObjectionCode.NO_CHANGE else Outcome.REFUSED,
        code=str(first.code),
        reason=f"{first.place}: {first.reason}{evidence}{more}",
        advice=first.advice,
    )


def _of_livepatch(attempt: Attempt, made: Livepatch, blank: FixResult) -> FixResult:
    built = replace(
        blank,
        outcome=Outcome.BUILT,
        code="",
        functions=len(made.functions),
        left_out=attempt.left_out,
        closes=attempt.closes,
        cautions=tuple(f"{one.code} ({one.place})" for one in made.cautions),
        taken=attempt.taken,
    )
    if attempt.closes:
        return built
    first = attempt.left_out[0]
    return replace(
        built,
        outcome=Outcome.REFUSED,
        code=first.code,
        reason=f"What is left without {', '.join(first.names)} may not close any of its CVEs. {first.reason}",
        advice="Write this fix by hand: docs/howto/write-a-fix.md.",
    )


def _telling(evidence: Sequence[str]) -> str:
    """The compiler's first error, without the place of a scratch file."""
    return next((line.split("error:", 1)[1].strip() for line in evidence if "error:" in line), "")
