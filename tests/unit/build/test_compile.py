"""Kbuild's saved commands, replayed for another source file."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmend.build.compile import _linked_into, included_by
from kmend.build.replay import replayed
from kmend.kit.errors import BugError

FLAGS = (
    "-Wp,-MMD,fs/proc/.cmdline.o.d -nostdinc -I/src/arch/x86/include -I./include "
    "-include /src/include/linux/kconfig.h -D__KERNEL__ -fmacro-prefix-map=/src/= -O2 -pg -mfentry "
    "-ffunction-sections -fdata-sections -g0 -I /src/fs/proc -I ./fs/proc"
)
BUILT_IN = (
    f"gcc-12 {FLAGS}    -DKBUILD_MODFILE='\"fs/proc/proc\"' -DKBUILD_BASENAME='\"cmdline\"' "
    "-DKBUILD_MODNAME='\"proc\"' -D__KBUILD_MODNAME=kmod_proc -c -o fs/proc/cmdline.o /src/fs/proc/cmdline.c   ; "
    "./tools/objtool/objtool --hacks=jump_label --orc --static-call --uaccess   fs/proc/cmdline.o"
)
MODULE = BUILT_IN.replace("-DKBUILD_MODFILE", "-DMODULE -DKBUILD_MODFILE").replace('"proc"', '"nf_tables"')
OUT, ROOT = Path("overlay/fs/proc/cmdline.o"), Path("overlay/lines")


def replay(tmp_path: Path, command: str) -> list[list[str]]:
    """The command for a fixed file."""
    return replayed(
        command, source=tmp_path / ROOT / "fs/proc/cmdline.c", out=tmp_path / OUT, root=tmp_path / ROOT
    )


@pytest.mark.parametrize("command", [BUILT_IN, MODULE])
def test_only_source_and_output_are_others(tmp_path: Path, command: str) -> None:
    """All flags stay, in order; objtool follows on the new object."""
    compiler, objtool = replay(tmp_path, command)
    assert compiler[0] == "gcc-12"
    assert compiler[compiler.index("-o") + 1] == str(tmp_path / OUT)
    assert compiler[-1] == str(tmp_path / ROOT / "fs/proc/cmdline.c")
    assert f"-fmacro-prefix-map={tmp_path / ROOT}/=" in compiler
    kept = [word for word in FLAGS.split() if not word.startswith("-Wp,")]
    assert compiler[1 : len(kept) + 2] == [f"-Wp,-MMD,{tmp_path / OUT}.d", *kept]
    assert '-DKBUILD_BASENAME="cmdline"' in compiler
    assert objtool == [
        "./tools/objtool/objtool", "--hacks=jump_label", "--orc", "--static-call", "--uaccess", str(tmp_path / OUT)
    ]  # fmt: skip


def test_the_original_is_not_written_to(tmp_path: Path) -> None:
    """Neither the object nor its list of dependencies."""
    outputs = [word for words in replay(tmp_path, BUILT_IN) for word in words if word.endswith((".o", ".o.d"))]
    assert len(outputs) == 3
    assert all(str(tmp_path / OUT) in word for word in outputs)


def test_files_beside_the_original_are_found(tmp_path: Path) -> None:
    """An include by a name in quotes is looked for where the original stands."""
    compiler, _ = replay(tmp_path, BUILT_IN)
    assert compiler[compiler.index("-iquote") + 1] == "/src/fs/proc"


def test_symbol_versions_are_left_out(tmp_path: Path) -> None:
    """What kbuild does besides compiling and objtool says nothing about the code."""
    versions = " && if nm fs/proc/cmdline.o | grep -q __ksymtab; then gcc -E x | scripts/genksyms > y; fi"
    assert len(replay(tmp_path, BUILT_IN + versions.replace("if nm", "nm"))) == 2


@pytest.mark.parametrize("command", ["", "echo nothing", "ld -r -o a.o b.o"])
def test_a_command_that_does_not_compile_is_a_fault(tmp_path: Path, command: str) -> None:
    """Kbuild has changed; nothing is guessed."""
    with pytest.raises(BugError, match="not understood"):
        replay(tmp_path, command)


def test_what_an_object_is_linked_into() -> None:
    """The kernel, or the module that kbuild names."""
    assert _linked_into(BUILT_IN) == "vmlinux"
    assert _linked_into(MODULE) == "nf_tables"
    with pytest.raises(BugError, match="names no module"):
        _linked_into(MODULE.replace("KBUILD_MODNAME", "OTHER"))


def test_a_file_that_others_include_is_known(tmp_path: Path) -> None:
    """Its code is in their objects as well; names that only look alike do not count."""
    (tmp_path / "rt.c").write_text('#include "sched.h"\n')
    (tmp_path / "build_policy.c").write_text('#include <linux/x.h>\n# include "rt.c"\n#include "./idle.c"\n')
    (tmp_path / "idle.c").write_text("int a;\n")
    (tmp_path / "other.c").write_text('#include "art.c"\n// #include "rt.c"\n')
    assert included_by(tmp_path / "rt.c") == ("build_policy.c",)
    assert included_by(tmp_path / "idle.c") == ("build_policy.c",)
    assert included_by(tmp_path / "other.c") == ()
