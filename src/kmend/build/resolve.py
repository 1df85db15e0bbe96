"""Where a livepatch finds what its functions refer to outside of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from kmend.build.compare import Difference
from kmend.build.view import Export
from kmend.elf.objects import ObjectCode, Piece, Undefined
from kmend.elf.reader import Symbol
from kmend.elf.running import VMLINUX, Block, RunningSymbols
from kmend.model.fix import Objection, ObjectionCode


class Import(NamedTuple):
    """A name that the module loader or livepatch resolves when the module is loaded.

    ``owner`` is empty for an ordinary exported symbol; else the symbol is a klp symbol of that object, at that
    position, and its relocations belong to the group ``group`` (applied when that object is there).
    """

    name: str
    owner: str = ""
    group: str = ""
    position: int = 0

    @property
    def symbol(self) -> str:
        """The name to link with: plain, or the klp symbol with its group in front."""
        if not self.owner:
            return self.name
        return f".klp.rela.{self.group}/.klp.sym.{self.owner}.{self.name},{self.position}"


_KLP = re.compile(r"^\.klp\.rela\.([^/]+)/\.klp\.sym\.([^.]+)\.([^,]+),(\d+)$")


def imported(symbol: str) -> Import | None:
    """The klp symbol that a name to link with stands for; None for any other name."""
    match = _KLP.match(symbol)
    return Import(match[3], match[2], match[1], int(match[4])) if match else None


class View(Protocol):
    """What is looked up in the running kernel; KernelView has it."""

    @property
    def exports(self) -> Mapping[str, Export]:
        """Exported symbols by name."""

    @property
    def vmlinux(self) -> RunningSymbols:
        """The linked kernel."""

    def running(self, name: str) -> RunningSymbols | None:
        """The kernel or a module as it runs; None when this kernel has no such module."""


class Resolver:
    """Resolves the names that one object's code refers to."""

    def __init__(
        self, view: View, running: RunningSymbols, block: Block | None, new_names: frozenset[str]
    ) -> None:
        self._view = view
        self._running = running
        self._block = block
        self._new_names = new_names

    def resolve(self, target: Piece | Undefined, *, place: str) -> Import | Objection:
        """Where the running kernel has a function or variable.

        Args:
            target: A piece of the *original* object, or a name that the object does not define.
            place: For the objection.
        """
        if isinstance(target, Piece):
            return self._own(target, place)
        return self._foreign(target.name, place)

    def _own(self, piece: Piece, place: str) -> Import | Objection:
        symbol = self._running.find_piece(piece, self._block)
        if symbol is not None:
            return self._in(self._running, symbol, place)
        return _unresolved(
            piece.name, place, f"{self._running.name} has no symbol {piece.name}, though its source defines it."
        )

    def _foreign(self, name: str, place: str) -> Import | Objection:
        if name in self._new_names:
            return Import(name)
        # As the linker and then the module loader would: the module's own names come first.
        export = self._view.exports.get(name)
        exporter = self._view.running(export.owner) if export is not None else None
        for owner in (self._running, self._view.vmlinux, exporter):
            symbol = owner.find(name, None) if owner is not None else None
            if owner is not None and symbol is not None and (owner is not exporter or self._may_need(owner)):
                return self._in(owner, symbol, place)
        if export is not None:
            return _unresolved(name, place, f"that is in module {export.owner}, and cannot be waited for here.")
        return _unresolved(name, place, f"this kernel has no symbol {name}.")

    def _may_need(self, owner: RunningSymbols) -> bool:
        """Code of the kernel itself cannot wait for a module."""
        return owner.name == VMLINUX or self._running.name != VMLINUX

    def _in(self, owner: RunningSymbols, symbol: Symbol, place: str) -> Import | Objection:
        name = symbol.name
        export = self._view.exports.get(name)
        if not symbol.is_local and owner.name == VMLINUX and export is not None and export.owner == VMLINUX:
            return Import(name)
        position = owner.position(symbol)
        if position is None:
            return _unresolved(name, place, f"the symbol table of the running {owner.name} does not show {name}.")
        group = VMLINUX if owner.name == VMLINUX else self._running.name
        return Import(name, owner.name, group, position)


def _unresolved(name: str, place: str, reason: str) -> Objection:
    return Objection(
        code=ObjectionCode.UNRESOLVED_SYMBOL,
        place=f"{place}: {name}",
        reason=f"A replaced function needs {name}, but {reason}",
        advice="Write the fix so that it needs only what this kernel has, or bring the missing function along.",
    )


def block_of(original: ObjectCode, running: RunningSymbols, *, place: str) -> Block | Objection | None:
    """The file that an object stems from, among those that the running object was linked from.

    None when the object has no symbols of its own that would need it.
    """
    blocks = running.blocks_like(original)
    if not blocks and (original.functions or original.data):
        return not_built(place, f"{running.name} holds no code of this file")
    if len(blocks) > 1 and original.file_locals():
        return Objection(
            code=ObjectionCode.AMBIGUOUS_SYMBOL,
            place=place,
            reason=f"{running.name} holds {len(blocks)} files named {original.file_name()} that look alike.",
            advice="kmend cannot tell which of them is meant; fix a caller in another file instead.",
        )
    return blocks[0] if len(blocks) == 1 else None


def not_built(place: str, why: str) -> Objection:
    """The Objection for an object that this kernel does not have."""
    return Objection(
        code=ObjectionCode.NOT_BUILT,
        place=place,
        reason=f"{place} is not part of this kernel: {why}.",
        advice="This kernel is not affected through this file. Leave it out of the fix.",
    )


def moved(difference: Difference, running: RunningSymbols, *, place: str) -> list[Objection]:
    """An Objection for each new global name that the running kernel has already, in another file."""
    new = (*difference.new_functions, *difference.new_data)
    return [
        Objection(
            code=ObjectionCode.AMBIGUOUS_SYMBOL,
            place=f"{place}: {piece.name}",
            reason=f"The fix brings {piece.name}, but {running.name} has one already, in another file: "
            "code that is not replaced would go on with the old one.",
            advice="Change the existing one in its place instead of moving it.",
        )
        for piece in new
        if not piece.is_local and running.find(piece.name, None) is not None
    ]
