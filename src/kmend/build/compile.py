"""Compiles the affected objects only: the original once per kernel, the fixed one by the same saved command."""

from __future__ import annotations

import hashlib
import posixpath
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kmend.build.affected import Affected, affected
from kmend.build.changes import changes
from kmend.build.farm import plant
from kmend.build.layout import ReadOtherwise, read_otherwise
from kmend.build.lines import keep_lines
from kmend.build.replay import replayed
from kmend.build.retyped import layout_objections, with_debugging
from kmend.build.tree import (
    Tree,
    compile_commands,
    compile_originals,
    objtool_words,
    original,
    saved_command,
)
from kmend.elf.running import VMLINUX
from kmend.exposure.units import Units
from kmend.kit.errors import BugError, InputError, KmendError, ProgramError
from kmend.kit.files import write_atomic
from kmend.kit.progress import Progress
from kmend.kit.run import run
from kmend.model.fix import Objection, ObjectionCode

_CUT_SHORT = re.compile(r"Killed|Terminated|No space left|Cannot allocate memory|cannot execute|: not found")
_NAMED = 4
_APART = (
    "tools/",
    "scripts/",
    "arch/x86/entry/vdso/",
    "arch/x86/boot/",
    "arch/x86/realmode/",
    "arch/x86/purgatory/",
)
_COMPLAINT = re.compile(r": (?:fatal )?error: |: warning: |: In function ")
_WHOLE = 20
_MOST_COMPLAINTS = 100
_COUNTED = re.compile(r"\b(__compiletime_assert_|__UNIQUE_ID_[A-Za-z_]*?)\d+")
_MODULE_NAME = re.compile(r"""-DKBUILD_MODNAME='?"([^"]*)"'?""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """One object, without and with the fixes."""

    target: str
    """E.g. ``fs/proc/cmdline.o``."""
    linked_into: str
    """``vmlinux``, or the module's name, e.g. ``nf_tables``."""
    original: Path
    fixed: Path
    touched: frozenset[str] = frozenset()
    """What changes in the file's own text, and not only in headers: names of functions and other items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is compiled, and where."""

    tree: Tree
    folder: Path
    """Of the source with the changed files in it; objects are put beside."""
    commands: Mapping[str, str]
    touched: Mapping[str, frozenset[str]]
    """Changed .c file → functions and other items that change in its own text."""
    keys: dict[str, str] = field(default_factory=dict)
    """Differing .c file → hash of all that makes its object: the command and the preprocessed text."""


def compile_all(
    files: tuple[str, ...], *, tree: Tree, overlay: Path, units: Callable[[], Units], progress: Progress
) -> tuple[list[Compiled], list[Objection]]:
    """Compile the objects that changed files go into, on all cores, as far as their preprocessed text differs.

    Args:
        files: Changed files, as paths in the source tree.
        tree: The kernel's prepared tree.
        overlay: Folder with the changed text of each file; what is compiled is put there too.
        units: Says what the kernel was built from; asked only when headers change.
        progress: Told about each step.

    Returns:
        The objects whose text differs, and Objections to what cannot be compiled or changes a type.
    """
    objections = [objection for file in files if (objection := _unsupported(file, tree.source))]
    if objections:
        return [], objections
    direct = [file for file in files if _is_unit(file, tree.source)]
    found = Affected(sources=())
    if len(direct) < len(files):
        progress.step("Looking which files read what changes in headers")
        rest = [file for file in files if file not in direct]
        found = affected(rest, source=tree.source, overlay=overlay, units=units())
    sources = [*direct, *(file for file in found.sources if file not in direct)]
    objections += found.objections
    if objections:
        return [], objections
    work = _planted(files, sources, tree=tree, overlay=overlay)
    objections = [_not_built(file) for file in direct if _object(file) not in work.commands]
    sources = [file for file in sources if _object(file) in work.commands]
    differing, more = _differing(sources, files, work, progress)
    return _compiled(differing, work, objections + more, progress)


def _compiled(
    sources: Sequence[str], work: _Work, objections: list[Objection], progress: Progress
) -> tuple[list[Compiled], list[Objection]]:
    if objections:
        return [], objections
    progress.step(f"Compiling {_few(sources)}" if sources else "Nothing to compile")
    compile_originals(work.tree, [_object(file) for file in sources])
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda file: _compile(file, work), sources))
    return [one for one in done if isinstance(one, Compiled)], [one for one in done if isinstance(one, Objection)]


def _few(sources: Sequence[str]) -> str:
    return ", ".join(sources) if len(sources) <= _NAMED else f"{len(sources)} files"


def _object(file: str) -> str:
    return str(PurePosixPath(file).with_suffix(".o"))


def _is_unit(file: str, source: Path) -> bool:
    """Whether a file is compiled by itself."""
    return file.endswith(".c") and not included_by(source / file)


