"""The builder's decision: what of a difference cannot be livepatched, and why. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from kmend.build.callbacks import objections_to_callbacks
from kmend.build.compare import Changed, Difference
from kmend.build.traceable import is_traceable
from kmend.elf.objects import Piece
from kmend.model.fix import Objection, ObjectionCode

_INIT = re.compile(r"^\.(init|exit)\.")


def objections(difference: Difference, *, place: str) -> tuple[Objection, ...]:
    """Every Objection to a difference by itself, before anything is resolved.

    Args:
        difference: Of one object.
        place: The object's name.
    """
    found = [_data(piece, place) for piece in difference.changed_data]
    found += [_section(name, place) for name in difference.changed_sections]
    found += [_ambiguous(piece, place) for piece in difference.ambiguous]
    if difference.removed_data and difference.new_data and not difference.ambiguous:
        found.append(_renamed(difference, place))
    found += objections_to_callbacks(difference.fixed, place=place)
    for change in difference.changed:
        found += _function(difference, change, place)
    return tuple(found)


def without_old_starts(difference: Difference, touched: Collection[str]) -> Difference:
    """A difference without the init and exit code in which only what it uses changes, not its own text.

    What has run when the kernel or module started is the same with and without the fix; a module that is loaded
    later starts as before. The very difference when there is no such code in it.

    Args:
        difference: Of one object.
        touched: Functions and other items that change in the text of the object's own file.
    """
    kept = tuple(
        change
        for change in difference.changed
        if not _INIT.match(change.original.section.name) or change.original.name.split(".")[0] in touched
    )
    return difference if len(kept) == len(difference.changed) else replace(difference, changed=kept)


def _data(piece: Piece, place: str) -> Objection:
    if _INIT.match(piece.section.name):
        return _init(piece, place)
    return Objection(
        code=ObjectionCode.CHANGED_DATA,
        place=f"{place}: {piece.name}",
        reason=f"The initial value of {piece.name} changes ({piece.section.name}), but the running kernel has "
        "the old one, and perhaps copies of it or pointers to it.",
        advice="Do in code what the new value does: test for the case in a function that uses it.",
    )


def _section(name: str, place: str) -> Objection:
    return Objection(
        code=ObjectionCode.UNSUPPORTED_SECTION,
        place=f"{place}: {name}",
        reason=f"Section {name} changes: it registers something when the kernel or module starts.",
        advice="Leave out what registers (exports, parameters, initcalls, aliases), if the fix works without it.",
    )


def _ambiguous(piece: Piece, place: str) -> Objection:
    return Objection(
        code=ObjectionCode.AMBIGUOUS_SYMBOL,
        place=f"{place}: {piece.name}",
        reason=f"The running kernel has several static variables like {piece.name}, and the fix moves them: which "
        "of them is meant cannot be told.",
        advice="Keep the static variables of that name where they are, or give a new one another name.",
    )


def _renamed(difference: Difference, place: str) -> Objection:
    old = ", ".join(piece.name for piece in difference.removed_data)
    new = ", ".join(piece.name for piece in difference.new_data)
    return Objection(
        code=ObjectionCode.REMOVED_STATIC,
        place=f"{place}: {old}",
        reason=f"The fix removes {old} and brings {new}. If that is the same variable under another name or in "
        "another place, the new one would begin empty while the running kernel goes on with the old one.",
        advice="Keep the variable's name and place.",
    )


def _init(piece: Piece, place: str) -> Objection:
    return Objection(
        code=ObjectionCode.INIT_CODE,
        place=f"{place}: {piece.name}",
        reason=f"{piece.name} changes, but it is in {piece.section.name}: it ran when the kernel or "
        "module started.",
        advice="Leave the change out if the fix works without it; otherwise this fix needs a reboot.",
    )


def _function(difference: Difference, change: Changed, place: str) -> list[Objection]:
    if _INIT.match(change.original.section.name):
        return [_init(change.original, place)]
    if not (
        is_traceable(difference.original, change.original, difference.original_entries)
        and is_traceable(difference.fixed, change.fixed, difference.entries)
    ):
        return [
            Objection(
                code=ObjectionCode.NOT_TRACEABLE,
                place=f"{place}: {change.original.name}",
                reason=f"{change.original.name} has no call to __fentry__, so the kernel cannot redirect it "
                "(notrace, noinstr, or compiled without tracing).",
                advice="Change its callers instead, so that they call a new function.",
            )
        ]
    return []
