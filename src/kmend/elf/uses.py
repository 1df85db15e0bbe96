"""Who uses a type in one object, from its debugging information."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kmend.elf import dwarf as d
from kmend.elf.dwarf import Die
from kmend.elf.types import UNNAMED, TypeTable, is_static

_USING = {d.VARIABLE, d.PARAMETER, d.MEMBER, d.FUNCTION, d.SUBROUTINE}
_FUNCTIONS = {d.FUNCTION, d.INLINED}
_KINDS = {**d.AGGREGATES, d.ENUM: "enum"}


class Role(StrEnum):
    """What of a type there is."""

    LOCAL = "local variable"
    PARAMETER = "parameter"
    STATIC = "variable"
    MEMBER = "member"
    RESULT = "result"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One place that is of a type, or (``pointers``) leads to it by so many pointers."""

    role: Role
    pointers: int
    name: str
    """Of the variable or member."""
    function: str = ""
    """As the source names it."""
    within: str = ""
    """The function that ``function`` is inlined into here; empty when it stands for itself."""
    place: tuple[int, int] | None = None
    """Section and offset of the code that holds it."""
    owner: str = ""
    """The type that a member belongs to, e.g. ``struct foo``."""


class Uses:
    """All uses of all types of one object, by name (``struct foo``)."""

    def __init__(self, table: TypeTable) -> None:
        self._table = table
        self._dwarf = table.dwarf
        self._found: dict[str, dict[Use, None]] = {}
        for die in self._dwarf.entries.values():
            if die.tag in _USING:
                self._add(die)

    def of(self, name: str) -> tuple[Use, ...]:
        """The uses of one type."""
        return tuple(self._found.get(name, ()))

    def _add(self, die: Die) -> None:
        kind = self._table.type_of(die)
        base, pointers = self._table.base(kind)
        use = self._use(die, pointers=pointers)
        for name in {_named(base), *self._typedefs(kind)}:
            self._found.setdefault(name, {})[use] = None

    def _typedefs(self, die: Die | None) -> list[str]:
        """The typedefs on the way to the type itself."""
        found = []
        for _ in range(100):
            if die is None:
                break
            if die.tag == d.TYPEDEF:
                found.append(f"typedef {die.name}")
            die = self._table.type_of(die) if die.tag not in _KINDS else None
        return found

    def _use(self, die: Die, *, pointers: int) -> Use:
        if die.tag == d.MEMBER:
            return Use(role=Role.MEMBER, pointers=pointers, name=die.name, owner=_owner(die))
        origin = self._origin(die)
        if die.tag == d.FUNCTION:
            place = self._dwarf.place(die)
            return Use(role=Role.RESULT, pointers=pointers, name="", function=origin.name, place=place)
        functions = _around(die)
        if d.SUBROUTINE in {die.tag, die.parent.tag if die.parent else 0}:
            return Use(role=Role.OTHER, pointers=pointers, name=origin.name)
        if not functions or (die.tag == d.VARIABLE and (is_static(die) or is_static(origin))):
            role = Role.STATIC if die.tag == d.VARIABLE else Role.OTHER
            return Use(role=role, pointers=pointers, name=origin.name)
        outer = next((one for one in functions if one.tag == d.FUNCTION), None)
        inlined = functions[0].tag == d.INLINED and len(functions) > 1
        return Use(
            role=Role.PARAMETER if die.tag == d.PARAMETER else Role.LOCAL,
            pointers=pointers,
            name=origin.name,
            function=self._origin(functions[0]).name,
            within=self._origin(functions[1]).name if inlined else "",
            place=self._dwarf.place(outer) if outer is not None else None,
        )

    def _origin(self, die: Die) -> Die:
        """What an inlined or outlined copy is a copy of."""
        for _ in range(100):
            if die.name:
                break
            origin = self._dwarf.follow(die, d.ORIGIN) or self._dwarf.follow(die, d.SPECIFICATION)
            if origin is None:
                break
            die = origin
        return die


def _named(die: Die | None) -> str:
    return f"{_KINDS[die.tag]} {die.name or UNNAMED}" if die is not None and die.tag in _KINDS else ""


def _owner(member: Die) -> str:
    """The named type that a member lies in, however deep; empty when none of them has a name."""
    die = member.parent
    while die is not None and die.tag in d.AGGREGATES:
        if die.name:
            return _named(die)
        die = die.parent
    return ""


def _around(die: Die) -> list[Die]:
    """The functions that a variable lies in, the innermost first; those that are inlined among them."""
    found = []
    parent = die.parent
    while parent is not None:
        if parent.tag in _FUNCTIONS:
            found.append(parent)
        parent = parent.parent
    return found


def functions(uses: tuple[Use, ...]) -> tuple[str, ...]:
    """The names of the functions among some uses that have code in the object, each once."""
    return tuple(dict.fromkeys(use.function for use in uses if use.function and use.place))
