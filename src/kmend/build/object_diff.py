"""Compares two objects by themselves and takes out what changed: no kit, only a list of the running symbols."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kmend.build.callbacks import SECTION as CALLBACKS
from kmend.build.callbacks import Callback, callback_sets, callbacks_in
from kmend.build.check import objections as objections_to
from kmend.build.compare import Changed, Difference, compare
from kmend.build.extract import Extraction
from kmend.build.resolve import Resolver, block_of, imported, moved
from kmend.build.view import Export
from kmend.elf import constants as c
from kmend.elf.names import is_cold_part
from kmend.elf.objects import ObjectCode
from kmend.elf.readelf import ListedSymbols, exported_names
from kmend.elf.reader import ElfFile, Symbol
from kmend.elf.running import VMLINUX, Block
from kmend.elf.tables import NAMES, ORC, REPLACEMENT, STRUCTURES, entry_size
from kmend.elf.writer import OutSymbol
from kmend.kit.errors import InputError, ProgramError
from kmend.kit.run import run
from kmend.model.fix import Objection, ObjectionCode

LINUX_6_1: Mapping[str, int] = {
    "alt_instr": 12, "bug_entry": 12, "exception_table_entry": 12, "jump_entry": 16, "orc_entry": 6,
    "paravirt_patch_site": 16, "static_call_site": 8, "pi_entry": 48,
}  # fmt: skip
"""Bytes of the structures of special sections in Linux 6.1 for x86-64, as its BTF says."""
SIZE_NAMES = frozenset({*STRUCTURES, "pi_entry"})
"""Structures whose sizes may be given; pi_entry stands behind pointers, so its size is not needed."""
DESCRIPTION = ".kmend.description"
"""Section of NUL-terminated strings ``key=value``: name, object, replaced functions with positions, callbacks."""

_LARGEST = 256 << 20
_LARGEST_ZEROS = 64 << 20
_LARGEST_ALIGN = 2 << 20
_NOP = b"\x90"
_PLACE = re.compile(r"^\+0x([0-9a-f]+) ")
_SOURCE_LINE = re.compile(r"^(\S.*:[1-9]\d*)(?: \(discriminator \d+\))?$")
_LINES_WAIT = 1.0
"""Seconds; after one line that takes longer (damaged debug information) no more are asked for."""


class KlpSymbol(NamedTuple):
    """A symbol of the running kernel that livepatch resolves: ``position`` 0 where the name is unique."""

    name: str
    object: str
    position: int


class Reason(NamedTuple):
    """Why a function counts as changed; ``line`` is the fixed source's, empty when not known."""

    difference: str
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an object differ found."""

    name: str
    object: str
    changed: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    callbacks: tuple[Callback, ...] = ()
    functions: tuple[KlpSymbol, ...] = ()
    """The replaced functions as the running kernel names them."""
    klp_symbols: tuple[KlpSymbol, ...] = ()
    special: Mapping[str, int] = field(default_factory=dict)
    """Entries kept, by special section."""
    objections: tuple[Objection, ...] = ()
    reasons: Mapping[str, Reason] = field(default_factory=dict)


class Result(NamedTuple):
    """A report, and the object; empty when there is nothing to build or something stands in the way."""

    report: Report
    content: bytes


class _View:
    """What a list of symbols and exports say of a kernel."""

    def __init__(self, running: ListedSymbols, exports: Mapping[str, Export]) -> None:
        self.exports = exports
        own = [name for name, export in exports.items() if export.owner == VMLINUX]
        stubs = [Symbol(at, name, 0, 0, c.STB_GLOBAL, c.STT_NOTYPE, 1) for at, name in enumerate(own)]
        self.vmlinux = ListedSymbols(VMLINUX, stubs)
        self._running = running

    def running(self, name: str) -> ListedSymbols | None:
        """The kernel's exports, or the one object whose symbols are known."""
        if name == self._running.name:
            return self._running
        return self.vmlinux if name == VMLINUX else None


class _Job(NamedTuple):
    difference: Difference
    running: ListedSymbols
    exports: Mapping[str, Export]
    name: str
    place: str


