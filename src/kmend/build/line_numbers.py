"""Line numbers in compiled code: what ``__LINE__`` left in it, which says nothing about what the code does. Pure.

A number counts as one only where nothing else can be meant: a field that the kernel's structures have for it, or
the argument of a function that is known to take a line, right after the text that says of which file or function.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from kmend.elf.code import ARGUMENTS, Use, uses
from kmend.elf.objects import Content, Piece, Reference, Undefined

# Functions that take a line for a message, and which argument that is (from 0). The one before it is the text
# with the file's or function's name. Sources: the prototypes in Linux 4.19 to 6.12.
_TAKES_LINE: Mapping[str, int] = {
    name: argument
    for argument, names in (
        (1, "__might_sleep ___might_sleep __might_resched __cant_sleep __cant_migrate __might_fault"),
        (1, "lockdep_rcu_suspicious warn_slowpath_fmt warn_slowpath_fmt_taint warn_slowpath_null"),
        (1, "acpi_error acpi_exception acpi_warning acpi_bios_error acpi_bios_exception acpi_bios_warning"),
        (1, "acpi_ut_create_internal_object_dbg acpi_ut_allocate_object_desc_dbg"),
        (1, "__ext4_check_dir_entry __ext4_journal_get_write_access __ext4_journal_get_create_access"),
        (1, "__ext4_forget __ext4_handle_dirty_metadata __ext4_grp_locked_error __ext4_journal_stop"),
        (2, "__ext4_error __ext4_warning __ext4_warning_inode __ext4_error_inode __ext4_error_file"),
        (2, "__ext4_std_error __btrfs_abort_transaction __btrfs_handle_fs_error __btrfs_panic btrfs_assertfail"),
        (2, "__validate_creds __validate_process_creds xdp_warn"),
        (3, "__ext4_mark_inode_dirty assfail asswarn xfs_do_force_shutdown"),
        (3, "gfs2_consist_i gfs2_consist_inode_i gfs2_consist_rgrpd_i gfs2_io_error_i"),
        (4, "__ext4_iget xfs_error_report gfs2_assert_withdraw_i gfs2_assert_warn_i gfs2_io_error_bh_i"),
    )
    for name in names.split()
}
# What the kernel's assertions print, and which argument is the line: ASSERT_RTNL, J_ASSERT, ASSERT of ext4.
_PRINTS = frozenset({"__warn_printk", "_printk", "printk"})
_PRINTS_LINE: Mapping[bytes, int] = {
    b"RTNL: assertion failed at %s (%d)\n\0": 2,
    b"Assertion failure in %s() at %s:%d: '%s'\n\0": 3,
}
_LEVEL = re.compile(rb"^\x01[0-7c]")
_WIDTH = 4
# struct bug_entry ends with the line and the flags, 16 bits each; without DEBUG_BUGVERBOSE it has no line.
_SMALLEST_VERBOSE_BUG = 12
_BUG_LINE = slice(-4, -2)
# struct _ddebug (include/linux/dynamic_debug.h): four pointers, then the line in the low 18 bits of a word.
_DDEBUG_LINE = 32
_DDEBUG_BITS = (1 << 18) - 1


class Line(NamedTuple):
    """A line number that code hands to a function: where it stands in the piece, the number, the text with it."""

    offset: int
    number: int
    text: bytes


def moved_only(partner: Mapping[Piece, Piece]) -> frozenset[Piece]:
    """The functions (fixed side) whose bytes differ from the original's in line numbers and in nothing else.

    The numbers have to fit one edit of the source: of each file, all lines that stand in code keep their order,
    and what was on one line still is. Where they do not, none of that file's count as moved.
    """
    same_size = [(one, it) for one, it in partner.items() if one.is_function and len(one.code) == len(it.code)]
    found = {
        fixed: pairs
        for fixed, original in same_size
        if original.code != fixed.code and (pairs := _pairs(original, fixed))
    }
    if not found:
        return frozenset()
    known: dict[bytes, set[tuple[int, int]]] = {}
    for fixed, original in same_size:
        for old, new in found.get(fixed) or _pairs(original, fixed):
            known.setdefault(old.text, set()).add((old.number, new.number))
    fitting = {text for text, numbers in known.items() if _keep_their_order(numbers)}
    return frozenset(piece for piece, pairs in found.items() if all(old.text in fitting for old, _ in pairs))


def _pairs(original: Piece, fixed: Piece) -> list[tuple[Line, Line]]:
    """The lines in two functions that are the same but for those; nothing when they are not."""
    old, new = lines_in(original), lines_in(fixed)
    same = [(one.offset, one.text) for one in old] == [(one.offset, one.text) for one in new]
    return list(zip(old, new, strict=True)) if same and _without(original, old) == _without(fixed, new) else []


def _keep_their_order(numbers: Iterable[tuple[int, int]]) -> bool:
    return all(one[0] < two[0] and one[1] < two[1] for one, two in pairwise(sorted(numbers)))


def code_without_lines(piece: Piece) -> bytes:
    """A function's bytes with zeros for the line numbers in it."""
    return _without(piece, lines_in(piece))


