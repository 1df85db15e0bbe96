"""Builds a derived fix; what the builder objects to is left out, and the rest tried again."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from kmend.build import fixes as fix_folders
from kmend.build.changes import Change
from kmend.build.closure import Update
from kmend.build.sources import Sources
from kmend.build.taking import Taking, again, begun, begun_with, closes
from kmend.cli.update.merging import Merger
from kmend.exposure.units import units
from kmend.kernels import store
from kmend.kit.progress import Silent
from kmend.linux.versions import series_of
from kmend.model.fix import Fix, Objection, ObjectionCode
from kmend.model.kernel import Kit
from kmend.model.livepatch import Livepatch
from kmend.model.update import PartLeftOut, PlannedCve, PlannedFix, UpdatePlan

_ROUNDS = 8

Builds = Callable[[Sequence[Fix], Path], Livepatch | tuple[Objection, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What became of one fix in the builder."""

    made: Livepatch | tuple[Objection, ...]
    """The livepatch, or the Objections to the whole fix."""
    fix: Fix
    """As it was built."""
    left_out: tuple[PartLeftOut, ...] = ()
    closes: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    """Places of the changes that were taken, when they are not those of the plan."""


class Retaker:
    """The differences of a plan's update, read when they are needed first."""

    def __init__(self, plan: UpdatePlan, load: Callable[[], Update]) -> None:
        self._fixes: Mapping[str, PlannedFix] = {one.name: one for one in plan.fixes}
        self._cves: Mapping[str, PlannedCve] = {one.cve: one for one in plan.cves}
        self._load = load
        self._lock = threading.Lock()

    @cached_property
    def _update(self) -> Update:
        return self._load()

    def merger(self, taken: Mapping[str, Sequence[str]]) -> Merger:
        """What makes fixes of this plan go together that touch the same files.

        Args:
            taken: Fix → places of the changes that were taken of it; none when it was built as planned.
        """
        with self._lock:
            update = self._update
        return Merger(update, {name: self._changes(name, places) for name, places in taken.items()})

    def _changes(self, name: str, places: Sequence[str]) -> frozenset[Change] | None:
        planned = self._fixes.get(name)
        if planned is None or planned.exact:
            return None
        if not places:
            return begun(self._update, planned.files).changes
        files = {place.split(":")[0] for place in places}
        return frozenset(one for one in self._update.of(files) if one.place in set(places))

    def build(self, fix: Fix, builds: Builds, folder: Path) -> Attempt:
        """Build a fix, whole or else without what the builder objects to, as long as that makes sense.

        Args:
            fix: As planned.
            builds: The builder.
            folder: Where the livepatch goes.
        """
        first = builds((fix,), folder)
        if isinstance(first, Livepatch):
            return Attempt(made=first, fix=fix, closes=fix.cves)
        planned = self._fixes.get(fix.name)
        if planned is None or planned.exact:
            return Attempt(made=first, fix=fix)
        said = [first]

        def listening(fixes: Sequence[Fix], out: Path) -> Livepatch | tuple[Objection, ...]:
            made = builds(fixes, out)
            if not isinstance(made, Livepatch):
                said.append(made)
            return made

        found = self._retaken(fix, planned, first, builds=listening, folder=folder)
        return found or Attempt(made=_most_telling(said), fix=fix)

    def _retaken(
        self,
        fix: Fix,
        planned: PlannedFix,
        objections: tuple[Objection, ...],
        *,
        builds: Builds,
        folder: Path,
    ) -> Attempt | None:
        with self._lock:
            update = self._update
        taking = again(update, begun(update, planned.files), objections, planned.files)
        tried = self._rounds(fix, planned, taking, update, builds=builds, folder=folder)
        whole = tried[0] if tried else None
        if whole is not None and set(whole.closes) == set(fix.cves):
            return whole
        return self._of_names(fix, planned, update, whole, builds=builds, folder=folder)

    def _rounds(
        self,
        fix: Fix,
        planned: PlannedFix,
        taking: Taking | None,
        update: Update,
        *,
        builds: Builds,
        folder: Path,
    ) -> tuple[Attempt, Taking] | None:
        """Build what was taken, and again without what is objected to, as long as that makes sense."""
        for _ in range(_ROUNDS):
            if taking is None:
                return None
            tried = _as_taken(fix, taking, update)
            made = builds((tried,), folder)
            if isinstance(made, Livepatch):
                left_out, closed = _parts(taking), self._closed(fix, taking)
                places = tuple(sorted(change.place for change in taking.changes))
                return Attempt(made=made, fix=tried, left_out=left_out, closes=closed, taken=places), taking
            taking = again(update, taking, made, planned.files)
        return None

    def _of_names(
        self,
        fix: Fix,
        planned: PlannedFix,
        update: Update,
        whole: Attempt | None,
        *,
        builds: Builds,
        folder: Path,
    ) -> Attempt | None:
        """Only what the CVEs' records name, when that closes more of them than the whole difference did."""
        cves = [one for cve in fix.cves if (one := self._cves[cve]).named]
        taking = begun_with(update, planned.files, {name for one in cves for name in one.named})
        if not taking.seeds:
            return whole
        beside = folder.with_name(f".{folder.name}.named")
        tried = self._rounds(fix, planned, taking, update, builds=builds, folder=beside)
        closed = tuple(cve for cve in (tried[0].closes if tried else ()) if self._cves[cve].named)
        if tried is None or len(closed) <= (len(whole.closes) if whole else 0):
            shutil.rmtree(beside, ignore_errors=True)
            return whole
        found, taking = tried
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
        more = _not_named(update, planned, taking)
        return replace(found, left_out=(*found.left_out, *more), closes=closed)

    def _closed(self, fix: Fix, taking: Taking) -> tuple[str, ...]:
        planned = [self._cves[cve] for cve in fix.cves]
        return tuple(one.cve for one in planned if closes(taking, one.sources, one.named))