def _planted(files: Sequence[str], sources: Sequence[str], *, tree: Tree, overlay: Path) -> _Work:
    commands = compile_commands(tree, [_object(file) for file in sources])
    folder = overlay / "tree"
    searched = {one for command in commands.values() for one in _searched(command, tree.source)}
    texts = {
        file: keep_lines(tree.source / file, overlay / file)
        if (tree.source / file).exists()
        else (overlay / file).read_text(errors="surrogateescape")
        for file in files
    }
    plant(folder, texts, source=tree.source, searched=searched)
    touched = {
        file: frozenset[str]().union(*(one.names for one in changes(file, old=tree.source, new=overlay)))
        for file in files
        if file.endswith(".c")
    }
    return _Work(tree=tree, folder=folder, commands=commands, touched=touched)


def _searched(command: str, source: Path) -> set[str]:
    """Folders of the source where a command has the compiler look for headers."""
    found = re.findall(rf"-I ?{re.escape(str(source))}/(\S+)", command)
    return {posixpath.normpath(one) for one in found if (source / one).is_dir()}


def _unsupported(file: str, source: Path) -> Objection | None:
    """What is no C text of the kernel proper, or a new .c file that no Makefile of this kernel knows."""
    if file.endswith(".c") and not (source / file).exists():
        return _objection(ObjectionCode.NOT_BUILT, file, "This kernel's source has no such file.", "")
    if file.endswith((".c", ".h")) and not file.startswith(_APART):
        return None
    return Objection(
        code=ObjectionCode.UNSUPPORTED_FILE,
        place=file,
        reason=f"{file} is not a C file of the kernel proper.",
        advice="Leave the file out if the fix works without it; otherwise this fix needs a reboot.",
    )


def _differing(
    sources: Sequence[str], files: Sequence[str], work: _Work, progress: Progress
) -> tuple[list[str], list[Objection]]:
    """The sources whose preprocessed text differs, and Objections to the types that change in them."""
    progress.step(f"Comparing what the compiler reads of {_few(sources)}")
    differing: list[str] = []
    objections: dict[str, Objection] = {}
    reads: dict[str, tuple[ReadOtherwise, ...]] = {}
    with ThreadPoolExecutor(2) as pool:
        for done, found in enumerate(pool.map(lambda file: _read_otherwise(file, work), sources), 1):
            progress.amount(done, len(sources), unit="files")
            if isinstance(found, Objection):
                objections.setdefault(f"{found.code} {found.place}", found)
            elif found is not None:
                differing.append(sources[done - 1])
                if found:
                    reads[sources[done - 1]] = found
    changed = layout_objections(
        reads,
        pair=lambda file: _with_debugging(file, work),
        place=lambda name, file: f"{_defining(name, files, work.folder) or file}: {name}",
        progress=progress,
    )
    return differing, [*objections.values(), *changed]


def _with_debugging(file: str, work: _Work) -> tuple[Path, Path] | Objection:
    """The original and the fixed object, with debugging information."""
    made: list[Path] = []
    for root in (work.tree.source, work.folder):
        out = work.folder.with_name("debugging") / str(len(made)) / _object(file)
        command = work.commands[_object(file)]
        words = replayed(command, source=root / file, out=out, root=root, source_tree=work.tree.source)[0]
        try:
            run(with_debugging(words), cwd=work.tree.folder, timeout=900)
        except ProgramError as error:
            _raise_if_cut_short(error)
            return _objection(ObjectionCode.COMPILE_FAILED, file, "The fixed file does not compile.", error.output)
        made.append(out)
    return made[0], made[1]


def _read_otherwise(file: str, work: _Work) -> tuple[ReadOtherwise, ...] | Objection | None:
    """The types that the compiler reads otherwise; None when all is the same."""
    command = work.commands[_object(file)]
    try:
        before = _original_text(command, file, work)
        read = _read_by_compiler(command, file, work, folder=work.folder)
    except ProgramError as error:
        _raise_if_cut_short(error)
        return _objection(ObjectionCode.COMPILE_FAILED, file, "The fixed file does not compile.", error.output)
    after = _without_counts(read)
    if before == after:
        return None
    work.keys[file] = hashlib.sha256(command.encode() + b"\0" + read).hexdigest()
    return read_otherwise(before, after)


def _original_text(command: str, file: str, work: _Work) -> str:
    """The preprocessed original, kept in the tree: fixes of one header ask for many of them again and again."""
    kept = work.tree.folder / "read" / f"{file}.z"
    if kept.exists():
        return zlib.decompress(kept.read_bytes()).decode()
    try:
        read = _read_by_compiler(command, file, work, folder=work.tree.source)
    except ProgramError:  # perhaps a header that kbuild makes only when it compiles the file
        saved_command(work.tree, _object(file))
        read = _read_by_compiler(command, file, work, folder=work.tree.source)
    text = _without_counts(read)
    write_atomic(kept, zlib.compress(text.encode(), 1))
    return text


