"""Whether the kernel's function tracer can redirect a function. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kmend.elf.objects import ObjectCode, Piece, Undefined
from kmend.elf.tables import Entry

_CALLS = "__mcount_loc"
_FIRST_CALL = (1, 5)  # where its distance stands: at the very start, or after endbr64


def is_traceable(code: ObjectCode, piece: Piece, entries: Mapping[Piece, Sequence[Entry]]) -> bool:
    """Whether ftrace can redirect a function (the running one), or follow into it (the new one).

    The start of each is in __mcount_loc (Documentation/trace/ftrace.rst). Not every compiler writes that table;
    where the object has none at all, because the kernel's build adds it later, the call itself counts.

    Args:
        code: The object.
        piece: A function of it.
        entries: The object's entries of special sections by function.
    """
    if any(entry.table == _CALLS for entry in entries.get(piece, ())):
        return True
    return code.elf.section(_CALLS) is None and any(
        isinstance(one.target, Undefined) and one.target.name == "__fentry__" and one.offset in _FIRST_CALL
        for one in piece.references[:1]
    )
