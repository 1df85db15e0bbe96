"""Structures, unions and enums that a C file defines, as text: enough to see that a fix changes one. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_DEFINITION = re.compile(
    r"^(?:typedef\s+|static\s+|const\s+)*(struct|union|enum)\s+(\w+)?[^;(){}=]*\{(.*?)^\}",
    re.MULTILINE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_SPACE = re.compile(r"\s+")


def changed_types(original: str, fixed: str) -> tuple[str, ...]:
    """Types that both texts define, but not alike: ``struct foo``; comments and white space do not count.

    Data of the old layout lives on when a livepatch is applied, so none of these can be passed over.
    """
    old, new = _definitions(original), _definitions(fixed)
    return tuple(sorted(name for name in old.keys() & new.keys() if old[name] != new[name]))


def _definitions(text: str) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for kind, name, body in _DEFINITION.findall(_COMMENT.sub(" ", text)):
        found.setdefault(f"{kind} {name or '(unnamed)'}", []).append(_SPACE.sub(" ", body).strip())
    return found
