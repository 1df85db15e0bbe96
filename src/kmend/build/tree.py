"""A prepared build tree for one Kernel: out of the source tree, made once, kept in the cache."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kmend.kernels.compiler import installed
from kmend.kernels.places import trees_folder
from kmend.kit.errors import InputError, MachineError, ProgramError
from kmend.kit.files import lock, need_space, write_atomic
from kmend.kit.progress import Progress
from kmend.kit.run import run
from kmend.model.kernel import Kit

# Raised when what is below changes, so that trees made before are made anew.
_RECIPE = "2"
_FLAGS = "-ffunction-sections -fdata-sections -g0"
_SPACE = 400_000_000
_OBJTOOL = re.compile(r"^objtool-args-\$\((CONFIG_\w+)\)\s*\+=\s*(--\S+)$", re.MULTILINE)
_VALUE = re.compile(r"\$\((CONFIG_\w+)\)")
_MARK = ".kmend-ready"
_NEEDED = ("CONFIG_X86_64", "CONFIG_LIVEPATCH", "CONFIG_UNWINDER_ORC", "CONFIG_HAVE_RELIABLE_STACKTRACE")
# With these, code looks otherwise than the builder expects.
_NOT_YET = ("CONFIG_LTO_CLANG", "CONFIG_CFI_CLANG", "CONFIG_FINEIBT", "CONFIG_PREEMPT_RT")
# Differs without any bearing on code: what distributions take out of the configuration that they ship, and
# versions of tools that make no difference as long as the compiler is the same.
_MAY_DIFFER = re.compile(
    r"CONFIG_(BUILD_SALT|MODULE_SIG_(ALL|KEY)|SYSTEM_TRUSTED_KEYS|RUSTC?_\w+|(AS|LD|LLD)_VERSION|\w+_VERSION_TEXT)"
)
_PAHOLE = ".kmend-pahole"
# The distribution's generated headers that say how it named its build.
_NAMED_BY_DISTRIBUTION = ("compile.h", "package.h", "utsrelease.h", "utsversion.h")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A prepared build tree; ``folder`` holds saved commands and originals, ``source`` is only read."""

    kit: Kit
    folder: Path
    compiler: str
    """Name of the compiler's program, e.g. ``gcc-12``."""
    objtool: tuple[str, ...] = ()
    """Objtool's command line without the file, where kbuild runs it on the linked kernel and not on objects."""

    @property
    def source(self) -> Path:
        """The kernel's source."""
        return self.kit.source


def prepare(kit: Kit, *, progress: Progress) -> Tree:
    """The build tree of a kit: about 20 s of work the first time, at once when it is there.

    Raises:
        MachineError: The compiler is missing or is not the one that built the kernel, or space is short.
        ProgramError: The kernel's own preparation failed.
    """
    check_config(kit)
    compiler = checked_compiler(kit)
    folder = trees_folder() / kit.kernel.build_id
    tree = Tree(kit=kit, folder=folder, compiler=compiler, objtool=late_objtool(kit))
    ready = f"{_RECIPE}\n{kit.source}\n{kit.kernel.release}\n"
    mark = folder / _MARK
    if _says(mark, ready):
        return tree
    with lock(folder.with_suffix(".lock"), what="preparing this kernel's build tree", wait=True):
        if not _says(mark, ready):
            need_space(folder, size=_SPACE, what="A build tree")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _prepare(tree, progress)
            write_atomic(mark, ready)
    return tree


def _says(mark: Path, text: str) -> bool:
    return mark.exists() and mark.read_text() == text


def check_config(kit: Kit) -> None:
    """Refuse a kernel that cannot load livepatches, or whose objects this version does not know how to make.

    Raises:
        InputError: The kernel's configuration lacks something, or has something that is not supported yet.
    """
    lines = set(kit.config.read_text().splitlines())
    for option in _NEEDED:
        if f"{option}=y" not in lines:
            raise InputError(f"{kit.kernel.release} has no {option}; it cannot be livepatched by kmend.")
    for option in _NOT_YET:
        if f"{option}=y" in lines:
            raise InputError(
                f"{kit.kernel.release} has {option}, which this version of kmend does not support yet.",
                hint="`kmend kernel list --series 6.1` shows kernels that can be built for.",
            )


