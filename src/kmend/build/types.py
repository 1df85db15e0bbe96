"""The builder's decision about types: what of a changed one concerns data that the kernel holds already. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence

from kmend.elf.types import Layout, Member, Slot
from kmend.elf.uses import Role, Use
from kmend.model.fix import Objection, ObjectionCode

_NAMED_CHANGES = 6
_NAMED_USERS = 12
_COUNTER = re.compile(r"atomic(_long|64)?_t|refcount_t")
_NUMBER = re.compile(r"signed|unsigned")
_RESERVED = re.compile(r"(?i)^_*(reserved|rsvd|resv|rsv|unused|pad|padding|hole|spare|dummy|fill(er)?)_*\d*$")
_BYTE = 8


def differences(old: Layout, new: Layout, *, may_rise: Collection[str] = ()) -> tuple[str, ...]:
    """What changed of a type in words; empty when data of the old layout serves the new code.

    A member may get another name, not another place, size or kind; constants of an enum keep their values.

    Args:
        old: Without the fix.
        new: With it.
        may_rise: Constants that only say how many there are, and by which nothing is sized.
    """
    found = [*_constants(old, new, may_rise)]
    if not _is_alike(old, new):
        found += _members(old, new)
        if old.size != new.size:
            found.append(f"size {old.size} → {new.size}")
        elif not found:
            found += _slots(old, new)
    return tuple(found)


def _is_alike(old: Layout, new: Layout) -> bool:
    """Same size, same slots; no name that was there before stands for another slot now."""
    atomic = {member.at for member in _made_atomic(old, new)}
    before, after = ({slot for slot in _plain(side) if slot[0] not in atomic} for side in (old, new))
    if old.size != new.size or before != after or _taken_over(old, new):
        return False
    places = {slot.name: (slot.at, slot.size) for slot in new.slots if slot.name}
    return all(places.get(slot.name, (slot.at, slot.size)) == (slot.at, slot.size) for slot in old.slots)


def _made_atomic(old: Layout, new: Layout) -> list[Member]:
    """Members that were plain numbers and are counters that several may change at once.

    Such a counter is the number itself, with the sign left to who reads it (include/linux/types.h). Code that
    still changes it as a plain number does no worse than before.
    """
    numbers = {(slot.at, slot.size) for slot in old.slots if _NUMBER.fullmatch(slot.kind)}
    before = {member.name: member for member in old.members}
    return [
        member
        for member in new.members
        if _COUNTER.fullmatch(member.type)
        and (one := before.get(member.name)) is not None
        and (one.at, one.size) == (member.at, member.size)
        and (one.at, one.size) in numbers
    ]


def _plain(layout: Layout) -> frozenset[tuple[int, int, str]]:
    return frozenset((slot.at, slot.size, slot.kind) for slot in layout.slots)


def _taken_over(old: Layout, new: Layout) -> list[tuple[Member, Member]]:
    """Members that take the place of one that was there for nothing."""
    names = {member.name for member in new.members}
    before = {member.at: member for member in old.members if _RESERVED.match(member.name)}
    return [
        (before[member.at], member)
        for member in new.members
        if member.at in before and before[member.at].name not in names and not _RESERVED.match(member.name)
    ]


def _members(old: Layout, new: Layout) -> list[str]:
    before, after = ({member.name: member for member in side.members if member.name} for side in (old, new))
    gone = [before[name] for name in before if name not in after]
    added = [after[name] for name in after if name not in before]
    atomic = {member.name for member in _made_atomic(old, new)}
    both = [(before[name], after[name]) for name in before if name in after and name not in atomic]
    found = [f"member `{one.name}` {_size(one)} removed from {_place(one)}" for one in gone]
    found += [_added(one, old, new) for one in added]
    found += [_changed(a, b) for a, b in both if (a.size, a.type) != (b.size, b.type)]
    moved = [
        f"member `{a.name}` moved from {_place(a)} to {_place(b)}"
        for a, b in both
        if a.at != b.at and (a.size, a.type) == (b.size, b.type)
    ]
    return _few(found, _NAMED_CHANGES) + _few(moved, 1)


def _few(found: Sequence[str], first: int) -> list[str]:
    rest = len(found) - first
    return [*found[:first], *([f"and {rest} more"] if rest > 0 else [])]


def _added(one: Member, old: Layout, new: Layout) -> str:
    text = f"member `{one.name}` {_size(one)} added at {_place(one)}"
    others = [slot for slot in old.slots if slot.size and _meet(slot, one)]
    if others or old.size != new.size or not one.size:
        return text
    return (
        f"{text}, in a hole: data made before the livepatch holds undefined bytes there (zeros, if all of it was "
        "zeroed)"
    )


def _meet(slot: Slot, member: Member) -> bool:
    return slot.at < member.at + member.size and member.at < slot.at + slot.size


def _changed(old: Member, new: Member) -> str:
    if old.type == new.type:
        return f"member `{old.name}` at {_place(new)} has {_bits(new.size)} instead of {_bits(old.size)}"
    return f"member `{old.name}` at {_place(new)} is {_typed(new)} instead of {_typed(old)}"


def _typed(one: Member) -> str:
    return f"{one.type}, {_bits(one.size)}"


def _size(one: Member) -> str:
    return f"({one.type}, {_bits(one.size)})"


def _bits(size: int) -> str:
    if size % _BYTE:
        return f"{size} bit{'s' if size > 1 else ''}"
    return f"{size // _BYTE} byte{'s' if size != _BYTE else ''}"


def _place(one: Member) -> str:
    return f"offset {one.at // _BYTE}" + (f", bit {one.at % _BYTE}" if one.at % _BYTE else "")


def _slots(old: Layout, new: Layout) -> Iterator[str]:
    """What differs below the members' own names, types and places."""
    for before, after in _taken_over(old, new):
        yield f"member `{after.name}` takes the place of `{before.name}`, which nobody had to set"
    gone = sorted(_plain(old) - _plain(new))
    for at, size, kind in gone[:_NAMED_CHANGES]:
        now = next((slot for slot in new.slots if slot.at == at), None)
        yield f"at offset {at // _BYTE}, {kind} of {_bits(size)} becomes {now.kind if now else 'nothing'}"
    if not gone:
        yield "its parts are arranged otherwise"


