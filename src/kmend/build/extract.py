"""Takes the changed functions of one object, and all that they need, into an object of their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeGuard

from kmend.build.callbacks import callback_sets
from kmend.build.compare import Difference
from kmend.build.given import is_given_for_a_while
from kmend.build.resolve import Import, Resolver
from kmend.elf import constants as c
from kmend.elf.names import is_cold_part, parent_of
from kmend.elf.objects import OUT_OF_LINE, Content, Piece, Reference, Undefined
from kmend.elf.running import VMLINUX
from kmend.elf.tables import NAMES, ORC, REPLACEMENT, Entry
from kmend.elf.writer import OutObject, OutSection, OutSymbol
from kmend.model.fix import Objection, ObjectionCode

_NOP = b"\x90"
_DISCARDED = re.compile(r"^\.(init|exit)\.|^\.(init|exit)$")
# Tables of labels stand in a section of their own, where objtool looks for them (__annotate_jump_table).
_LABEL_TABLES = ".rodata..c_jump_table"
# What WARN_ONCE and the like remember stands in .data.once, since Linux 6.13 and its stable series in .data..once.
_CARRIED = re.compile(
    rf"^(\.data|\.bss|\.rodata)(\.(?!\.)|$)|^\.data\.\.once$|^__dyndbg$|^{re.escape(_LABEL_TABLES)}$|^{re.escape(OUT_OF_LINE)}$"
)
_STATIC_CALLS = ".static_call_sites"
_BOUND_TO_KEYS = frozenset((_STATIC_CALLS, "__jump_table"))
_TRACEPOINT = re.compile(r"^__tracepoint_\w+$")
_PLAIN_SECTION = re.compile(r"^(\.text|\.data|\.rodata|\.bss)")


class Extraction:
    """An object in the making; ``objections`` says what stands in the way.

    ``linked_names`` maps what is to be registered (pieces of the fixed object: replaced functions, callbacks) to
    the symbol to link it by.
    """

    def __init__(self, difference: Difference, resolver: Resolver, *, place: str, prefix: str) -> None:
        self.out = OutObject()
        self.objections: list[Objection] = []
        self.linked_names: dict[Piece, str] = {}
        self._difference = difference
        self._resolver = resolver
        self._place = place
        self._prefix = prefix
        self._changed = {change.fixed for change in difference.changed}
        self._callbacks = callback_sets(difference.fixed)
        self._symbols: dict[Piece, OutSymbol] = {}
        self._imports: dict[str, OutSymbol] = {}
        self._waiting: list[Callable[[], None]] = []
        self._code = difference.fixed
        for change in difference.changed:
            self._include(change.fixed)
        for piece in self._callbacks:
            self._include(piece)
        for piece in difference.new_functions:
            if piece.bind != c.STB_LOCAL:
                self._include(piece)
        while self._waiting:
            self._waiting.pop(0)()

    def _object(self, code: ObjectionCode, piece: Piece, reason: str, advice: str) -> None:
        found = Objection(code=code, place=f"{self._place}: {piece.name}", reason=reason, advice=advice)
        if found not in self.objections:
            self.objections.append(found)

    def _include(self, piece: Piece) -> OutSymbol:
        """Bring a piece along, once; what it needs follows later."""
        if piece in self._symbols:
            return self._symbols[piece]
        section = self.out.section(
            self._section_name(piece),
            flags=piece.section.flags & ~(c.SHF_MERGE | c.SHF_STRINGS),
        )
        at = section.append(_NOP * piece.padding + piece.code, align=max(1, piece.section.align)) + piece.padding
        kind = c.STT_FUNC if piece.is_function else c.STT_OBJECT
        symbol = OutSymbol(piece.name, section, at, piece.size, c.STB_LOCAL, kind)
        self._symbols[piece] = self.out.symbol(symbol)
        if piece in self._changed or piece in self._callbacks:
            symbol.bind = c.STB_GLOBAL
            symbol.name = f".kmend.{self._prefix}.{piece.name}"
            self.linked_names[piece] = symbol.name
        elif piece.is_function and piece.bind != c.STB_LOCAL:
            symbol.bind = c.STB_GLOBAL
        self._check_piece(piece)
        self._waiting.append(lambda: self._fill(piece, section, at))
        return symbol

    @staticmethod
    def _section_name(piece: Piece) -> str:
        if piece.section.name.startswith(".text."):
            return piece.section.name
        if piece.is_function:
            return f".text.{piece.name}"
        if piece.section.name in {"__dyndbg", _LABEL_TABLES}:
            return piece.section.name
        if piece.section.flags & c.SHF_WRITE:
            return f".data.{piece.name}"
        return f".rodata.{piece.name}" if not piece.is_anonymous else piece.section.name

    def _check_piece(self, piece: Piece) -> None:
        name = piece.section.name
        if piece in self._callbacks:
            return
        if _DISCARDED.match(name):
            self._object(
                ObjectionCode.INIT_CODE, piece, f"{piece.name} is init or exit code ({name}); it is not in memory "
                "when a livepatch is applied, or runs only once.", "Leave out what changes it, if the fix works "
                "without; a host that needs it must reboot.",
            )  # fmt: skip
        elif piece.fixed_branches:
            self._object(
                ObjectionCode.UNSUPPORTED_SECTION, piece, f"{piece.name} stands in {name} and jumps to a "
                "neighbour in a way that cannot come along.", "Move the change into its own function.",
            )  # fmt: skip
        elif not piece.is_function and (not _CARRIED.match(name) or (piece.is_anonymous and piece.is_writable)):
            self._object(
                ObjectionCode.UNSUPPORTED_SECTION, piece, f"The fix brings data in section {name}, which this "
                "version cannot carry.", "Write the fix without new per-CPU data, parameters or registrations.",
            )  # fmt: skip

    def _fill(self, piece: Piece, section: OutSection, at: int) -> None:
        for reference in piece.references:
            self._relocate(section, at, reference, piece)
        for entry in self._difference.entries.get(piece, ()):
            self._add_entry(entry, piece)

    def _add_entry(self, entry: Entry, owner: Piece) -> None:
        """Bring one entry of a special section along, with replacement code or unwind data."""
        if self._works_without(entry, owner):
            return
        source = self._code.elf.section(entry.table)
        section = self._table(entry.table)
        at = section.append(entry.data, align=source.align if source else 1)
        for reference in entry.references:
            target = reference.target
            if isinstance(target, Piece) and target.name == REPLACEMENT:
                replacement = self._table(REPLACEMENT)
                start = replacement.append(entry.code)
                store = self._section_symbol(replacement)
                section.relocations.append((at + reference.offset, reference.type, store, start))
                for inner in entry.code_references:
                    self._relocate(replacement, start, inner, owner)
            else:
                self._relocate(section, at, reference, owner, in_table=True)
        if entry.code and entry.table != ".altinstructions":
            self._table(ORC).append(entry.code)

    def _works_without(self, entry: Entry, owner: Piece) -> bool:
        """Whether an entry speaks of what a module owns, and the code works without it.

        A static call then goes through its trampoline, as before the kernel inlined it
        (include/linux/static_call.h). A tracepoint's branch stays off: the replaced function is not traced there.
        Any other static key may be on, so that leaving it out would change what the code does.
        """
        if entry.table not in _BOUND_TO_KEYS:
            return False
        owned = [one.target for one in entry.references if self._is_of_module(one.target, owner)]
        if entry.table == _STATIC_CALLS:
            return bool(owned)
        return bool(owned) and all(_TRACEPOINT.match(target.name) for target in owned)

    def _is_of_module(self, target: Piece | Undefined | Content, owner: Piece) -> TypeGuard[Piece | Undefined]:
        if isinstance(target, Content):
            return False
        if isinstance(target, Piece):
            if not self._stays_outside(target, owner, direct=True):
                return False
            target = self._difference.partner[target]
        found = self._resolver.resolve(target, place=self._place)
        return not isinstance(found, Objection) and found.group not in {"", VMLINUX}

    def _table(self, name: str) -> OutSection:
        source = self._code.elf.section(name)
        if source is None:
            return self.out.section(name)
        return self.out.section(
            name,
            flags=source.flags & ~(c.SHF_INFO_LINK | c.SHF_LINK_ORDER),
            align=source.align,
            entry_size=source.entry_size,
        )

    def _section_symbol(self, section: OutSection) -> OutSymbol:
        for symbol in self.out.symbols:
            if symbol.section is section and symbol.type == c.STT_SECTION:
                return symbol
        return self.out.symbol(OutSymbol(section.name, section, bind=c.STB_LOCAL, type=c.STT_SECTION))

    def _relocate(
        self, section: OutSection, at: int, reference: Reference, owner: Piece, *, in_table: bool = False
    ) -> None:
        adjust = reference.adjust if reference.type in c.PC_RELATIVE else 0
        if isinstance(reference.target, Content):
            symbol, start = self._literal(reference.target)
            addend = start + reference.delta - adjust
        else:
            found = self._symbol_for(reference, owner, in_table=in_table)
            if found is None:
                return
            symbol, addend = found, reference.delta - adjust
            self._check_relocation(section, symbol, owner)
        section.relocations.append((at + reference.offset, reference.type, symbol, addend))

    def _literal(self, content: Content) -> tuple[OutSymbol, int]:
        """A string or constant, each once per section.

        The linker must not merge them again: references may point beside a literal (``digits[value - 1]``).
        """
        source = self._code.elf.section(content.section)
        section = self.out.section(content.section, flags=c.SHF_ALLOC, align=max(1, source.align) if source else 1)
        align = section.align
        known = section.data.find(content.data)
        while known > 0 and known % align:
            known = section.data.find(content.data, known + 1)
        start = known if known >= 0 else section.append(content.data, align=align)
        return self._section_symbol(section), start

    def _symbol_for(self, reference: Reference, owner: Piece, *, in_table: bool) -> OutSymbol | None:
        target = reference.target
        if isinstance(target, Undefined):
            return self._import(target, owner)
        assert isinstance(target, Piece)  # noqa: S101 - literals are handled by the caller
        # Whether control goes there, or the address itself is taken.
        direct = in_table or reference.is_branch or reference.delta != 0 or is_cold_part(target.name)
        if self._stays_outside(target, owner, direct=direct):
            self._check_labels(target, owner)
            return self._import(self._difference.partner[target], owner)
        if target.is_function and not direct and not self._calls_at_once(reference, owner):
            self._object(
                ObjectionCode.NEW_CALLBACK, target, f"{owner.name} takes the address of {target.name}, a function "
                "that the fix brings. The kernel may keep such a pointer when the livepatch is long gone.",
                "Call the function directly, or change an existing callback instead.",
            )  # fmt: skip
        return self._include(target)

    def _calls_at_once(self, reference: Reference, owner: Piece) -> bool:
        """Whether the kernel knows a function's address no longer than the livepatch is there."""
        return owner in self._callbacks or is_given_for_a_while(owner, reference)

    def _check_labels(self, target: Piece, owner: Piece) -> None:
        """A variable with addresses of labels, which lead into the code that is replaced."""
        if target.holds_labels and target.name not in NAMES:
            self._object(
                ObjectionCode.UNSUPPORTED_SECTION, target, f"{owner.name} uses {target.name}, which can be "
                "written to and holds addresses of places in functions; the kernel's lead into the old code.",
                "Make the table of labels constant.",
            )  # fmt: skip

    def _stays_outside(self, target: Piece, owner: Piece, *, direct: bool) -> bool:
        """Whether a reference must go to the running kernel's own function or variable."""
        if target not in self._difference.partner:
            return False
        if target.is_function:
            # Calls go straight to the new version; pointers keep comparing equal to the original's.
            together = target is owner or target in self._changed or self._goes_with(target, owner)
            return not (together and direct)
        return not (target.is_anonymous or target.is_private)

    def _goes_with(self, cold: Piece, owner: Piece) -> bool:
        """Whether it is the cold part of the function that refers to it, or whose table of labels does."""
        if not is_cold_part(cold.name):
            return False
        parent = parent_of(cold.name)
        return parent == parent_of(owner.name) or any(one.name == parent for one in self._changed)

    def _import(self, target: Piece | Undefined, owner: Piece) -> OutSymbol | None:
        found = self._resolver.resolve(target, place=f"{self._place}: {owner.name}")
        if isinstance(found, Objection):
            if found not in self.objections:
                self.objections.append(found)
            return None
        return self._imported(found)

    def _imported(self, found: Import) -> OutSymbol:
        name = found.symbol
        for symbol in self.out.symbols:  # a new function of this very object
            if symbol.name == name and symbol.section is not None and symbol.bind != c.STB_LOCAL:
                return symbol
        if name not in self._imports:
            self._imports[name] = self.out.symbol(OutSymbol(name))
        return self._imports[name]

    def _check_relocation(self, section: OutSection, symbol: OutSymbol, owner: Piece) -> None:
        """Special sections are acted on when the livepatch is loaded, so they cannot wait for a module."""
        waits = symbol.name.startswith(".klp.rela.") and not symbol.name.startswith(f".klp.rela.{VMLINUX}/")
        if waits and not _PLAIN_SECTION.match(section.name):
            self._object(
                ObjectionCode.MODULE_STATIC_KEY, owner, f"{owner.name} uses "
                f"{symbol.name.rsplit('.', 1)[-1].split(',')[0]} of the module through {section.name} (a static "
                "key, static call or tracepoint that the module owns); a livepatch cannot bind it before "
                "the module is there.", "Leave the statement out of the fix, or use static_key_enabled().",
            )  # fmt: skip