def _without_counts(read: bytes) -> str:
    """What the compiler reads, without the numbers that macros count up to make names of their own."""
    return _COUNTED.sub(r"\1", read.decode(errors="replace"))


def _read_by_compiler(command: str, file: str, work: _Work, *, folder: Path) -> bytes:
    """The preprocessed text of a file in the kernel's source, or with the changed files in it."""
    words = replayed(
        command,
        source=folder / file,
        out=work.folder.with_name("objects") / _object(file),
        root=folder,
        source_tree=work.tree.source,
    )[0]
    kept = [word for word in words if not word.startswith("-Wp,-MMD")]
    kept[kept.index("-c")] = "-E"
    at = kept.index("-o")
    return run([*kept[:at], "-P", *kept[at + 2 :]], cwd=work.tree.folder, timeout=900).stdout


def _defining(name: str, files: Sequence[str], folder: Path) -> str:
    """The changed file that defines a type."""
    head = re.compile(rf"\b{re.escape(name)}\b[^;(){{}}=]*\{{")
    return next((file for file in files if head.search((folder / file).read_text(errors="surrogateescape"))), "")


def _not_built(file: str, output: str = "") -> Objection:
    reason = "This kernel's configuration does not build it by itself."
    return _objection(ObjectionCode.NOT_BUILT, file, reason, output)


def _compile(file: str, work: _Work) -> Compiled | Objection:
    target = _object(file)
    tree = work.tree
    try:
        command = saved_command(tree, target)
    except (InputError, ProgramError) as error:
        _raise_if_cut_short(error)
        return _not_built(file, error.message)
    try:
        fixed = _fixed(command, file, work)
    except ProgramError as error:
        _raise_if_cut_short(error)
        return _objection(ObjectionCode.COMPILE_FAILED, file, "The fixed file does not compile.", error.output)
    return Compiled(
        target=target,
        linked_into=_linked_into(command),
        original=original(tree, target, command),
        fixed=fixed,
        touched=work.touched.get(file, frozenset()),
    )


def _fixed(command: str, file: str, work: _Work) -> Path:
    """The fixed object; one that was compiled from the very same text before is taken from the tree."""
    tree = work.tree
    made = work.folder.with_name("objects") / _object(file)
    kept = tree.folder / "fixed" / f"{work.keys[file]}.o"
    if kept.exists():
        return kept
    words = replayed(
        command,
        source=work.folder / file,
        out=made,
        root=work.folder,
        objtool=objtool_words(tree, command),
        source_tree=tree.source,
    )
    for step in words:
        run(step, cwd=tree.folder, timeout=900)
    kept.parent.mkdir(exist_ok=True)
    made.rename(kept)
    return kept


def included_by(file: Path) -> tuple[str, ...]:
    """Names of the files beside a .c file that include it: their objects hold its code, too."""
    line = re.compile(rf'^\s*#\s*include\s+"(?:\./)?{re.escape(file.name)}"', re.MULTILINE)
    beside = (one for one in sorted(file.parent.glob("*.[ch]")) if one != file)
    return tuple(one.name for one in beside if line.search(one.read_text(errors="surrogateescape")))


def _raise_if_cut_short(error: KmendError) -> None:
    """An error that says nothing about the source: the program was killed, timed out, or the disk is full."""
    if not isinstance(error, ProgramError):
        return
    if error.code is None or error.code < 0 or _CUT_SHORT.search(error.output):
        raise error


def _objection(code: ObjectionCode, file: str, reason: str, output: str) -> Objection:
    advice = {
        ObjectionCode.NOT_BUILT: "The fix does not concern this kernel: leave the file out.",
        ObjectionCode.COMPILE_FAILED: "Bring the fix to this kernel's source version: a name or type that it uses "
        "may be newer.",
    }[code]
    return Objection(code=code, place=file, reason=reason, advice=advice, evidence=_evidence(output))


def _evidence(output: str) -> tuple[str, ...]:
    """All that was said; of much, what a compiler complains of and in which functions, or else the end."""
    lines = output.splitlines()
    telling = [line for line in lines if _COMPLAINT.search(line)] if len(lines) > _WHOLE else []
    return tuple(telling[:_MOST_COMPLAINTS] or lines[-_WHOLE:])


def _linked_into(command: str) -> str:
    """What kbuild links the object into, as the command's own definitions say."""
    if "-DMODULE" not in command.split():
        return VMLINUX
    match = _MODULE_NAME.search(command)
    if match is None:
        raise BugError(f"Kbuild's saved command names no module: {command[:200]}")
    return match[1]