def _most_telling(said: Sequence[tuple[Objection, ...]]) -> tuple[Objection, ...]:
    """What stands in the way in the end: rather what cannot be than what a compiler missed on the way there."""
    real = (one for one in said if one[0].code not in {ObjectionCode.COMPILE_FAILED, ObjectionCode.NO_CHANGE})
    return next(real, said[0])


def _not_named(update: Update, planned: PlannedFix, taking: Taking) -> tuple[PartLeftOut, ...]:
    """For each file with changes that no record names, that they were left out."""
    found = []
    for file in planned.files:
        others = update.of((file,)) - taking.changes - taking.seeds
        names = sorted({name for one in others for name in one.names})
        if names:
            reason = "No record names it, and with it less could be built."
            found.append(PartLeftOut(file=file, names=tuple(names), code="not-named", reason=reason))
    return tuple(found)


def _as_taken(fix: Fix, taking: Taking, update: Update) -> Fix:
    left = "; ".join(f"{part.file}: {', '.join(part.names)} ({part.code})" for part in _parts(taking))
    reasoning = f"{fix.reasoning} Left out, because it cannot be livepatched: {left}." if left else fix.reasoning
    return replace(fix, diff=update.diff(taking.changes), reasoning=reasoning)


def _parts(taking: Taking) -> tuple[PartLeftOut, ...]:
    """What is missing: what was objected to, and what cannot be without it."""
    why = {one.change: one.objection for one in taking.left_out}
    first = next(iter(why.values()), None)
    found = []
    for change in sorted(taking.missing | why.keys(), key=lambda one: (one.path, sorted(one.names))):
        objection = why.get(change)
        if objection is not None:
            reason = f"{objection.place}: {objection.reason}"
        else:
            reason = f"It needs what was left out ({first.place})." if first else ""
        found.append(
            PartLeftOut(
                file=change.path,
                names=tuple(sorted(change.names)),
                code=str(objection.code) if objection else "needs-left-out",
                reason=reason,
            )
        )
    return tuple(found)


def real_retaker(plan: UpdatePlan, kit: Kit) -> Retaker:
    """For a plan and its kernel; the newer source is fetched again if the cache has lost it."""

    def load() -> Update:
        old = kit.kernel.version
        series = series_of(old)
        new = store.source(series, plan.to_version, progress=Silent())
        sources = Sources(old=kit.source, new=new, old_version=old, new_version=plan.to_version)
        return Update.between(units(kit, progress=Silent()), sources, progress=Silent())

    return Retaker(plan, load)


def as_built(fix: Fix, out: Path) -> Fix:
    """The fix as it was built last: larger or smaller than planned, when that was not what could be built."""
    folder = out / "taken" / fix.name
    return fix_folders.load(folder) if folder.is_dir() else fix


def keep(attempt: Attempt, planned: Fix, out: Path) -> None:
    """Remember how a fix was built, in ``taken/NAME``; nothing is there when it was built as planned."""
    folder = out / "taken" / planned.name
    shutil.rmtree(folder, ignore_errors=True)
    if attempt.fix.diff != planned.diff:
        fix_folders.save(attempt.fix, folder)
