"""What differs between an original object and a fixed one: functions and data, numbering left aside."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

from kmend.elf import constants as c
from kmend.elf.code import decode
from kmend.elf.names import is_cold_part, is_private_static, parent_of, unnumbered
from kmend.elf.objects import Content, ObjectCode, Piece, Reference, Undefined
from kmend.elf.tables import NAMES, Entry, entries_by_function

# Sections that say nothing about what a function does.
_SILENT = re.compile(r"^\.(discard|comment|note|debug|rela|export_symbol|llvm_addrsig|BTF_ids)")


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


def compare(original: ObjectCode, fixed: ObjectCode, sizes: Mapping[str, int]) -> Difference:
    """Find what a fix changes in one object.

    Args:
        original: Compiled without the fix.
        fixed: Compiled with it, by the same command.
        sizes: Bytes of the structures that special sections are made of.
    """
    sides = _Sides(original, fixed, sizes)
    changed = sides.changed_functions()
    return Difference(
        original=original,
        fixed=fixed,
        changed=changed,
        new_functions=tuple(one for one in _functions(fixed) if one not in sides.partner),
        changed_data=tuple(sides.changed_data()),
        changed_sections=tuple(sorted(sides.changed_sections())),
        partner=sides.partner,
        entries=sides.new_entries,
    )


def _functions(code: ObjectCode) -> list[Piece]:
    return [piece for piece in code.pieces() if piece.is_function]


def _variables(code: ObjectCode) -> list[Piece]:
    return [
        piece
        for piece in code.pieces()
        if not piece.is_function and not piece.is_anonymous and not _SILENT.match(piece.section.name)
    ]


# What tells pieces of one name apart.
_Trait = Callable[[Piece, ObjectCode], Hashable]


class _Sides:
    """Both objects, and which piece stands for which."""

    def __init__(self, original: ObjectCode, fixed: ObjectCode, sizes: Mapping[str, int]) -> None:
        self.original = original
        self.fixed = fixed
        self.old_entries = entries_by_function(original, sizes)
        self.new_entries = entries_by_function(fixed, sizes)
        self.partner: dict[Piece, Piece] = {}
        self._users_of: dict[int, dict[Piece, set[str]]] = {}
        self._match(_functions(original), _functions(fixed), lambda piece, _: (piece.bind == c.STB_LOCAL,))
        self._match(_variables(original), _variables(fixed), self._users)

    def _match(self, old: list[Piece], new: list[Piece], trait: _Trait) -> None:
        """Pair pieces of the same unnumbered name: by their trait where there are several, then in order."""
        for name in {unnumbered(piece.name) for piece in new}:
            left = [piece for piece in old if unnumbered(piece.name) == name]
            right = [piece for piece in new if unnumbered(piece.name) == name]
            if len(left) == len(right) == 1:
                self.partner[right[0]] = left[0]
                continue
            for piece in right:
                wanted = trait(piece, self.fixed)
                twins = [one for one in left if trait(one, self.original) == wanted]
                if not twins:
                    continue
                best = next((one for one in twins if one.code == piece.code and one.name == piece.name), None)
                best = best or next((one for one in twins if one.code == piece.code), twins[0])
                self.partner[piece] = best
                left.remove(best)

    def _users(self, piece: Piece, side: ObjectCode) -> Hashable:
        """The functions that refer to a piece of data, cold parts counted with their parents."""
        index = self._users_of.setdefault(id(side), {})
        if not index:
            for function in _functions(side):
                for reference in function.references:
                    if isinstance(reference.target, Piece):
                        index.setdefault(reference.target, set()).add(parent_of(unnumbered(function.name)))
        return frozenset(index.get(piece, ()))

    def changed_functions(self) -> tuple[Changed, ...]:
        """Functions whose code, references or table entries differ; a changed cold part changes its parent."""
        reasons: dict[Piece, str] = {}
        for fixed, original in self.partner.items():
            if fixed.is_function:
                reason = self._why_different(original, fixed)
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
        return tuple(
            Changed(original=self.partner[piece], fixed=piece, reason=reason)
            for piece, reason in sorted(reasons.items(), key=lambda pair: (pair[0].section.number, pair[0].offset))
            if piece in self.partner and not is_cold_part(piece.name)
        )

    def _parents(self, cold: Piece) -> list[Piece]:
        parent = self.fixed.functions.get(parent_of(cold.name))
        return [parent] if parent is not None else []

    def _why_different(self, original: Piece, fixed: Piece) -> str:
        """Empty when equal, else the first difference in words."""
        if original.code != fixed.code or original.fixed_branches != fixed.fixed_branches:
            return _first_difference(original, fixed)
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
            entry.data,
            entry.code,
            # Where the replacement code stands in its section says nothing.
            tuple(self._key(one, is_fixed=is_fixed) for one in entry.references if not _is_table(one.target)),
            tuple(self._key(one, is_fixed=is_fixed) for one in entry.code_references),
        )

    def _key(self, reference: Reference, *, is_fixed: bool) -> Hashable:
        """What a reference means, the same on both sides if it means the same."""
        place = (reference.offset, reference.type, reference.delta)
        target = reference.target
        if isinstance(target, Undefined):
            return (*place, "name", target.name)
        if isinstance(target, Content):
            return (*place, "content", target.data)
        if target.is_anonymous:
            return (*place, "section", target.name, target.code[max(0, reference.delta) :])
        if is_private_static(target.name):
            return (*place, "private", unnumbered(target.name), self._private_value(target, is_fixed=is_fixed))
        return (*place, "piece", id(self.partner.get(target, target) if is_fixed else target))

    def _private_value(self, piece: Piece, *, is_fixed: bool) -> Hashable:
        keys = (self._key(one, is_fixed=is_fixed) for one in piece.references)
        return piece.code, *keys

    def changed_data(self) -> Iterable[Piece]:
        """Variables with another initial value or other references than before."""
        for fixed, original in self.partner.items():
            if fixed.is_function or is_private_static(fixed.name) or _is_other(fixed):
                continue
            keys = self._keys(original, is_fixed=False), self._keys(fixed, is_fixed=True)
            same = original.code == fixed.code and keys[0] == keys[1]
            if not same or original.section.name != fixed.section.name:
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
    for old, new in zip(decode(original.code), decode(fixed.code), strict=False):
        if original.code[old.offset : old.end] != fixed.code[new.offset : new.end]:
            return f"+{new.offset:#x} is `{new.text}` instead of `{old.text}`"
    return f"it is {fixed.size} bytes long instead of {original.size}"