def _constants(old: Layout, new: Layout, may_rise: Collection[str]) -> Iterator[str]:
    after = dict(new.constants)
    for name, value in old.constants:
        if name in after and after[name] != value and name not in may_rise:
            yield f"{name} is {after[name]} instead of {value}"


def outlives(
    name: str, uses: Callable[[str], tuple[Use, ...]], *, callers: Callable[[str], Collection[str] | None]
) -> bool:
    """Whether data of a struct may live on when the function that has it on its stack has returned.

    It does not when there is nothing of it but local variables, and pointers passed down as parameters by
    functions that have it or were given it themselves.

    Args:
        name: Of the type, e.g. ``struct foo``.
        uses: Of a type.
        callers: Of a function: the functions that call it; None when its address is taken.
    """
    queue, seen = [name], {name}
    while queue:
        found = uses(queue.pop())
        own = {use.function for use in found if use.function}
        own |= {use.within for use in found if use.role == Role.LOCAL}
        for use in found:
            if use.role == Role.MEMBER and use.owner:
                if use.owner not in seen:
                    seen.add(use.owner)
                    queue.append(use.owner)
            elif not _is_on_stack(use) or (use.within and use.role == Role.PARAMETER and use.within not in own):
                return True
            elif use.role == Role.PARAMETER and use.place and not use.within:
                known = callers(use.function)
                if known is None or not own.issuperset(known):
                    return True
    return False


def _is_on_stack(use: Use) -> bool:
    return use.pointers <= 1 if use.role == Role.PARAMETER else use.role == Role.LOCAL and not use.pointers


def changed_layout(place: str, name: str, changes: Sequence[str], users: Sequence[str]) -> Objection:
    """The Objection to a changed type.

    Args:
        place: File and type.
        name: Of the type.
        changes: In words.
        users: Functions that use it.
    """
    said = "; ".join(changes)
    return Objection(
        code=ObjectionCode.CHANGED_LAYOUT,
        place=place,
        reason=f"The fix changes {name}, of which the kernel holds data in the old form: {said}.",
        advice="Keep the definition as it is: put new state into a shadow variable "
        "(Documentation/livepatch/shadow-vars.rst) or into a variable of its own; change data that is there "
        "already in a callback when the livepatch is applied (Documentation/livepatch/callbacks.rst).",
        evidence=tuple(_few([f"used by {user}" for user in users], _NAMED_USERS)),
    )
