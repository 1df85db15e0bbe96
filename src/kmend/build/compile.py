"""Compiles the affected objects only: the original once per kernel, the fixed one by the same saved command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kmend.build.lines import keep_lines
from kmend.build.tree import Tree, objtool_words, original, saved_command
from kmend.elf.running import VMLINUX
from kmend.kit.errors import BugError, InputError, KmendError, ProgramError
from kmend.kit.files import write_atomic
from kmend.kit.progress import Progress
from kmend.kit.run import run
from kmend.model.fix import Objection, ObjectionCode

_CUT_SHORT = re.compile(r"Killed|Terminated|No space left|Cannot allocate memory|cannot execute|: not found")
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


def compile_all(
    files: tuple[str, ...], *, tree: Tree, overlay: Path, progress: Progress
) -> tuple[list[Compiled], list[Objection]]:
    """Compile the objects of some source files on all cores.

    Args:
        files: Changed files, as paths in the source tree.
        tree: The kernel's prepared tree.
        overlay: Folder with the changed text of each file; what is compiled is put there too.
        progress: Told about each object.

    Returns:
        The objects in the order of ``files``, and an Objection for each file that could not be compiled.
    """
    refused = [objection for file in files if (objection := _unsupported(file))]
    sources = [file for file in files if file.endswith(".c") and not _unsupported(file)]
    progress.step(f"Compiling {', '.join(sources)}" if sources else "Nothing to compile")
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda file: _compile(file, tree=tree, overlay=overlay), sources))
    compiled = [one for one in done if isinstance(one, Compiled)]
    return compiled, refused + [one for one in done if isinstance(one, Objection)]


def _unsupported(file: str) -> Objection | None:
    """Files that say nothing about the kernel's code are passed over; all others but .c are refused."""
    if file.endswith(".c") and not file.startswith(
        ("tools/", "scripts/", "arch/x86/entry/vdso/", "arch/x86/boot/")
    ):
        return None
    kind = "a header" if file.endswith(".h") else "not a C file of the kernel proper"
    return Objection(
        code=ObjectionCode.UNSUPPORTED_FILE,
        place=file,
        reason=f"{file} is {kind}; this version builds fixes of .c files.",
        advice="Move what the fix needs into the .c files that use it, without changing the layout of any "
        "structure, or leave the file out if the fix works without it.",
    )


def _compile(file: str, *, tree: Tree, overlay: Path) -> Compiled | Objection:
    target = str(PurePosixPath(file).with_suffix(".o"))
    if not (tree.source / file).exists():
        return _objection(ObjectionCode.NOT_BUILT, file, "This kernel's source has no such file.", "")
    if including := included_by(tree.source / file):
        return _included(file, including)
    try:
        command = saved_command(tree, target)
    except (InputError, ProgramError) as error:
        _raise_if_cut_short(error)
        return _objection(
            ObjectionCode.NOT_BUILT,
            file,
            "This kernel's configuration does not build it by itself.",
            error.message,
        )
    text = keep_lines(tree.source / file, overlay / file)
    source = overlay / "lines" / file
    write_atomic(source, text.encode(errors="surrogateescape"))
    fixed = overlay / target
    try:
        objtool = objtool_words(tree, command)
        for words in replayed(command, source=source, out=fixed, root=overlay / "lines", objtool=objtool):
            run(words, cwd=tree.folder, timeout=900)
    except ProgramError as error:
        _raise_if_cut_short(error)
        return _objection(ObjectionCode.COMPILE_FAILED, file, "The fixed file does not compile.", error.output)
    return Compiled(
        target=target, linked_into=_linked_into(command), original=original(tree, target, command), fixed=fixed
    )


def included_by(file: Path) -> tuple[str, ...]:
    """Names of the files beside a .c file that include it: their objects hold its code, too."""
    line = re.compile(rf'^\s*#\s*include\s+"(?:\./)?{re.escape(file.name)}"', re.MULTILINE)
    beside = (one for one in sorted(file.parent.glob("*.[ch]")) if one != file)
    return tuple(one.name for one in beside if line.search(one.read_text(errors="surrogateescape")))


def _included(file: str, including: tuple[str, ...]) -> Objection:
    return Objection(
        code=ObjectionCode.UNSUPPORTED_FILE,
        place=file,
        reason=f"{file} is included by {', '.join(including)}; its code is part of other objects, which would "
        "keep the old one.",
        advice="There is no way yet to build a fix of such a file; fix a caller in a file of its own.",
    )


def _raise_if_cut_short(error: KmendError) -> None:
    """An error that says nothing about the source: the program was killed, timed out, or the disk is full."""
    if not isinstance(error, ProgramError):
        return
    if error.code is None or error.code < 0 or _CUT_SHORT.search(error.output):
        raise error


def _objection(code: ObjectionCode, file: str, reason: str, output: str) -> Objection:
    advice = {
        ObjectionCode.NOT_BUILT: "The fix does not concern this kernel, or another .c file includes the code.",
        ObjectionCode.COMPILE_FAILED: "Bring the fix to this kernel's source version: a name or type that it uses "
        "may be newer.",
    }[code]
    return Objection(
        code=code, place=file, reason=reason, advice=advice, evidence=tuple(output.splitlines()[-20:])
    )


def replayed(command: str, *, source: Path, out: Path, root: Path, objtool: Sequence[str] = ()) -> list[list[str]]:
    """The saved command for another source file and another output, as argument lists to run in the tree.

    What kbuild does beside compiling and objtool (symbol versions) is left out.

    Args:
        command: As kbuild saved it.
        source: The .c file to compile.
        out: Where the object goes.
        root: Leading folder of ``source`` that ``__FILE__`` must not show.
        objtool: Objtool's command line without the file, to run where kbuild leaves it for later.
    """
    found = []
    for part in re.split(r"\s;\s|\s&&\s", command):
        words = shlex.split(part)
        if not words:
            continue
        name = Path(words[0]).name
        if "-c" in words and "-o" in words:
            found.append(_compile_words(words, source, out, root))
        elif name == "objtool":
            found.append([*words[:-1], str(out)])
    if len(found) == 1 and objtool:
        found.append([*objtool, str(out)])
    if not found or "-c" not in found[0]:
        raise BugError(f"Kbuild's saved command is not understood: {command[:200]}")
    return found


def _compile_words(words: list[str], source: Path, out: Path, root: Path) -> list[str]:
    out.parent.mkdir(parents=True, exist_ok=True)
    words = [f"-Wp,-MMD,{out}.d" if word.startswith("-Wp,-MMD,") else word for word in words]
    words[words.index("-o") + 1] = str(out)
    # What the file includes by a name in quotes stands beside the original.
    beside = Path(words[-1]).parent
    return [*words[:-1], "-iquote", str(beside), f"-fmacro-prefix-map={root}/=", str(source)]


def _linked_into(command: str) -> str:
    """What kbuild links the object into, as the command's own definitions say."""
    if "-DMODULE" not in command.split():
        return VMLINUX
    match = _MODULE_NAME.search(command)
    if match is None:
        raise BugError(f"Kbuild's saved command names no module: {command[:200]}")
    return match[1]
