"""Names that a compiler numbers: how they look without the numbers."""

from __future__ import annotations

import re

_CLONE = re.compile(r"\.(isra|constprop|part)\.\d+")
_UNIQUE = re.compile(r"^(__UNIQUE_ID_\w*?)\d+(?=\.|$)")
_NUMBERED = re.compile(r"\.\d+$")
_COLD = ".cold"

# Statics that belong to one place in the code and hold nothing that the running kernel's copy must share.
_PRIVATE_STATICS = frozenset({
    "__already_done", "__func__", "__FUNCTION__", "__key", "__msg", "__PRETTY_FUNCTION__", "__print_once",
    "__warned", "_entry", "_entry_ptr", "_rs", "descriptor", "CSWTCH", "C", "__compound_literal",
    "__already_dumped",
})  # fmt: skip


def unnumbered(name: str) -> str:
    """The name without the numbers that the compiler gave: ``foo.isra.0.cold`` is ``foo.isra.cold``."""
    name = _UNIQUE.sub(r"\1", _CLONE.sub(r".\1", name))
    return _NUMBERED.sub(".", name)


def is_private_static(name: str) -> bool:
    """Data made by a macro or the compiler for one place in the code, of which a livepatch keeps its own copy.

    ``__warned`` and ``__already_done`` of WARN_ONCE, ``__key`` of lock classes, ``_rs`` of rate limits,
    ``__func__``, switch tables and the like.
    """
    return name.split(".", maxsplit=1)[0] in _PRIVATE_STATICS or name.startswith("__UNIQUE_ID_ddebug")


def is_cold_part(name: str) -> bool:
    """A part that the compiler split off a function because it is rarely run."""
    return name.endswith(_COLD)


def parent_of(name: str) -> str:
    """The function that a cold part belongs to."""
    return name.removesuffix(_COLD)
