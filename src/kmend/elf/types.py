"""Layouts of the types that one object uses, from its debugging information."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kmend.elf import dwarf as d
from kmend.elf.dwarf import Die, Dwarf
from kmend.kit.errors import InputError

_ALIKE = {d.CONST: "const ", d.VOLATILE: "volatile ", d.RESTRICT: "", d.ATOMIC: "_Atomic "}
_NAMED = {d.STRUCT: "struct", d.UNION: "union", d.ENUM: "enum", d.TYPEDEF: "typedef"}
_ENCODINGS = {2: "boolean", 4: "float", 5: "signed", 6: "signed", 7: "unsigned", 8: "unsigned", 16: "character"}
_POINTER = 8
_DEEPEST = 60
_MOST_STEPS = 2_000_000
UNNAMED = "(unnamed)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member as the source has it; ``at`` and ``size`` count bits."""

    name: str
    at: int
    size: int
    type: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Slot:
    """A scalar, pointer or array at a place in a type, inner structures taken apart; bits.

    ``kind`` says how its bits are read, whatever the names of typedefs; a pointer's is the name of its target.
    """

    at: int
    size: int
    kind: str
    name: str
    """With the names of the members that it lies in, e.g. ``core.lock``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Of one struct, union, enum, typedef, or of a variable's type without name."""

    size: int
    """Bytes."""
    members: tuple[Member, ...]
    slots: tuple[Slot, ...]
    constants: tuple[tuple[str, int], ...]


