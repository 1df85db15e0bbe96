"""Reads a finished livepatch back as the kernel's module loader would. What does not hold is kmend's own fault."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from kmend.build.registered import registered
from kmend.build.view import KernelView
from kmend.elf import constants as c
from kmend.elf.reader import ElfFile, Section, Symbol
from kmend.elf.running import VMLINUX
from kmend.kit.errors import BugError
from kmend.model.livepatch import ReplacedFunction

_KLP_SYMBOL = re.compile(r"^\.klp\.sym\.([^.]{1,55})\.([^,]{1,511}),(\d+)$")
_KLP_SECTION = re.compile(r"^\.klp\.rela\.([^.]{1,55})\.(.+)$")
# Sections that the kernel acts on when a module is loaded may not wait for another module.
_PLAIN = re.compile(r"^(\.text|\.data|\.rodata|\.bss)")
# Name of the array in glue.c.j2.
OBJECTS = "objects"
_VERSION = struct.Struct("<Q56s")


def simulate(path: Path, functions: tuple[ReplacedFunction, ...], *, view: KernelView) -> None:
    """Check all that the kernel will check, and what it would not notice.

    1. Every undefined symbol is exported by vmlinux, with the CRC that ``__versions`` names.
    2. Every klp symbol leads to exactly one symbol of the running object.
    3. klp relocations of a module refer to no symbol of vmlinux, and to special sections only when they
       are vmlinux's own.
    4. Every relocation lies within its section, over zeros, and is of a type that the loader applies.
    5. Every replaced function is found at its position.
    6. What the module registers is exactly these functions, each with the new version of the same name.
    7. The module says that it is a livepatch, and its vermagic and ``struct module`` are the kernel's.

    Raises:
        BugError: Something does not hold; all of it is listed.
    """
    elf = ElfFile(path)
    faults = [
        *_undefined(elf, view),
        *_klp_symbols(elf, view),
        *_relocations(elf),
        *_functions(functions, view),
        *_registered(elf, functions, view),
        *_identity(elf, view),
    ]
    if faults:
        raise BugError(
            "The livepatch would not load: " + "; ".join(faults),
            hint="This is a fault of kmend. Keep the fix and the kernel's release, and report it.",
        )


def _undefined(elf: ElfFile, view: KernelView) -> Iterator[str]:
    versions = _versions(elf)
    for symbol in elf.symbols[1:]:
        if symbol.section != c.SHN_UNDEF:
            continue
        export = view.exports.get(symbol.name)
        if export is None or export.owner != VMLINUX:
            yield f"{symbol.name} is not exported by vmlinux"
        elif versions.get(symbol.name) != export.crc:
            yield f"{symbol.name} has CRC {versions.get(symbol.name)}, the kernel's is {export.crc}"
        elif export.namespace and f"import_ns={export.namespace}" not in _modinfo(elf):
            yield f"{symbol.name} is in namespace {export.namespace}, which is not imported"


def _versions(elf: ElfFile) -> Mapping[str, int]:
    section = elf.section("__versions")
    entries = _VERSION.iter_unpack(elf.content(section)) if section else ()
    return {name.rstrip(b"\0").decode(): crc for crc, name in entries}


def _klp_symbols(elf: ElfFile, view: KernelView) -> Iterator[str]:
    for symbol in elf.symbols:
        if symbol.section == c.SHN_LIVEPATCH:
            match = _KLP_SYMBOL.match(symbol.name)
            if match is None:
                yield f"{symbol.name} is not the name of a klp symbol"
            else:
                yield from _found_once(view, match[1], match[2], int(match[3]))


def _found_once(view: KernelView, owner: str, name: str, position: int) -> Iterator[str]:
    running = view.running(owner)
    places = running.in_kallsyms(name) if running is not None else ()
    if not (len(places) == 1 and position == 0) and not 1 <= position <= len(places):
        yield f"{owner} has {len(places)} symbols {name}, and position {position} was asked for"


def _relocations(elf: ElfFile) -> Iterator[str]:
    for rela in elf.sections:
        if rela.type != c.SHT_RELA:
            continue
        section = elf.sections[rela.info]
        content = elf.content(section)
        waits = bool(rela.flags & c.SHF_RELA_LIVEPATCH)
        match = _KLP_SECTION.match(rela.name)
        if waits and match is None:
            yield f"section {rela.name} is not named as a klp relocation section"
        owner = match[1] if match else ""
        for offset, info, _ in struct.iter_unpack(c.RELA, elf.content(rela)):
            yield from _relocation(
                elf.symbols[info >> 32], section, offset, kind=info & 0xFFFFFFFF, waits=waits, owner=owner
            )
            width = c.RELOCATION_SIZES.get(info & 0xFFFFFFFF, 0)
            if any(content[offset : offset + width]):
                yield f"relocation at {section.name}+{offset:#x} does not stand over zeros"


def _relocation(
    symbol: Symbol, section: Section, offset: int, *, kind: int, waits: bool, owner: str
) -> Iterator[str]:
    width = c.RELOCATION_SIZES.get(kind)
    if width is None or offset + width > section.size:
        yield f"relocation at {section.name}+{offset:#x} has type {kind} or lies outside"
    if waits != (symbol.section == c.SHN_LIVEPATCH):
        yield f"{symbol.name} is used by the wrong kind of relocation in {section.name}"
    if waits and owner != VMLINUX and symbol.name.startswith(f".klp.sym.{VMLINUX}."):
        yield f"relocations of {owner} refer to vmlinux' {symbol.name}"
    if waits and owner != VMLINUX and not _PLAIN.match(section.name):
        yield f"{section.name} would wait for {owner}"


def _functions(functions: tuple[ReplacedFunction, ...], view: KernelView) -> Iterator[str]:
    for function in functions:
        yield from _found_once(view, function.object, function.name, function.position)


def _registered(elf: ElfFile, functions: tuple[ReplacedFunction, ...], view: KernelView) -> Iterator[str]:
    wanted = {(one.object, one.name, one.position, one.name) for one in functions}
    found = {tuple(one) for one in registered(elf, view.klp_sizes, objects=OBJECTS)}
    for owner, name, position, new in sorted(found - wanted):
        yield f"it registers {new or 'no function'} for {name},{position} of {owner}"
    for owner, name, position, _ in sorted(wanted - found):
        yield f"it does not register {name},{position} of {owner}"


def _modinfo(elf: ElfFile) -> set[str]:
    section = elf.section(".modinfo")
    return set(elf.content(section).decode("utf-8", "replace").split("\0")) if section else set()


def _identity(elf: ElfFile, view: KernelView) -> Iterator[str]:
    sample = view.sample_module()
    ours, theirs = _modinfo(elf), _modinfo(sample)
    if "livepatch=Y" not in ours:
        yield "modinfo lacks livepatch=Y"
    wanted = {line for line in theirs if line.startswith("vermagic=")}
    if not wanted or not wanted <= ours:
        yield f"modinfo lacks {wanted or 'vermagic'}"
    sizes = [one.size if (one := side.section(".gnu.linkonce.this_module")) else 0 for side in (elf, sample)]
    if sizes[0] != sizes[1]:
        yield f"struct module has {sizes[0]} bytes, the kernel's has {sizes[1]}"
    own, kernels = _hooks(elf), _hooks(sample)
    for name in sorted(own.keys() & kernels.keys()):
        if own[name] != kernels[name]:
            yield f"struct module has {name} at offset {own[name]}, the kernel's has it at {kernels[name]}"


def _hooks(elf: ElfFile) -> dict[str, int]:
    """Where struct module points to the functions that begin and end a module: name to offset."""
    section = elf.section(".gnu.linkonce.this_module")
    places = elf.relocations(section) if section else []
    return {elf.symbols[one.symbol].name: one.offset for one in places if elf.symbols[one.symbol].name}
