"""Callbacks that a fix brings: each ``struct klp_callbacks`` in a section of kmend's own.

Documentation/livepatch/callbacks.rst has the kernel's rules for them, include/linux/livepatch.h the structure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kmend.elf import constants as c
from kmend.elf.objects import Content, ObjectCode, Piece, Reference
from kmend.model.fix import Fix, Objection, ObjectionCode

SECTION = ".kmend.callbacks"
"""Where a fix puts them: ``static const struct klp_callbacks x __used __section(".kmend.callbacks") = { … };``."""
_KINDS = {0: "pre_patch", 8: "post_patch", 16: "pre_unpatch", 24: "post_unpatch"}
_SIZE = 40  # four pointers and a flag of the kernel's own


class Callback(NamedTuple):
    """A function that is called around patching; ``kind`` is the member of ``struct klp_callbacks``."""

    kind: str
    function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCallbacks:
    """One ``struct klp_callbacks`` to register: for which object, and the symbol of it."""

    object: str
    symbol: str


def callback_sets(code: ObjectCode) -> tuple[Piece, ...]:
    """Every ``struct klp_callbacks`` that an object declares, in file order."""
    return tuple(piece for piece in code.pieces() if piece.section.name == SECTION and piece.size)


def callbacks_in(code: ObjectCode) -> tuple[Callback, ...]:
    """The callbacks that an object declares."""
    return tuple(
        Callback(_KINDS[one.offset], one.target.name)
        for piece in callback_sets(code)
        for one in piece.references
        if one.offset in _KINDS and not isinstance(one.target, Content)
    )


def objections_to_callbacks(code: ObjectCode, *, place: str) -> Iterator[Objection]:
    """An Objection for all in the section that is not a ``struct klp_callbacks`` with functions in it."""
    sizes = {(one.section, one.name): one.size for one in code.elf.symbols}
    for piece in callback_sets(code):
        whole = sizes.get((piece.section.number, piece.name)) == _SIZE and not piece.is_anonymous
        if not whole or not all(map(_is_callback, piece.references)):
            yield Objection(
                code=ObjectionCode.UNSUPPORTED_SECTION,
                place=f"{place}: {piece.name}",
                reason=f"{piece.name} stands in {SECTION}, but is not one struct klp_callbacks whose members are "
                "functions.",
                advice="Declare each as `static const struct klp_callbacks NAME __used "
                f'__section("{SECTION}") = {{ .pre_patch = … }};`.',
            )


def _is_callback(reference: Reference) -> bool:
    target = reference.target
    leads_to_code = not isinstance(target, Content) and not (isinstance(target, Piece) and not target.is_function)
    return (
        reference.offset in _KINDS and reference.type == c.R_X86_64_64 and leads_to_code and reference.delta == 0
    )


def in_order(parts: Iterable[tuple[str, Mapping[Piece, str]]], fixes: Sequence[Fix]) -> tuple[NewCallbacks, ...]:
    """What is to be registered, in the order of the fixes that bring it; of one fix by name.

    Args:
        parts: For each source file the running object, and the symbols to link pieces by.
        fixes: In their order.
    """
    found = [
        (_place(piece.name, fixes), piece.name, NewCallbacks(object=owner, symbol=symbol))
        for owner, linked in parts
        for piece, symbol in linked.items()
        if piece.section.name == SECTION
    ]
    return tuple(new for _, _, new in sorted(found, key=lambda one: one[:2]))


def _place(name: str, fixes: Sequence[Fix]) -> int:
    """Which fix speaks of a declaration in the lines that it adds."""
    line = re.compile(rf"^\+.*\b{re.escape(name)}\b", re.MULTILINE)
    return next((number for number, fix in enumerate(fixes) if line.search(fix.diff)), len(fixes))