class TypeTable:
    """The types of one object.

    All methods raise InputError when the debugging information is damaged.
    """

    def __init__(self, dwarf: Dwarf) -> None:
        self.dwarf = dwarf
        self._slots: dict[int, tuple[Slot, ...]] = {}
        self._count = 0
        self._named: dict[str, list[Die]] = {}
        for die in dwarf.entries.values():
            if die.tag in _NAMED and d.DECLARATION not in die.attributes:
                self._named.setdefault(f"{_NAMED[die.tag]} {die.name or UNNAMED}", []).append(die)

    def named(self, name: str) -> list[Die]:
        """The definitions of ``struct foo``, ``enum bar``, ``typedef baz``."""
        return self._named.get(name, [])

    def layouts(self, name: str) -> tuple[Layout, ...]:
        """The different layouts that a name has here: mostly one, none when the object does not use it."""
        return tuple(dict.fromkeys(self.layout(die) for die in self.named(name)))

    def layout(self, die: Die) -> Layout:
        """The layout of a type."""
        inner = self.stripped(die)
        return Layout(
            size=self.size(die),
            members=tuple(self._members(inner)) if inner is not None else (),
            slots=tuple(self.slots(die)),
            constants=_constants(inner) if inner is not None and inner.tag == d.ENUM else (),
        )

    def type_of(self, die: Die) -> Die | None:
        """The type of a variable, a member, or what a type is derived from; None stands for void."""
        for _ in range(_DEEPEST):
            if d.TYPE in die.attributes:
                return self.dwarf.follow(die, d.TYPE)
            origin = self.dwarf.follow(die, d.ORIGIN) or self.dwarf.follow(die, d.SPECIFICATION)
            if origin is None:
                return None
            die = origin
        raise self._endless()

    def stripped(self, die: Die | None) -> Die | None:
        """A type without typedefs and qualifiers."""
        for _ in range(_DEEPEST):
            if die is None or (die.tag not in _ALIKE and die.tag != d.TYPEDEF):
                return die
            die = self.type_of(die)
        raise self._endless()

    def size(self, die: Die | None, depth: int = 0) -> int:
        """Bytes of a type; 0 when it has none."""
        self._step(depth)
        die = self.stripped(die)
        if die is None:
            return 0
        if die.tag == d.ARRAY and d.BYTE_SIZE not in die.attributes:
            return self._length(die) * self.size(self.type_of(die), depth + 1)
        return die.number(d.BYTE_SIZE) or (_POINTER if die.tag == d.POINTER else 0)

    def spelled(self, die: Die | None, depth: int = 0) -> str:
        """A type roughly as the source writes it."""
        self._step(depth)
        if die is None:
            return "void"
        inner = self.type_of(die) if d.TYPE in die.attributes else None
        if die.tag in _ALIKE:
            text = self.spelled(inner, depth + 1)
            return text if text.startswith(_ALIKE[die.tag]) else _ALIKE[die.tag] + text
        if die.tag == d.POINTER:
            text = self.spelled(inner, depth + 1)
            return f"{text}*" if text.endswith("*") else f"{text} *"
        if die.tag == d.ARRAY:
            return self.spelled(inner, depth + 1) + "".join(f"[{_bound(one) or ''}]" for one in die.children)
        if die.tag == d.SUBROUTINE:
            given = ", ".join(self.spelled(self.type_of(one), depth + 1) for one in die.children)
            return f"{self.spelled(inner, depth + 1)} ({given})"
        kind = _NAMED.get(die.tag, "") if die.tag != d.TYPEDEF else ""
        return f"{kind} {die.name or UNNAMED}".strip()

    def slots(self, die: Die | None, depth: int = 0) -> tuple[Slot, ...]:
        """A type taken apart, by place."""
        inner = self.stripped(die)
        if inner is None:
            return ()
        if inner.tag not in d.AGGREGATES:
            return (Slot(at=0, size=8 * self.size(inner), kind=self._kind(inner, depth), name=""),)
        if inner.offset not in self._slots:
            found = sorted(self._taken_apart(inner, depth))
            self._slots[inner.offset] = tuple(found)
        return self._slots[inner.offset]

    def _taken_apart(self, die: Die, depth: int) -> Iterator[Slot]:
        for child in die.children:
            if child.tag != d.MEMBER:
                continue
            kind = self.type_of(child)
            at = _position(child)
            bits = child.number(d.BIT_SIZE)
            for slot in self.slots(kind, depth + 1):
                self._step(depth)
                size = slot.size if bits is None else bits
                name = ".".join(filter(None, (child.name, slot.name)))
                yield Slot(at=at + slot.at, size=size, kind=slot.kind, name=name)

    def _kind(self, die: Die, depth: int) -> str:
        self._step(depth)
        if die.tag == d.BASE:
            return _ENCODINGS.get(die.number(d.ENCODING) or 0, die.name)
        if die.tag == d.POINTER:
            return f"pointer to {self._target(self.type_of(die), depth)}"
        if die.tag == d.ARRAY:
            item = "; ".join(f"{one.at}:{one.size} {one.kind}" for one in self.slots(self.type_of(die), depth + 1))
            return f"{''.join(f'[{_bound(one)}]' for one in die.children)} of {item}"
        return self._target(die, depth)

    def _target(self, die: Die | None, depth: int) -> str:  # noqa: PLR0911 - as many as there are kinds
        """What a pointer leads to, by name; only what has no name is described."""
        self._step(depth)
        die = self.stripped(die)
        if die is None:
            return "void"
        if die.tag == d.POINTER:
            return f"pointer to {self._target(self.type_of(die), depth + 1)}"
        if die.tag == d.SUBROUTINE:
            given = ", ".join(self._target(self.type_of(one), depth + 1) for one in die.children)
            return f"function ({given}) giving {self._target(self.type_of(die), depth + 1)}"
        if die.tag == d.BASE:
            return f"{_ENCODINGS.get(die.number(d.ENCODING) or 0, die.name)} of {die.number(d.BYTE_SIZE)}"
        if die.tag == d.ARRAY:
            return self._kind(die, depth + 1)
        if die.name or die.tag not in d.AGGREGATES:
            return f"{_NAMED.get(die.tag, '')} {die.name or UNNAMED}"
        return "; ".join(f"{one.at}:{one.size} {one.kind}" for one in self.slots(die, depth + 1))

    def _members(self, die: Die) -> Iterator[Member]:
        """The members by name, those of inner types without a name among them."""
        for child in die.children:
            if child.tag != d.MEMBER:
                continue
            kind, at = self.type_of(child), _position(child)
            inner = self.stripped(kind)
            if not child.name and inner is not None and inner.tag in d.AGGREGATES:
                for one in self.layout(inner).members:
                    yield Member(name=one.name, at=at + one.at, size=one.size, type=one.type)
            else:
                bits = child.number(d.BIT_SIZE)
                size = 8 * self.size(kind) if bits is None else bits
                yield Member(name=child.name, at=at, size=size, type=self.spelled(kind))

    def _length(self, die: Die) -> int:
        length = 1
        for one in die.children:
            length *= _bound(one)
        return length

    def unnamed(self) -> Mapping[str, Layout]:
        """Types without a name, by what has them: typedefs, and variables that are no plain local ones."""
        found = {}
        for die in self.dwarf.entries.values():
            if die.tag == d.TYPEDEF or (die.tag == d.VARIABLE and die.name):
                kind, pointers = self.base(self.type_of(die))
                if kind is None or kind.name or kind.tag not in d.AGGREGATES or self._goes_by_typedef(die):
                    continue
                if die.tag == d.TYPEDEF:
                    found[f"typedef {die.name}"] = self.layout(kind)
                elif pointers or d.EXTERNAL in die.attributes or is_static(die):
                    found[f"variable {die.name}"] = self.layout(kind)
        return found

    def _goes_by_typedef(self, die: Die) -> bool:
        """Whether there is a typedef on the way to the type that something is made of."""
        inner = self.type_of(die)
        for _ in range(_DEEPEST):
            if inner is None or (inner.tag not in _ALIKE and inner.tag not in {d.ARRAY, d.POINTER}):
                return inner is not None and inner.tag == d.TYPEDEF
            inner = self.type_of(inner)
        raise self._endless()

    def loose_constants(self) -> Mapping[str, int]:
        """The constants of all enums without a name."""
        found: dict[str, int] = {}
        for die in self.named(f"enum {UNNAMED}"):
            found |= _constants(die)
        return found

    def base(self, die: Die | None) -> tuple[Die | None, int]:
        """The type that a type is made of by arrays and pointers, and how many pointers there are among them."""
        pointers = 0
        for _ in range(_DEEPEST):
            die = self.stripped(die)
            if die is None or die.tag not in {d.ARRAY, d.POINTER}:
                return die, pointers
            pointers += die.tag == d.POINTER
            die = self.type_of(die)
        raise self._endless()

    def _step(self, depth: int) -> None:
        """Ends what would never end; only damaged information goes that deep or far."""
        self._count += 1
        if depth > _DEEPEST or self._count > _MOST_STEPS:
            raise self._endless()

    def _endless(self) -> InputError:
        return InputError("The debugging information of an object is damaged: a type within itself.")