def object_diff(
    original: Path,
    fixed: Path,
    *,
    running: ListedSymbols,
    exports: Mapping[str, Export] | None,
    sizes: Mapping[str, int],
    name: str,
) -> Result:
    """Find what differs between two objects of one source file and take it into an object of its own.

    Args:
        original: Compiled without the fix.
        fixed: Compiled with it, by the same command.
        running: Symbols of the kernel or module that the original is linked into (or the original's own).
        exports: From Module.symvers; None takes what the running symbols themselves tell.
        sizes: Bytes of the structures of SIZE_NAMES that the kernel has.
        name: The livepatch's name, part of the symbols of replaced functions.

    Raises:
        InputError: A file is damaged, or no object of an x86-64 kernel.
    """
    with _readable(original, fixed):
        before, after = _object(original), _object(fixed)
        difference = compare(before, after, sizes)
        if exports is None:
            exports = dict.fromkeys(_exported(running, difference), Export(0, VMLINUX, ""))
        job = _Job(difference, running, exports, name, original.name)
        if original.read_bytes() == fixed.read_bytes():  # no matter what the differ makes of it
            return Result(Report(name=name, object=running.name), b"")
        return _judge(job, sizes)


@contextmanager
def _readable(original: Path, fixed: Path) -> Iterator[None]:
    """What no check of the readers has foreseen ends as an error that names the files."""
    try:
        yield
    except (
        ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RecursionError, TypeError,
        ValueError, struct.error,
    ) as error:  # fmt: skip
        raise InputError(
            f"{original} and {fixed} cannot be compared: {type(error).__name__} ({error}).",
            hint="Look at them with `readelf -aW`. If they are undamaged, this is a fault of kmend.",
        ) from error


def _object(path: Path) -> ObjectCode:
    """An object, after a look at how much it claims to hold."""
    if path.exists() and not path.is_file():  # a pipe would keep everybody waiting
        raise InputError(f"{path} is no ordinary file.")
    elf = ElfFile(path)
    zeros = sum(one.size for one in elf.sections if one.type == c.SHT_NOBITS)
    content = sum(one.size for one in elf.sections if one.type not in {0, c.SHT_NOBITS})
    size = path.stat().st_size
    if size > _LARGEST or zeros > _LARGEST_ZEROS:
        raise InputError(f"{path} is larger than any object of a kernel ({size} bytes, {zeros} bytes of zeros).")
    if content > size:
        raise InputError(f"{path} is damaged: its sections overlap ({content} bytes in a file of {size}).")
    odd = next((one for one in elf.sections if one.align > _LARGEST_ALIGN or one.align & (one.align - 1)), None)
    if odd is not None:
        raise InputError(f"{path} is damaged: section {odd.name} asks for an alignment of {odd.align} bytes.")
    empty = next((one for one in elf.sections if one.type == c.SHT_NOBITS and one.size and one.is_text), None)
    if empty is not None:
        raise InputError(f"{path} is damaged: section {empty.name} is code, but takes no space in the file.")
    code = ObjectCode(path)
    gaps = sum(piece.section.align for piece in code.pieces())
    if gaps > _LARGEST_ZEROS:
        raise InputError(f"{path} is damaged: its functions and data ask for {gaps} bytes of alignment.")
    return code


def _exported(running: ListedSymbols, difference: Difference) -> frozenset[str]:
    """Names that count as exported when no Module.symvers was given."""
    names = exported_names(running.symbols, running.name)
    if list(running.symbols) == difference.original.elf.symbols:  # by itself: nothing is known of a kernel
        names |= {one.name for one in difference.fixed.elf.symbols if not one.is_defined and one.name}
    return names


def _judge(job: _Job, sizes: Mapping[str, int]) -> Result:
    """The report and, when nothing stands in the way, the object."""
    difference = job.difference
    objections = [*objections_to(difference, place=job.place), *_regrouped(job)]
    callbacks = callback_sets(difference.fixed)
    if not (difference.changed or difference.new_functions or callbacks or objections):
        return Result(Report(name=job.name, object=job.running.name), b"")
    objections += _unsupported(job)
    block = None if objections else block_of(difference.original, job.running, place=job.place)
    if isinstance(block, Objection):
        objections.append(block)
    if objections or isinstance(block, Objection):
        return Result(_report(job, objections=objections), b"")
    return _take_out(job, block, sizes)