def late_objtool(kit: Kit) -> tuple[str, ...]:
    """The arguments by which objtool treats single objects of a kernel with IBT, as kbuild does it for modules.

    They stand in scripts/Makefile.lib as ``objtool-args-$(CONFIG_…) += --…``.
    """
    config = _options(kit.config)
    if config.get("CONFIG_X86_KERNEL_IBT") != "y":
        return ()
    words = ["./tools/objtool/objtool"]
    for option, argument in _OBJTOOL.findall((kit.source / "scripts/Makefile.lib").read_text()):
        if config.get(option) == "y":
            words.append(_VALUE.sub(lambda match: config.get(match[1], ""), argument))
    if "--mcount" not in words:  # the Makefile asks for the second only together with the first
        words = [word for word in words if word != "--mnop"]
    return (*words, "--link")


def checked_compiler(kit: Kit) -> str:
    """The name of the kernel's compiler, once it is sure that this machine has that very one.

    Raises:
        MachineError: It is missing, or another version.
    """
    program = kit.compiler.partition(" ")[0]
    hint = (
        f"Install the compiler that built this kernel: apt-get install {program.removeprefix('x86_64-linux-gnu-')}"
    )
    found = installed(kit.compiler)
    if not found:
        raise MachineError(
            f"The kernel was built by {kit.compiler}; {program} is missing, or does not say its version.",
            hint=hint,
        )
    if found != kit.compiler:
        raise MachineError(f"The kernel was built by {kit.compiler}, but {program} here is {found}.", hint=hint)
    return program


def make(tree: Tree, *targets: str, flags: str = "") -> None:
    """Run the kernel's own make in the tree.

    Raises:
        ProgramError: It failed; the error carries its last lines.
    """
    run([*_make_words(tree, flags), "--silent", *targets], timeout=1800)


def _make_words(tree: Tree, flags: str) -> list[str | Path]:
    return [
        "make", "-j2", "-C", tree.source, f"O={tree.folder}", f"CC={tree.compiler}", "LOCALVERSION=",
        f"KERNELRELEASE={tree.kit.kernel.release}", "KBUILD_BUILD_TIMESTAMP=@0",
        f"PAHOLE={tree.folder / _PAHOLE}", "RUSTC=none",
        *([f"KCFLAGS={flags}"] if flags else []),
    ]  # fmt: skip


def _prepare(tree: Tree, progress: Progress) -> None:
    progress.step(f"Preparing the build tree for {tree.kit.kernel.release} (once per kernel)")
    shutil.copyfile(tree.kit.config, tree.folder / ".config")
    _stand_in_for_pahole(tree)
    make(tree, "olddefconfig")
    check_same_config(tree)
    make(tree, "prepare", "modules_prepare")
    theirs = tree.kit.headers / "include" / "generated"
    for name in _NAMED_BY_DISTRIBUTION:
        if (theirs / name).exists():
            shutil.copyfile(theirs / name, tree.folder / "include" / "generated" / name)


def _options(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if line.startswith("CONFIG_"))


def _stand_in_for_pahole(tree: Tree) -> None:
    """A program that says the version of pahole by which the kernel's own build was configured.

    With another version, or without it, options go missing by which structures are smaller (struct module has
    members for BTF). Nothing that is compiled here needs the program itself.
    """
    version = _options(tree.kit.config).get("CONFIG_PAHOLE_VERSION", "0")
    text = f"#!/bin/sh\necho v{int(version) // 100}.{int(version) % 100:02}\n" if version.isdigit() else ""
    if text and version != "0":
        write_atomic(tree.folder / _PAHOLE, text)
        (tree.folder / _PAHOLE).chmod(0o755)


