"""Names that a compiler numbers: how they look without the numbers."""

from __future__ import annotations

import re

_CLONE = re.compile(r"\.(isra|constprop|part)\.\d+")
# The latter are entries of lists of types for BPF (include/linux/btf_ids.h).
_UNIQUE = re.compile(r"((?:^|\.)(?:__UNIQUE_ID_\w*?|__BTF_ID__\w+?__))\d+(?=\.|$)")
_NUMBERED = re.compile(r"\.\d+$")
_COLD = ".cold"

# Statics that belong to one place in the code and hold nothing that the running kernel's copy must share.
_PRIVATE_STATE = frozenset({"__already_done", "__already_dumped", "__key", "__print_once", "__warned", "_rs"})
# Others are copied only where they cannot be written to: a compound literal may well hold state.
_PRIVATE_CONSTANTS = frozenset({
    "__func__", "__FUNCTION__", "__msg", "__PRETTY_FUNCTION__", "_entry", "_entry_ptr", "CSWTCH",
    "__compound_literal",
})  # fmt: skip
# What the compiler numbers: variables within functions. A variable of the whole file has no number.
_WITHIN_A_FUNCTION = re.compile(r"^(\w+)(\.\d+)+$")
_INITIALIZER = re.compile(r"^C\.\d+\.\d+$")


def is_private_static(name: str, *, is_writable: bool) -> bool:
    """Data made by a macro or the compiler for one place in the code, of which a livepatch keeps its own copy.

    ``__warned`` and ``__already_done`` of WARN_ONCE, ``__key`` of lock classes, ``_rs`` of rate limits,
    ``__func__``, switch tables and the like. Not ``___done`` of DO_ONCE: it guards what must happen only once.
    """
    match = _WITHIN_A_FUNCTION.match(name)
    if match is None:
        return name.startswith("__UNIQUE_ID_ddebug")
    constant = match[1] in _PRIVATE_CONSTANTS or _INITIALIZER.match(name) is not None
    return match[1] in _PRIVATE_STATE or name.startswith("__UNIQUE_ID_ddebug") or (constant and not is_writable)


def unnumbered(name: str) -> str:
    """A name, or a section's, without the compiler's numbers: ``f.isra.0.cold`` is ``f.isra.cold``."""
    name = _UNIQUE.sub(r"\1", _CLONE.sub(r".\1", name))
    return _NUMBERED.sub(".", name)


def is_static_local(name: str) -> bool:
    """A variable within a function: its number may differ between two versions of a file."""
    return _WITHIN_A_FUNCTION.match(name) is not None


def is_cold_part(name: str) -> bool:
    """A part that the compiler split off a function because it is rarely run."""
    return name.endswith(_COLD)


def parent_of(name: str) -> str:
    """The function that a cold part belongs to."""
    return name.removesuffix(_COLD)