def _unsupported(job: _Job) -> Iterator[Objection]:
    """Objections to objects that the extraction does not handle."""
    code = job.difference.original
    if any(_has_unmarked_padding(side) for side in (code, job.difference.fixed)):
        yield _file(
            job, "has functions with room in front that no __pfx_ symbol marks, and that would be lost",
            "Let objtool treat both objects first, as the kernel's build does (`objtool --prefix=16`).",
        )  # fmt: skip
    files = [one.name for one in code.elf.symbols if one.type == c.STT_FILE and one.name]
    if len(set(files)) > 1:
        yield _file(
            job, f"was linked from several sources ({', '.join(files[:5])})",
            "Compare the objects of each source file by themselves.",
        )  # fmt: skip
    elif not files or files[0].endswith((".S", ".s")):
        yield _file(job, "does not name a C file that it stems from (assembler?)", "Fix the C code that calls it.")


def _has_unmarked_padding(code: ObjectCode) -> bool:
    """Whether functions were compiled with -fpatchable-function-entry and no symbols say how much is in front."""
    mixed = {one.section.number for one in code.pieces() if one.is_function}
    return any(
        one.is_anonymous and one.size and one.section.number in mixed and not one.code.strip(_NOP)
        for one in code.pieces()
    )


def _regrouped(job: _Job) -> Iterator[Objection]:
    """An Objection when sections are grouped in another way than before (SHT_GROUP, System V ABI)."""
    before, after = (_groups(side.elf) for side in (job.difference.original, job.difference.fixed))
    if before != after:
        names = ", ".join(sorted({name for name, _ in before ^ after})[:5])
        yield Objection(
            code=ObjectionCode.UNSUPPORTED_SECTION,
            place=f"{job.place}: {names}",
            reason=f"The section groups of {names} change; the linker keeps one of each.",
            advice="Leave out what makes the compiler group sections (inline functions of C++ kind, COMDAT).",
        )


