"""Labels of hosts, and selectors that choose by them; written as Kubernetes writes its label selectors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from kmend.kit.errors import InputError

_KEY = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)"
_KEY_ONLY = re.compile(_KEY)
_VALUE_ONLY = re.compile(f"{_VALUE}?")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")
_EQUAL = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE}?)")
_AMONG = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_COMMA = re.compile(r",(?![^(]*\))")
_HINT = "Write e.g. env=prod,role!=db,zone in (a,b),!gpu."
_MOST = 32


class Relation(StrEnum):
    """How a label has to stand to the values of a requirement."""

    AMONG = "in"
    NOT_AMONG = "notin"
    """A host without the label fits too."""
    THERE = "exists"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One part of a selector."""

    key: str
    relation: Relation
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels fit."""
        match self.relation:
            case Relation.AMONG:
                return labels.get(self.key) in self.values
            case Relation.NOT_AMONG:
                return labels.get(self.key) not in self.values
            case Relation.THERE:
                return self.key in labels
            case Relation.ABSENT:
                return self.key not in labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """All requirements have to hold; without any, every host fits."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a host with these labels is chosen."""
        return all(requirement.holds(labels) for requirement in self.requirements)


@lru_cache(maxsize=1024)
def parse_selector(text: str) -> Selector:
    """The selector that a text means; an empty text chooses every host.

    Raises:
        InputError: It is not a selector.
    """
    if not text.strip():
        return Selector()
    parts = _COMMA.split(text)
    if len(parts) > _MOST:
        raise InputError(f"A selector has at most {_MOST} parts, this one has {len(parts)}.")
    return Selector(requirements=tuple(_requirement(part.strip(), text) for part in parts))


def check_labels(labels: Mapping[str, str]) -> None:
    """Check keys and values of labels.

    Raises:
        InputError: One of them cannot be written in a selector, or there are too many.
    """
    if len(labels) > _MOST:
        raise InputError(f"A host has at most {_MOST} labels, these are {len(labels)}.")
    for key, value in labels.items():
        if not _KEY_ONLY.fullmatch(key) or not _VALUE_ONLY.fullmatch(value):
            raise InputError(
                f"{key!r}={value!r} cannot be a label.",
                hint="Letters, digits, dots, dashes and underscores, at most 63; keys may hold slashes too.",
            )


def _requirement(part: str, text: str) -> Requirement:
    if found := _AMONG.fullmatch(part):
        values = tuple(sorted({value.strip() for value in found[3].split(",")}))
        if all(_VALUE_ONLY.fullmatch(value) for value in values):
            return Requirement(key=found[1], relation=Relation(found[2]), values=values)
    if found := _EQUAL.fullmatch(part):
        relation = Relation.NOT_AMONG if found[2] == "!=" else Relation.AMONG
        return Requirement(key=found[1], relation=relation, values=(found[3],))
    if found := _EXISTS.fullmatch(part):
        return Requirement(key=found[2], relation=Relation.ABSENT if found[1] else Relation.THERE)
    raise InputError(f"{part!r} in the selector {text!r} cannot be read.", hint=_HINT)