def _without(piece: Piece, lines: Iterable[Line]) -> bytes:
    code = bytearray(piece.code)
    for one in lines:
        code[one.offset : one.offset + _WIDTH] = bytes(_WIDTH)
    return bytes(code)


def entry_without_line(table: str, data: bytes) -> bytes:
    """An entry of a special section with zeros for the line that it holds."""
    if table != "__bug_table" or len(data) < _SMALLEST_VERBOSE_BUG:
        return data
    return data[: _BUG_LINE.start] + bytes(2) + data[_BUG_LINE.stop :]


def data_without_line(piece: Piece) -> bytes:
    """A variable's bytes; of a dynamic debug statement with zeros for its line."""
    if piece.section.name != "__dyndbg" or piece.size < _DDEBUG_LINE + _WIDTH:
        return piece.code
    word = int.from_bytes(piece.code[_DDEBUG_LINE : _DDEBUG_LINE + _WIDTH], "little") & ~_DDEBUG_BITS
    return piece.code[:_DDEBUG_LINE] + word.to_bytes(_WIDTH, "little") + piece.code[_DDEBUG_LINE + _WIDTH :]


def lines_in(piece: Piece) -> list[Line]:
    """The line numbers in a function.

    One is loaded into its register by an instruction of its own, and reaches the call without a branch, a label
    or another use in between; the text's address is loaded likewise.
    """
    return _Walk(piece).lines() if any(map(_takes_line, piece.references)) else []


def _takes_line(reference: Reference) -> str:
    """The function that a call leads to, if it may take a line."""
    target = reference.target
    if not isinstance(target, Undefined) or not reference.is_branch or reference.delta:
        return ""
    return target.name if target.name in _PRINTS or target.name in _TAKES_LINE else ""


class _Walk:
    """Follows what each argument's register holds through straight code."""

    def __init__(self, piece: Piece) -> None:
        self._code = piece.code
        self._uses = uses(piece.code)
        self._references = {one.offset: one for one in piece.references}
        self._labels = {one.instruction.target() for one in self._uses}
        self._numbers: dict[str, int] = {}
        self._texts: dict[str, bytes] = {}

    def lines(self) -> list[Line]:
        """Every line that reaches a call."""
        found = []
        for use in self._uses:
            if use.instruction.offset in self._labels:
                self._forget()
            if use.instruction.is_branch:
                found += self._at_call(use)
                self._forget()
            else:
                self._step(use)
        return found

    def _forget(self) -> None:
        self._numbers.clear()
        self._texts.clear()

    def _reference(self, use: Use) -> Reference | None:
        one = use.instruction
        return next((self._references[at] for at in range(one.offset, one.end) if at in self._references), None)

    def _at_call(self, use: Use) -> list[Line]:
        reference = self._reference(use)
        name = _takes_line(reference) if reference is not None else ""
        message = _LEVEL.sub(b"", self._texts.get(ARGUMENTS[0], b""))
        argument = _PRINTS_LINE.get(message) if name in _PRINTS else _TAKES_LINE.get(name)
        if argument is None or not use.instruction.mnemonic.startswith(("call", "jmp")):
            return []
        at, text = self._numbers.get(ARGUMENTS[argument]), self._texts.get(ARGUMENTS[argument - 1])
        if at is None or text is None:
            return []
        return [Line(at, int.from_bytes(self._code[at : at + _WIDTH], "little"), text)]

    def _step(self, use: Use) -> None:
        copied = self._texts.get(next(iter(use.reads)), b"") if use.is_copy else b""
        for register in use.reads:
            self._numbers.pop(register, None)
        for register in use.writes:
            self._numbers.pop(register, None)
            self._texts.pop(register, None)
        if len(use.writes) != 1:
            return
        (register,) = use.writes
        reference = self._reference(use)
        if reference is not None:
            text = _text(reference) if use.instruction.mnemonic in {"mov", "movabs", "lea"} else None
            if text is not None:
                self._texts[register] = text
        elif copied:
            self._texts[register] = copied
        elif use.is_number:
            self._numbers[register] = use.instruction.end - _WIDTH


def _text(reference: Reference) -> bytes | None:
    """The constant text that begins where a reference points; None for anything else."""
    target = reference.target
    if isinstance(target, Undefined) or reference.delta or reference.is_branch:
        return None
    if isinstance(target, Content):
        return target.data
    constant = not (target.is_function or target.is_writable or target.references)
    return target.code if constant and target.code.endswith(b"\0") else None
