"""What differs between an original object and a fixed one: functions and data, numbering left aside."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

from kmend.build.line_numbers import code_without_lines, data_without_line, entry_without_line, moved_only
from kmend.build.traceable import is_traceable
from kmend.elf.code import decode
from kmend.elf.names import is_cold_part, is_static_local, parent_of, unnumbered
from kmend.elf.objects import Content, ObjectCode, Piece, Reference, Undefined
from kmend.elf.tables import NAMES, Entry, entries_by_function
from kmend.kit.errors import InputError

# Sections that say nothing about what a function does.
# What is newly exported is part of the livepatch, or is found in the kernel's symbol table without an export.
_SILENT = re.compile(
    r"^(\.(discard|comment|note|debug|rela|llvm_addrsig|eh_frame|kmend\.callbacks)|_*(ksymtab|kcrctab)(_|\+|$))"
)
_MOST_NESTED = 50_000
"""Constants behind constants that are looked into; each that is referred to twice doubles the work."""
_RAN_ONCE = re.compile(r"^\.(init|exit)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A function that differs, on both sides, and why."""

    original: Piece
    fixed: Piece
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """All that differs between two objects of one source file."""

    original: ObjectCode
    fixed: ObjectCode
    changed: tuple[Changed, ...]
    new_functions: tuple[Piece, ...]
    changed_data: tuple[Piece, ...]
    """Data (fixed side) with another initial value than before."""
    changed_sections: tuple[str, ...]
    """Other sections that differ, e.g. initcalls, exports or module parameters."""
    partner: Mapping[Piece, Piece]
    """Fixed piece to the original piece that it stands for."""
    entries: Mapping[Piece, list[Entry]]
    """Table entries of each function, fixed side."""
    original_entries: Mapping[Piece, list[Entry]]
    """The same of the original."""
    ambiguous: tuple[Piece, ...]
    """Static locals (fixed side) of which nobody can tell what they were called before."""
    removed_data: tuple[Piece, ...]
    """Variables that the fixed side has no more."""
    new_data: tuple[Piece, ...]
    """Variables, not constants, that the original does not have."""


def compare(original: ObjectCode, fixed: ObjectCode, sizes: Mapping[str, int]) -> Difference:
    """Find what a fix changes in one object.

    Args:
        original: Compiled without the fix.
        fixed: Compiled with it, by the same command.
        sizes: Bytes of the structures that special sections are made of.
    """
    sides = _Sides(original, fixed, sizes)
    changed = sides.changed_functions()
    removed, new = sides.unpaired_data()
    return Difference(
        original=original,
        fixed=fixed,
        changed=changed,
        new_functions=tuple(one for one in _functions(fixed) if one not in sides.partner),
        changed_data=tuple(sides.changed_data()),
        changed_sections=tuple(sorted(sides.changed_sections())),
        partner=sides.partner,
        entries=sides.new_entries,
        original_entries=sides.old_entries,
        ambiguous=tuple(sides.ambiguous),
        removed_data=removed,
        new_data=new,
    )


def _functions(code: ObjectCode) -> list[Piece]:
    return [piece for piece in code.pieces() if piece.is_function]


def _variables(code: ObjectCode) -> list[Piece]:
    return [
        piece
        for piece in code.pieces()
        if not (piece.is_function or piece.is_anonymous or piece.is_private or _SILENT.match(piece.section.name))
    ]


def _by_name(pieces: Iterable[Piece]) -> dict[str, list[Piece]]:
    found: dict[str, list[Piece]] = {}
    for piece in pieces:
        found.setdefault(unnumbered(piece.name), []).append(piece)
    return found


def _strangers(original: Piece, users: frozenset[str], others: frozenset[str]) -> bool:
    """Whether two static locals of one name belong to functions that have nothing to do with each other."""
    return is_static_local(original.name) and bool(users) and bool(others) and not users & others