def check_same_config(tree: Tree) -> None:
    """Refuse a tree that is configured otherwise than the kernel: its structures would have other layouts.

    Raises:
        MachineError: An option differs; the error names it.
    """
    wanted, found = _options(tree.kit.config), _options(tree.folder / ".config")
    differing = [
        name
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name) and not _MAY_DIFFER.fullmatch(name)
    ]
    if differing:
        first = differing[0]
        more = f" (and {len(differing) - 1} more options)" if len(differing) > 1 else ""
        raise MachineError(
            f"{tree.kit.kernel.release} cannot be configured here as it was built: {first} is "
            f"{found.get(first, 'missing')} instead of {wanted.get(first, 'missing')}{more}.",
            hint="A tool that the kernel's configuration asks for is missing, or has another version.",
        )


def compile_commands(tree: Tree, targets: Sequence[str]) -> dict[str, str]:
    """Kbuild's command for each of some objects, without compiling any; those it has no rule for are left out.

    Args:
        tree: A prepared tree.
        targets: Paths of objects, e.g. ``fs/proc/cmdline.o``.
    """
    known = {target: saved_command(tree, target) for target in targets if _is_compiled(tree, target)}
    missing = [target for target in targets if target not in known]
    if not missing:
        return known
    with lock(tree.folder / ".kmend-lock", what="kbuild in this tree", wait=True):
        words = [*_make_words(tree, _FLAGS), "--dry-run", "--keep-going", *missing]
        done = run(words, timeout=1800, check=False)
    command = re.compile(rf"(?:^|\s)({re.escape(tree.compiler)} -Wp,\S+ .* -c -o (\S+\.o) \S+)")
    found = (command.search(line.partition(" ; ")[0]) for line in done.text.splitlines())
    known |= {match[2]: _unescaped(match[1]) for match in found if match and match[2] in missing}
    return known


def compile_originals(tree: Tree, targets: Sequence[str]) -> None:
    """Have kbuild compile some objects at once that never were; what fails is found out by ``saved_command``."""
    missing = [target for target in targets if not _is_compiled(tree, target)]
    if len(missing) > 1:
        with lock(tree.folder / ".kmend-lock", what="kbuild in this tree", wait=True), suppress(ProgramError):
            make(tree, "--keep-going", *missing, flags=_FLAGS)


def _saved(tree: Tree, target: str) -> Path:
    path = Path(target)
    return tree.folder / path.parent / f".{path.name}.cmd"


def _is_compiled(tree: Tree, target: str) -> bool:
    return _saved(tree, target).exists() and (tree.folder / target).exists()


def _unescaped(text: str) -> str:
    return text.replace("$(pound)", "#").replace("$$", "$")


def saved_command(tree: Tree, target: str) -> str:
    """Kbuild's saved command for one object; the object is compiled by kbuild when it never was.

    Args:
        tree: A prepared tree.
        target: The object's path, e.g. ``fs/proc/cmdline.o``.

    Raises:
        InputError: Kbuild has no rule for it.
        ProgramError: The original does not compile.
    """
    saved = _saved(tree, target)
    if not _is_compiled(tree, target):
        with lock(tree.folder / ".kmend-lock", what="kbuild in this tree", wait=True):
            make(tree, target, flags=_FLAGS)
    if not saved.exists():
        raise InputError(f"Kbuild does not build {target} by itself.")
    line = saved.read_text().splitlines()[0]
    return _unescaped(line.split(":=", 1)[1].strip())


def original(tree: Tree, target: str, command: str) -> Path:
    """The original object as the builder compares it, with what objtool adds.

    Args:
        tree: The tree in which ``saved_command`` has compiled it.
        target: The object's path.
        command: What ``saved_command`` gave.

    Raises:
        ProgramError: Objtool failed.
    """
    plain = tree.folder / target
    if not tree.objtool:
        return plain
    finished = plain.with_suffix(".objtool.o")
    if not finished.exists():
        with lock(tree.folder / ".kmend-lock", what="kbuild in this tree", wait=True):
            begun = plain.with_suffix(".begun.o")
            shutil.copyfile(plain, begun)
            run([*objtool_words(tree, command), begun], cwd=tree.folder)
            begun.rename(finished)
    return finished


def objtool_words(tree: Tree, command: str) -> list[str]:
    """Objtool's command line without the file for what ``command`` compiles; empty when kbuild runs it."""
    module = ["--module"] if "-DMODULE" in command.split() else []
    return [*tree.objtool, *module] if tree.objtool else []