def _groups(elf: ElfFile) -> frozenset[tuple[str, frozenset[str]]]:
    """Each group's signature with the names of its sections."""
    found = set()
    for group in elf.sections:
        if group.type == c.SHT_GROUP:
            content = elf.content(group)[: group.size // 4 * 4]
            members = [number for (number,) in struct.iter_unpack("<I", content)][1:]
            if group.info >= len(elf.symbols) or max(members, default=0) >= len(elf.sections):
                raise InputError(f"{elf.path} is damaged: section group {group.number} names what is not there.")
            names = frozenset(elf.sections[one].name for one in members)
            found.add((elf.symbols[group.info].name, names))
    return frozenset(found)


def _file(job: _Job, what: str, advice: str) -> Objection:
    reason = f"{job.place} {what}."
    return Objection(code=ObjectionCode.UNSUPPORTED_FILE, place=job.place, reason=reason, advice=advice)


def _take_out(job: _Job, block: Block | None, sizes: Mapping[str, int]) -> Result:
    found = [_replaced(job, change, block) for change in job.difference.changed]
    functions = [one for one in found if isinstance(one, KlpSymbol)]
    new_names = frozenset(
        name for one in job.difference.new_functions if not one.is_local for name in (one.name, *one.aliases)
    )
    resolver = Resolver(_View(job.running, job.exports), job.running, block, new_names)
    extraction = Extraction(job.difference, resolver, place=job.place, prefix=job.name)
    objections = [one for one in found if isinstance(one, Objection)]
    objections += [*moved(job.difference, job.running, place=job.place), *extraction.objections]
    if objections:
        return Result(_report(job, objections=objections), b"")
    report = _report(
        job,
        functions=functions,
        klp_symbols=_klp_symbols(extraction),
        special={
            one.name: len(one.data) // entry_size(one.name, sizes)
            for one in extraction.out.sections
            if one.name in NAMES - {ORC, REPLACEMENT}
        },
    )
    return Result(report, _finished(extraction, report))


def _replaced(job: _Job, change: Changed, block: Block | None) -> KlpSymbol | Objection:
    """Where the running kernel has a function that is replaced."""
    symbol = job.running.find_piece(change.original, block)
    position = job.running.position(symbol) if symbol is not None else None
    overridden = symbol is not None and change.original.bind == c.STB_WEAK != symbol.bind
    if symbol is None or position is None or overridden:
        why = "has another function in its place" if overridden else "does not show it, or not where it stands"
        return Objection(
            code=ObjectionCode.MISMATCH if overridden else ObjectionCode.UNRESOLVED_SYMBOL,
            place=f"{job.place}: {change.original.name}",
            reason=f"{change.original.name} changes, but the symbol table of {job.running.name} {why}.",
            advice="Change its callers instead.",
        )
    return KlpSymbol(symbol.name, job.running.name, position)


def _klp_symbols(extraction: Extraction) -> list[KlpSymbol]:
    found = [one for symbol in extraction.out.symbols if (one := imported(symbol.name))]
    return sorted(KlpSymbol(one.name, one.owner, one.position) for one in found)


def _report(
    job: _Job,
    *,
    objections: list[Objection] | None = None,
    functions: list[KlpSymbol] | None = None,
    klp_symbols: list[KlpSymbol] | None = None,
    special: Mapping[str, int] | None = None,
) -> Report:
    difference = job.difference
    return Report(
        name=job.name,
        object=job.running.name,
        changed=tuple(change.original.name for change in difference.changed),
        new=tuple(one.name for one in difference.new_functions if not is_cold_part(one.name)),
        callbacks=callbacks_in(difference.fixed),
        functions=tuple(functions or ()),
        klp_symbols=tuple(klp_symbols or ()),
        special=special or {},
        objections=tuple(objections or ()),
        reasons=_reasons(difference),
    )


def _reasons(difference: Difference) -> dict[str, Reason]:
    """Why each function changed, with lines as long as the debug information is read in time."""
    found = {}
    in_time = True
    for change in difference.changed:
        begin = time.monotonic()
        line = _source_line(difference, change) if in_time else ""
        in_time = in_time and time.monotonic() - begin < _LINES_WAIT
        found[change.original.name] = Reason(change.reason, line)
    return found


def _source_line(difference: Difference, change: Changed) -> str:
    """File and line of the first differing instruction, from the fixed object's DWARF; empty when not known."""
    elf, place = difference.fixed.elf, _PLACE.match(change.reason)
    if place is None or elf.section(".debug_line") is None:
        return ""
    at = change.fixed.offset + int(place[1], 16)
    command: list[str | Path] = ["addr2line", "-e", elf.path, "-j", change.fixed.section.name, f"{at:#x}"]
    try:
        lines = run(command, check=False, timeout=_LINES_WAIT).text.splitlines()
    except ProgramError:
        return ""
    match = _SOURCE_LINE.match(lines[0]) if lines else None
    return match[1] if match else ""


def _finished(extraction: Extraction, report: Report) -> bytes:
    """The object with plain local names for what is replaced, and the description."""
    out = extraction.out
    handles = {symbol: piece.name for piece, symbol in extraction.linked_names.items()}
    for one in list(out.symbols):
        if one.name in handles:
            name = handles[one.name]
            out.symbol(OutSymbol(name, one.section, one.value, one.size, c.STB_LOCAL, one.type))
        elif one.section is not None:
            one.bind = c.STB_LOCAL  # exported by the running kernel, not by a livepatch
    text = out.section(DESCRIPTION, flags=0)
    for line in (
        f"name={report.name}",
        f"object={report.object}",
        *(f"function={one.name},{one.position}" for one in report.functions),
        *(f"callbacks={one.name}" for one in extraction.linked_names if one.section.name == CALLBACKS),
    ):
        text.append(line.encode() + b"\0")
    out.section(".note.GNU-stack", flags=0)
    return out.to_bytes()