class _Sides:
    """Both objects, and which piece stands for which."""

    def __init__(self, original: ObjectCode, fixed: ObjectCode, sizes: Mapping[str, int]) -> None:
        self.original = original
        self.fixed = fixed
        self.old_entries = entries_by_function(original, sizes)
        self.new_entries = entries_by_function(fixed, sizes)
        self.partner: dict[Piece, Piece] = {}
        self._users_of: dict[int, dict[Piece, set[str]]] = {}
        self.taken: set[Piece] = set()
        self.ambiguous: list[Piece] = []
        self._nested = 0
        self._pair_functions()
        self._pair_variables()

    def _pair_functions(self) -> None:
        """Functions by name; of several clones those that certainly belong together, the others are new."""
        old = _by_name(_functions(self.original))
        for name, right in _by_name(_functions(self.fixed)).items():
            left = old.get(name, [])
            if len(left) == len(right) == 1:
                self.partner[right[0]] = left[0]
                continue
            self._pair_by(left, right, lambda piece: (piece.name, piece.code))
            self._pair_by(left, right, lambda piece: piece.code)
            self._pair_by(left, right, lambda piece: piece.name)

    def _pair_variables(self) -> None:
        """Variables by name; static locals of one name by the functions that use them."""
        old = _by_name(_variables(self.original))
        for name, right in _by_name(_variables(self.fixed)).items():
            left = old.get(name, [])
            if all(_is_other(piece) for piece in (*left, *right)):  # compared as sections, in order
                self.partner.update(zip(right, left, strict=False))
                self.taken.update(left)
                continue
            users = {id(piece): self._users(piece, self.original) for piece in left}
            users |= {id(piece): self._users(piece, self.fixed) for piece in right}
            if len(left) == len(right) == 1 and not _strangers(left[0], users[id(left[0])], users[id(right[0])]):
                self.partner[right[0]] = left[0]
                continue
            self._pair_by(left, right, lambda piece, users=users: users[id(piece)])  # type: ignore[misc]
            self._pair_twins(left, right, users)
            rest = [piece for piece in right if piece not in self.partner]
            if any(piece not in self.taken for piece in left):
                self.ambiguous += rest

    def _pair_twins(self, left: list[Piece], right: list[Piece], users: Mapping[int, frozenset[str]]) -> None:
        """Several of one name within one function are the same where their numbers are, and nothing was added."""
        for group in {users[id(piece)]: None for piece in right}:
            ours = {piece.name: piece for piece in left if users[id(piece)] == group and piece not in self.taken}
            theirs = {
                piece.name: piece for piece in right if users[id(piece)] == group and piece not in self.partner
            }
            if ours.keys() == theirs.keys():
                self.partner.update({theirs[name]: ours[name] for name in theirs})
                self.taken.update(ours.values())

    def _pair_by(self, left: list[Piece], right: list[Piece], trait: Callable[[Piece], Hashable]) -> None:
        """Pair what has not been paired yet where exactly one piece on each side has the same trait."""
        groups: dict[Hashable, tuple[list[Piece], list[Piece]]] = {}
        for piece in left:
            if piece not in self.taken:
                groups.setdefault(trait(piece), ([], []))[0].append(piece)
        for piece in right:
            if piece not in self.partner:
                groups.setdefault(trait(piece), ([], []))[1].append(piece)
        for ours, theirs in groups.values():
            if len(ours) == len(theirs) == 1:
                self.partner[theirs[0]] = ours[0]
                self.taken.add(ours[0])

    def _users(self, piece: Piece, side: ObjectCode) -> frozenset[str]:
        """The functions that refer to a piece of data, clones and cold parts counted as the function itself."""
        index = self._users_of.setdefault(id(side), {})
        if not index:
            for function in _functions(side):
                for reference in function.references:
                    if isinstance(reference.target, Piece):
                        index.setdefault(reference.target, set()).add(function.name.split(".")[0])
        return frozenset(index.get(piece, ()))

    def unpaired_data(self) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
        """Variables that may change and are there on one side only: the original's, the fixed one's."""
        paired = set(self.partner.values())
        return (
            tuple(one for one in _variables(self.original) if one not in paired and _is_state(one)),
            tuple(one for one in _variables(self.fixed) if one not in self.partner and _is_state(one)),
        )

    def changed_functions(self) -> tuple[Changed, ...]:
        """Functions whose code, references or table entries differ; a changed cold part changes its parent."""
        reasons: dict[Piece, str] = {}
        moved = moved_only(self.partner)
        for fixed, original in self.partner.items():
            if fixed.is_function:
                reason = self._why_different(original, fixed, is_moved=fixed in moved)
                if reason:
                    reasons[fixed] = reason
        for piece in list(reasons):
            if is_cold_part(piece.name):
                for parent in self._parents(piece):
                    reasons.setdefault(parent, f"its cold part {piece.name} differs: {reasons[piece]}")
        for piece in _functions(self.fixed):  # a cold part that appeared, or went away
            if is_cold_part(piece.name) and piece not in self.partner:
                for parent in self._parents(piece):
                    reasons.setdefault(parent, f"it has a new cold part {piece.name}")
        self._copy_untraceable(reasons)
        return tuple(
            Changed(original=self.partner[piece], fixed=piece, reason=reason)
            for piece, reason in sorted(reasons.items(), key=lambda pair: (pair[0].section.number, pair[0].offset))
            if piece in self.partner and not is_cold_part(piece.name)
        )

    def _copy_untraceable(self, reasons: dict[Piece, str]) -> None:
        """Where the kernel cannot redirect a changed function, its callers change instead and call a copy of it.

        That goes for local functions that are only called; what others reach is left for an Objection.
        """
        waiting = [piece for piece in reasons if not is_cold_part(piece.name)]
        while waiting:
            piece = waiting.pop()
            callers = self._only_callers(piece)
            if piece not in self.partner or not callers or self._is_redirectable(piece):
                continue
            del self.partner[piece]
            for part in _functions(self.fixed):
                if is_cold_part(part.name) and parent_of(part.name) == piece.name:
                    self.partner.pop(part, None)
            for caller in callers - reasons.keys():
                reasons[caller] = f"it calls {piece.name}, which changes and cannot be redirected"
                waiting.append(caller)

    def _is_redirectable(self, fixed: Piece) -> bool:
        return is_traceable(self.original, self.partner[fixed], self.old_entries) and is_traceable(
            self.fixed, fixed, self.new_entries
        )

    def _only_callers(self, piece: Piece) -> set[Piece]:
        """The functions that call a local function; none when something else may reach it."""
        if not piece.is_local or _RAN_ONCE.match(piece.section.name):
            return set()
        found: set[Piece] = set()
        for other in self.fixed.pieces():
            if other is piece or other.section.name in NAMES or _SILENT.match(other.section.name):
                continue
            uses = [reference for reference in other.references if reference.target is piece]
            if any(not (other.is_function and reference.is_branch) for reference in uses):
                return set()
            if uses:
                found |= set(self._parents(other)) if is_cold_part(other.name) else {other}
        return found

    def _parents(self, cold: Piece) -> list[Piece]:
        parent = self.fixed.functions.get(parent_of(cold.name))
        return [parent] if parent is not None else []

    def _why_different(self, original: Piece, fixed: Piece, *, is_moved: bool) -> str:
        """Empty when equal, else the first difference in words; ``is_moved`` says that only lines differ in it."""
        if original.code != fixed.code and not is_moved:
            return _first_difference(original, fixed)
        if _fixed_branches(original) != _fixed_branches(fixed):
            return "it refers to another neighbour in its section"
        for old, new in zip(original.references, fixed.references, strict=False):
            if self._key(old, is_fixed=False) != self._key(new, is_fixed=True):
                return f"+{new.offset:#x} refers to {_label(new)} instead of {_label(old)}"
        if len(original.references) != len(fixed.references):
            return "it has other relocations"
        return self._table_difference(original, fixed)

    def _table_difference(self, original: Piece, fixed: Piece) -> str:
        old = [self._entry_key(entry, is_fixed=False) for entry in self.old_entries.get(original, [])]
        new = [self._entry_key(entry, is_fixed=True) for entry in self.new_entries.get(fixed, [])]
        if old == new:
            return ""
        for left, right in zip(self.old_entries.get(original, []), self.new_entries.get(fixed, []), strict=False):
            if self._entry_key(left, is_fixed=False) != self._entry_key(right, is_fixed=True):
                return f"an entry of {right.table} differs"
        return "it has other entries in special sections"

    def _entry_key(self, entry: Entry, *, is_fixed: bool) -> Hashable:
        return (
            entry.table,
            entry_without_line(entry.table, entry.data),
            entry.code,
            # Where the replacement code stands in its section says nothing.
            tuple(self._key(one, is_fixed=is_fixed) for one in entry.references if not _is_table(one.target)),
            tuple(self._key(one, is_fixed=is_fixed) for one in entry.code_references),
        )

    def _key(self, reference: Reference, *, is_fixed: bool, above: tuple[Piece, ...] = ()) -> Hashable:
        """What a reference means, the same on both sides if it means the same."""
        place = (reference.offset, reference.type, reference.delta)
        target = reference.target
        if isinstance(target, Undefined):
            return (*place, "name", target.name)
        if isinstance(target, Content):
            return (*place, "content", target.data)
        if target in above:
            return (*place, "above", above.index(target))
        if target.is_anonymous:
            # Where it stands in its section says nothing.
            value = self._value(target, max(0, reference.delta), is_fixed=is_fixed, above=above)
            return (*place[:2], "section", target.name, value)
        if target.is_private:
            value = self._value(target, 0, is_fixed=is_fixed, above=above)
            return (*place, "private", unnumbered(target.name), value)
        return (*place, "piece", id(self.partner.get(target, target) if is_fixed else target))

    def _value(self, piece: Piece, start: int, *, is_fixed: bool, above: tuple[Piece, ...]) -> Hashable:
        """What data holds from some byte on, pointers included."""
        self._nested += len(above) > 0
        if self._nested > _MOST_NESTED:
            raise InputError(f"{self.original.elf.path}: its constants refer to each other without end.")
        inside = [one._replace(offset=one.offset - start) for one in piece.references if one.offset >= start]
        keys = [self._key(one, is_fixed=is_fixed, above=(*above, piece)) for one in inside]
        return data_without_line(piece)[start:], *keys

    def changed_data(self) -> Iterable[Piece]:
        """Variables with another initial value or other references than before."""
        for fixed, original in self.partner.items():
            if fixed.is_function or _is_other(fixed):
                continue
            keys = self._keys(original, is_fixed=False), self._keys(fixed, is_fixed=True)
            same = original.code == fixed.code and keys[0] == keys[1]
            if not same or unnumbered(original.section.name) != unnumbered(fixed.section.name):
                yield fixed

    def _keys(self, piece: Piece, *, is_fixed: bool) -> list[Hashable]:
        return [self._key(one, is_fixed=is_fixed) for one in piece.references]

    def changed_sections(self) -> set[str]:
        """Sections that register something with the kernel and differ as a whole."""
        old, new = (self._registered(side, is_fixed=side is self.fixed) for side in (self.original, self.fixed))
        return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}

    def _registered(self, side: ObjectCode, *, is_fixed: bool) -> dict[str, list[Hashable]]:
        found: dict[str, list[Hashable]] = {}
        for piece in side.pieces():
            if _is_other(piece) and piece.size and not _SILENT.match(piece.section.name):
                value = (piece.code, *self._keys(piece, is_fixed=is_fixed))
                found.setdefault(unnumbered(piece.section.name), []).append(value)
        return found


