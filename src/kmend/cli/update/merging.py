"""Fixes derived from one update, written so that they go together where they touch the same files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kmend.build.changes import Change
from kmend.build.closure import Update
from kmend.build.taking import wanted
from kmend.model.fix import Fix, Objection


class Merger:
    """Knows the changes that each fix takes of the update.

    Two fixes may add lines at one place of a header: as diffs they clash, as changes they do not. And what each
    compiles with alone may not be enough for both: ``grow`` adds that.
    """

    def __init__(self, update: Update, taken: Mapping[str, frozenset[Change] | None]) -> None:
        """Take what each fix takes; None for one that is no part of the update."""
        self._update = update
        self._taken = dict(taken)

    def merged(self, fixes: Sequence[Fix]) -> tuple[Fix, ...]:
        """The fixes with diffs that go together: what several change in one file is all in the first one's.

        A fix of which nothing is left is part of the one that has its first file.
        """
        owner: dict[str, int] = {}
        made: dict[str, set[Change]] = {}
        for number, fix in enumerate(fixes):
            for change in self._taken.get(fix.name) or ():
                owner.setdefault(change.path, number)
                made.setdefault(change.path, set()).add(change)
        found = list(fixes)
        for number, fix in enumerate(fixes):
            changes = self._taken.get(fix.name)
            if changes is None:
                continue
            mine = frozenset[Change]().union(*(made[path] for path, one in owner.items() if one == number))
            found[number] = replace(found[number], diff=self._update.diff(mine))
            if not mine:
                other = min(owner[change.path] for change in changes)
                found[other] = replace(found[other], cves=(*found[other].cves, *fix.cves))
        return tuple(fix for fix in found if fix.diff)

    def grow(self, fixes: Sequence[Fix], objections: Sequence[Objection]) -> bool:
        """Take more where the compiler misses something in the fixes together; whether there was anything."""
        taken = {fix.name: changes for fix in fixes if (changes := self._taken.get(fix.name))}
        if not taken:
            return False
        everything = frozenset[Change]().union(*taken.values())
        more = frozenset[Change]().union(*(wanted(self._update, everything, one) for one in objections))
        more = self._update.closed(more) - everything
        if not more:
            return False
        paths = {change.path for change in more} | {one.place for one in objections}
        near = [name for name, changes in taken.items() if any(one.path in paths for one in changes)]
        name = (near or list(taken))[-1]
        self._taken[name] = taken[name] | more
        return True
