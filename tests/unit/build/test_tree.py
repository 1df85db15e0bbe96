"""Build trees: which kernels are supported, and how objtool runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kmend.build.tree import Tree, check_config, check_same_config, late_objtool, objtool_words
from kmend.kit.errors import InputError, MachineError
from kmend.model.kernel import Kernel, Kit

NEEDED = "CONFIG_X86_64=y\nCONFIG_LIVEPATCH=y\nCONFIG_UNWINDER_ORC=y\nCONFIG_HAVE_RELIABLE_STACKTRACE=y\n"
MAKEFILE = """
objtool-args-$(CONFIG_HAVE_JUMP_LABEL_HACK)		+= --hacks=jump_label
objtool-args-$(CONFIG_X86_KERNEL_IBT)			+= --ibt
objtool-args-$(CONFIG_FTRACE_MCOUNT_USE_OBJTOOL)	+= --mcount
ifdef CONFIG_FTRACE_MCOUNT_USE_OBJTOOL
objtool-args-$(CONFIG_HAVE_OBJTOOL_NOP_MCOUNT)		+= --mnop
endif
objtool-args-$(CONFIG_STACK_VALIDATION)			+= --stackval
objtool-args-$(CONFIG_PREFIX_SYMBOLS)			+= --prefix=$(CONFIG_FUNCTION_PADDING_BYTES)
"""


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    """A kit of which only configuration and Makefile.lib are there."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/Makefile.lib").write_text(MAKEFILE)
    (tmp_path / "config").write_text(NEEDED)
    kernel = Kernel(release="6.12.1", version="6.12.1-1", build_id="ab")
    nowhere = tmp_path / "nowhere"
    return Kit(
        kernel=kernel, folder=tmp_path, image=nowhere, modules=nowhere, vmlinux=nowhere, debug_modules=nowhere,
        source=tmp_path, config=tmp_path / "config", headers=nowhere, symvers=nowhere, compiler="gcc-12 12",
    )  # fmt: skip


def configured(kit: Kit, *options: str) -> Kit:
    """The kit with these lines in its configuration besides the needed ones."""
    kit.config.write_text(NEEDED + "".join(f"{option}\n" for option in options))
    return kit


def test_objtool_runs_on_objects_where_kbuild_leaves_it_for_later(kit: Kit) -> None:
    """With IBT the arguments are those of the kernel's own Makefile for this configuration."""
    options = ("CONFIG_X86_KERNEL_IBT", "CONFIG_HAVE_JUMP_LABEL_HACK", "CONFIG_PREFIX_SYMBOLS")
    padded = configured(
        kit,
        *(f"{one}=y" for one in options),
        "CONFIG_HAVE_OBJTOOL_NOP_MCOUNT=y",
        "CONFIG_FUNCTION_PADDING_BYTES=16",
    )
    words = late_objtool(padded)
    assert words == ("./tools/objtool/objtool", "--hacks=jump_label", "--ibt", "--prefix=16", "--link")
    tree = Tree(kit=padded, folder=kit.folder, compiler="gcc-12", objtool=words)
    assert objtool_words(tree, "gcc -c x.c") == list(words)
    assert objtool_words(tree, "gcc -DMODULE -c x.c")[-1] == "--module"


def test_objtool_is_kbuilds_own_business_otherwise(kit: Kit) -> None:
    """Without IBT the saved command has objtool in it."""
    assert late_objtool(configured(kit, "CONFIG_HAVE_JUMP_LABEL_HACK=y")) == ()
    assert objtool_words(Tree(kit=kit, folder=kit.folder, compiler="gcc-12"), "gcc -DMODULE") == []


@pytest.mark.parametrize("option", ["CONFIG_LTO_CLANG", "CONFIG_CFI_CLANG", "CONFIG_FINEIBT", "CONFIG_PREEMPT_RT"])
def test_kernels_of_another_make_are_refused(kit: Kit, option: str) -> None:
    """The error names the option."""
    with pytest.raises(InputError, match=option):
        check_config(configured(kit, f"{option}=y"))


def test_kernel_without_livepatch_is_refused(kit: Kit) -> None:
    """It could not load the result."""
    kit.config.write_text(NEEDED.replace("CONFIG_LIVEPATCH=y", "# CONFIG_LIVEPATCH is not set"))
    with pytest.raises(InputError, match="CONFIG_LIVEPATCH"):
        check_config(replace(kit))
    check_config(configured(kit))


def test_a_tree_that_is_configured_otherwise_is_refused(kit: Kit, tmp_path: Path) -> None:
    """What distributions take out of the configuration that they ship does not count."""
    tree = Tree(kit=configured(kit, "CONFIG_DEBUG_INFO_BTF_MODULES=y"), folder=tmp_path, compiler="gcc-12")
    same = f'{tree.kit.config.read_text()}CONFIG_BUILD_SALT=""\nCONFIG_RUSTC_VERSION=1\n'
    (tmp_path / ".config").write_text(same)
    check_same_config(tree)
    (tmp_path / ".config").write_text(same.replace("CONFIG_DEBUG_INFO_BTF_MODULES=y", ""))
    with pytest.raises(MachineError, match="CONFIG_DEBUG_INFO_BTF_MODULES is missing instead of y"):
        check_same_config(tree)
    (tmp_path / ".config").write_text(f"{same}CONFIG_KASAN=y\n")
    with pytest.raises(MachineError, match="CONFIG_KASAN is y instead of missing"):
        check_same_config(tree)