def is_static(variable: Die) -> bool:
    """Whether a variable has an address of its own, not on the stack."""
    where = variable.attributes.get(d.LOCATION)
    in_unit = variable.parent is None or variable.parent.tag == d.UNIT
    return in_unit or (isinstance(where, bytes) and where[:1] == b"\x03")  # DW_OP_addr


def _constants(die: Die) -> tuple[tuple[str, int], ...]:
    return tuple((one.name, one.number(d.CONST_VALUE) or 0) for one in die.children if one.tag == d.CONSTANT)


def _position(member: Die) -> int:
    """Bits from the start of the type; DWARF 4 counts bit-fields from the other end (5.5.6 there)."""
    bit = member.number(d.DATA_BIT_OFFSET)
    if bit is not None:
        return bit
    start = 8 * (member.number(d.MEMBER_AT) or 0)
    size = member.number(d.BIT_SIZE)
    if size is None:
        return start
    return start + 8 * (member.number(d.BYTE_SIZE) or 0) - (member.number(d.BIT_OFFSET) or 0) - size


def _bound(subrange: Die) -> int:
    """Items of an array's dimension; 0 when it has no bound."""
    last, count = subrange.number(d.UPPER_BOUND), subrange.number(d.COUNT)
    if count is not None:
        return count
    return last + 1 if last is not None and last < 1 << 48 else 0
