"""Links the livepatch module; turning relocations into klp relocations is the very last step."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from kmend.build.callbacks import NewCallbacks
from kmend.build.replay import replayed
from kmend.build.tree import Tree, saved_command
from kmend.build.view import Export, KernelView
from kmend.elf import constants as c
from kmend.elf.reader import ElfFile, Section, Symbol
from kmend.elf.writer import OutObject, OutSection, OutSymbol
from kmend.kit.errors import BugError
from kmend.kit.files import write_atomic
from kmend.kit.run import run

# An ordinary object of every kernel with livepatch; its command is the pattern for the glue's.
_PATTERN = "kernel/livepatch/shadow.o"
_OWN_NAME = re.compile(r"-D(KBUILD_(MODFILE|BASENAME|MODNAME)|__KBUILD_MODNAME)=")
_NEW = re.compile(r"^\.kmend\.[^.]+\.(.+)$")
_KLP = re.compile(r"^\.klp\.rela\.([^/]+)/(\.klp\.sym\.([^.]+)\.([^,]+),(\d+))$")
_VERSION_NAME = 56  # bytes of modversion_info.name (include/linux/module.h)
_NOT_COPIED = {".symtab", ".strtab", ".shstrtab", ".comment", ".note.GNU-stack"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFunction:
    """One function to replace: where it is, and the symbol of its new version."""

    object: str
    name: str
    position: int
    symbol: str


def link(
    parts: Sequence[OutObject],
    functions: Sequence[NewFunction],
    callbacks: Sequence[NewCallbacks] = (),
    *,
    name: str,
    description: str,
    tree: Tree,
    view: KernelView,
    work: Path,
) -> bytes:
    """The finished module.

    Args:
        parts: One object for each source file.
        functions: All functions that are replaced.
        callbacks: What is called around patching, in the order of the fixes.
        name: Name of the module.
        description: For modinfo.
        tree: The kernel's build tree.
        view: The kernel's exports.
        work: Folder for what comes in between.
    """
    objects = []
    for number, part in enumerate(parts):
        objects.append(work / f"part{number}.o")
        write_atomic(objects[-1], part.to_bytes())
    namespaces = _namespaces(parts, view)
    glue = _compile_glue(
        functions, callbacks, name=name, description=description, namespaces=namespaces, tree=tree, work=work
    )
    versions = work / "versions.o"
    write_atomic(versions, _versions([glue, *objects], view))
    linked = work / "linked.o"
    run([
        "ld", "-r", "-m", "elf_x86_64", "-z", "noexecstack", "--build-id=sha1",
        "-T", tree.folder / "scripts/module.lds", "-o", linked, glue, *objects, versions,
    ])  # fmt: skip
    return with_klp_relocations(ElfFile(linked))


def _compile_glue(
    functions: Sequence[NewFunction],
    callbacks: Sequence[NewCallbacks],
    *,
    name: str,
    description: str,
    namespaces: Sequence[str],
    tree: Tree,
    work: Path,
) -> Path:
    text = glue_text(functions, callbacks, description=description, namespaces=namespaces)
    source = work / "glue" / f"{name}.c"
    write_atomic(source, text)
    out = work / f"{name}.o"
    command = saved_command(tree, _PATTERN)
    for words in replayed(command, source=source, out=out, root=work / "glue", objtool=tree.objtool):
        run(_as_module(words, name), cwd=tree.folder)
    return out


def glue_text(
    functions: Sequence[NewFunction],
    callbacks: Sequence[NewCallbacks],
    *,
    description: str,
    namespaces: Sequence[str],
) -> str:
    """The C source that registers the livepatch."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - C, not HTML
    )
    return templates.get_template("glue.c.j2").render(
        functions=list(functions),
        callbacks=list(callbacks),
        objects=sorted({one.object for one in functions} | {one.object for one in callbacks}),
        description=description.replace("\\", " ").replace('"', "'"),
        namespaces=list(namespaces),
    )


def _as_module(words: list[str], name: str) -> list[str]:
    """A built-in object's command as that of a module with one source file."""
    if "-c" not in words:
        return [*words[:-1], "--module", words[-1]]
    kept = [word for word in words if not _OWN_NAME.match(word)]
    defined = [
        "-DMODULE",
        f'-DKBUILD_BASENAME="{name}"',
        f'-DKBUILD_MODNAME="{name}"',
        f'-DKBUILD_MODFILE="{name}"',
        f"-D__KBUILD_MODNAME=kmod_{name}",
    ]
    return [kept[0], *defined, *kept[1:]]


