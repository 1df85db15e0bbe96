"""One livepatch of everything that held alone; what does not go together is found by halving."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence

from kmend.build import fixes as fix_folders
from kmend.cli.update.merging import Merger
from kmend.cli.update.work import Shop, diff_hash
from kmend.kit.errors import InputError, KmendError, MachineError, ProgramError
from kmend.kit.files import write_atomic
from kmend.kit.progress import Progress
from kmend.model import wire
from kmend.model.fix import Fix, Objection
from kmend.model.livepatch import Livepatch
from kmend.model.update import LeftOut, Outcome, Together

log = logging.getLogger(__name__)

FILE = "together.json"
FOLDER = "together"
_SUSPECTS = 12
_GROWN = 6

Trial = Callable[[Sequence[Fix]], str]
"""Tries fixes together; what it returns is why it did not work, or nothing."""


def put_together(
    fixes: Sequence[Fix], shop: Shop, *, taken: Mapping[str, Sequence[str]], progress: Progress
) -> Together:
    """Build, and prove, one livepatch of as many of the fixes as go together; it is left in ``together/``.

    Args:
        fixes: As they were built alone.
        shop: What to work with.
        taken: Fix → places of the changes that were taken of it; none when it was built as planned.
        progress: Told about each trial.

    Raises:
        MachineError: This machine lacks something.
    """
    asked = tuple(sorted(diff_hash(fix) for fix in fixes))
    known = _known(shop, asked)
    if known is not None:
        return known
    begin = time.monotonic()
    merger = shop.merger(taken)
    held: list[Livepatch] = []
    said: dict[tuple[str, ...], str] = {}

    def trial(chosen: Sequence[Fix]) -> str:
        names = tuple(fix.name for fix in chosen)
        if names not in said:
            progress.step(f"Building one livepatch of {len(chosen)} fixes")
            made = _try(chosen, shop, merger)
            if isinstance(made, Livepatch):
                held.append(made)
                said[names] = ""
            else:
                progress.note(f"{len(chosen)} fixes do not go together: {made[:160]}".splitlines()[0])
                said[names] = made
        return said[names]

    shutil.rmtree(shop.out / FOLDER, ignore_errors=True)
    # What was accepted is always what held last, so that is what lies in the folder.
    applied, clashing = largest(tuple(fixes), lambda chosen: shop.applies(merger.merged(chosen)))
    applied, suspected = _without_suspects(applied, trial)
    accepted, left_out = largest(applied, trial)
    shutil.rmtree(shop.out / f"{FOLDER}.trial", ignore_errors=True)
    outcome = (Outcome.PROVEN if shop.proves else Outcome.BUILT) if accepted else Outcome.FAILED
    result = Together(
        fixes=tuple(fix.name for fix in accepted),
        asked=asked,
        left_out=(*clashing, *suspected, *left_out),
        outcome=outcome,
        reason="" if accepted else "No two fixes held together.",
        functions=len(held[-1].functions) if accepted else 0,
        seconds=round(time.monotonic() - begin, 1),
    )
    write_atomic(shop.out / FILE, wire.dump(result))
    return result


def _without_suspects(fixes: tuple[Fix, ...], trial: Trial) -> tuple[tuple[Fix, ...], tuple[LeftOut, ...]]:
    """The fixes without those at whose files the builder objects to all together; it costs one trial for each.

    A fix without which the same objection stays is put back: it was not at fault.
    """
    left_out: list[LeftOut] = []
    why = trial(fixes)
    for _ in range(_SUSPECTS):
        suspect, _, what = why.partition(" [")
        others = tuple(fix for fix in fixes if fix.name != suspect)
        if not others or len(others) == len(fixes):
            break
        following = trial(others)
        if what and what == following.partition("[")[2]:
            break
        left_out.append(LeftOut(name=suspect, reason=why))
        fixes, why = others, following
    return fixes, tuple(left_out)


def _known(shop: Shop, asked: tuple[str, ...]) -> Together | None:
    path = shop.out / FILE
    if not path.is_file() or not (shop.out / FOLDER / "livepatch.json").is_file():
        return None
    try:
        known = wire.load(Together, path.read_bytes(), what=str(path))
    except InputError:
        return None
    enough = known.outcome is Outcome.PROVEN or (shop.proves is None and known.outcome is Outcome.BUILT)
    return known if known.asked == asked and enough else None


def largest(fixes: Sequence[Fix], trial: Trial) -> tuple[tuple[Fix, ...], tuple[LeftOut, ...]]:
    """As many fixes as go together, and why not the others: about 2 log n trials for each that does not fit."""
    left_out: list[LeftOut] = []

    def add(base: tuple[Fix, ...], more: tuple[Fix, ...]) -> tuple[Fix, ...]:
        why = trial((*base, *more))
        if not why:
            return (*base, *more)
        if len(more) == 1:
            left_out.append(LeftOut(name=more[0].name, reason=why))
            return base
        middle = len(more) // 2
        return add(add(base, more[:middle]), more[middle:])

    accepted = add((), tuple(fixes)) if fixes else ()
    return accepted, tuple(left_out)


def _try(fixes: Sequence[Fix], shop: Shop, merger: Merger) -> Livepatch | str:
    """The livepatch, in its folder; or why there is none, and the folder is as before."""
    folder = shop.out / f"{FOLDER}.trial"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        made = shop.builds(merger.merged(fixes), folder)
        for _ in range(_GROWN):
            if isinstance(made, Livepatch) or not merger.grow(fixes, made):
                break
            made = shop.builds(merger.merged(fixes), folder)
        if not isinstance(made, Livepatch):
            return _objection(made, fixes)
        if shop.proves is not None:
            *_, (_, report) = shop.proves([folder])
            if not report.passed:
                return f"lab: {report.failure}"
    except ProgramError as error:
        return error.message
    except MachineError:
        raise
    except KmendError as error:
        return error.message
    except Exception as error:  # what kmend stumbles over is left out and named
        log.exception("Fixes together")
        return f"{type(error).__name__}: {error}"
    shutil.rmtree(shop.out / FOLDER, ignore_errors=True)
    folder.rename(shop.out / FOLDER)
    return made


def _objection(objections: Sequence[Objection], fixes: Sequence[Fix]) -> str:
    first = objections[0]
    places = {fix.name: fix_folders.files(fix) for fix in fixes}
    names = [
        name for name, files in places.items() if any(first.place.startswith(f"{one[:-2]}.") for one in files)
    ]
    # Only a fix that alone touches the place is a suspect; otherwise halving finds out.
    who = names[0] if len(names) == 1 else f"one of {', '.join(names)}" if names else ""
    return f"{who} [{first.code}] {first.place}: {first.reason}".strip()