def _is_state(piece: Piece) -> bool:
    return piece.is_writable and not _is_other(piece)


def _fixed_branches(piece: Piece) -> list[tuple[str, int]]:
    return [(unnumbered(name), delta) for name, delta in piece.fixed_branches]


def _is_table(target: Piece | Undefined | Content) -> bool:
    return isinstance(target, Piece) and target.name in NAMES


_PLAIN = re.compile(r"^(\.data|\.bss|\.rodata|__dyndbg$|__tracepoints|_ftrace_events$|__bpf_raw_tp_map$)")


def _is_other(piece: Piece) -> bool:
    """Neither code nor plain data nor a table that goes along with code."""
    name = piece.section.name
    return not piece.section.is_text and name not in NAMES and not _PLAIN.match(name)


def _label(reference: Reference) -> str:
    target = reference.target
    if isinstance(target, Content):
        return repr(target.data.rstrip(b"\0").decode("utf-8", "replace"))
    return target.name + (f"+{reference.delta:#x}" if reference.delta else "")


def _first_difference(original: Piece, fixed: Piece) -> str:
    before, after = code_without_lines(original), code_without_lines(fixed)
    if before == after:
        return "the line numbers in it move, but not as lines of one file do"
    for old, new in zip(decode(before), decode(after), strict=False):
        if before[old.offset : old.end] != after[new.offset : new.end]:
            return f"+{new.offset:#x} is `{new.text}` instead of `{old.text}`"
    return f"it is {fixed.size} bytes long instead of {original.size}"