def _undefined(elf: ElfFile) -> set[str]:
    return {one.name for one in elf.symbols if one.section == c.SHN_UNDEF and one.name}


def _exported(names: Iterable[str], view: KernelView) -> dict[str, Export]:
    return {name: view.exports[name] for name in sorted(names) if name in view.exports}


def _namespaces(parts: Sequence[OutObject], view: KernelView) -> list[str]:
    names = {symbol.name for part in parts for symbol in part.symbols if symbol.section is None}
    return sorted({export.namespace for export in _exported(names, view).values()} - {""})


def _versions(objects: Sequence[Path], view: KernelView) -> bytes:
    """An object with the section ``__versions``: CRC and name of each export that the module uses."""
    names = {"module_layout"}.union(*(_undefined(ElfFile(path)) for path in objects))
    out = OutObject()
    section = out.section("__versions", flags=c.SHF_ALLOC, align=32)
    for name, export in _exported(names, view).items():
        section.append(struct.pack(f"<Q{_VERSION_NAME}s", export.crc, name.encode()))
    return out.to_bytes()


def with_klp_relocations(linked: ElfFile) -> bytes:
    """The linked module with its klp relocations in sections of their own, ready to load.

    Neither ld nor objtool nor strip may touch the result (Documentation/livepatch/module-elf-format.rst).
    """
    out = OutObject()
    kept = [one for one in linked.sections if one.type not in {0, c.SHT_RELA} and one.name not in _NOT_COPIED]
    sections = {one.number: _copied(linked, one) for one in kept}
    out.sections = list(sections.values())
    symbols: dict[int, OutSymbol] = {}
    groups: dict[int, str] = {}
    unique: dict[str, OutSymbol] = {}
    for symbol in linked.symbols[1:]:
        copy, group = _final_symbol(symbol, sections)
        if copy is None:
            continue
        if group:  # one klp symbol serves all groups
            copy = unique.setdefault(copy.name, copy)
            groups[symbol.number] = group
        symbols[symbol.number] = copy
        if copy not in out.symbols:
            out.symbols.append(copy)
    for section in kept:
        for one in linked.relocations(section):
            entry = (one.offset, one.type, symbols[one.symbol], one.addend)
            group = groups.get(one.symbol, "")
            target = sections[section.number]
            (target.livepatch_relocations.setdefault(group, []) if group else target.relocations).append(entry)
    return out.to_bytes()


def _copied(linked: ElfFile, section: Section) -> OutSection:
    copy = OutSection(
        section.name,
        section.type,
        section.flags & ~c.SHF_LINK_ORDER,
        section.align,
        section.entry_size,
        bytearray(),
        section.size,
    )
    if section.type != c.SHT_NOBITS:
        copy.data += linked.content(section)
    return copy


def _final_symbol(symbol: Symbol, sections: dict[int, OutSection]) -> tuple[OutSymbol | None, str]:
    """The symbol as the kernel is to see it, and the group that its relocations wait for."""
    if symbol.type == c.STT_FILE:
        return None, ""
    if symbol.section == c.SHN_UNDEF:
        match = _KLP.match(symbol.name)
        if match:
            return OutSymbol(match[2], place=c.SHN_LIVEPATCH), match[1]
        return OutSymbol(symbol.name), ""
    name, bind = symbol.name, symbol.bind
    match = _NEW.match(name)
    if match:
        name = match[1]
    if name not in {"__this_module", "init_module", "cleanup_module"}:
        bind = c.STB_LOCAL  # exported by the running kernel, not by the livepatch
    if symbol.section >= c.SHN_LORESERVE:
        return OutSymbol(name, None, symbol.value, symbol.size, bind, symbol.type, symbol.section), ""
    if symbol.section not in sections and symbol.type == c.STT_SECTION:
        return None, ""
    if symbol.section not in sections:
        raise BugError(f"The linked module has a symbol {name} in a section that is not copied.")
    return OutSymbol(name, sections[symbol.section], symbol.value, symbol.size, bind, symbol.type), ""
