"""What the builder looks up in a kit, and a kit of which a piece is missing or another's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kmend.build.view import KernelView
from kmend.kit.errors import InputError
from kmend.model.kernel import Kernel, Kit

RELEASE = "6.1.0-99-cloud-amd64"
FILE = Path("kernel/net/small.ko")


def linked(path: Path, build_id: str) -> str:
    """A small ELF object with a build id."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".c")
    source.write_text("int small(void) { return 1; }\n")
    subprocess.run(
        ["gcc-12", "-nostdlib", "-r", f"-Wl,--build-id=0x{build_id}", "-o", path, source], check=True, timeout=60
    )
    source.unlink()
    return build_id


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    """A kit with one module and its debug file."""
    linked(tmp_path / "modules" / FILE, "aa" * 20)
    linked(tmp_path / "debug" / FILE, "aa" * 20)
    (tmp_path / "Module.symvers").write_text("0x12345678\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n")
    kernel = Kernel(release=RELEASE, version="6.1.99-1", build_id="bb" * 20)
    names = {name: tmp_path / name for name in ("image", "vmlinux", "source", "config", "headers")}
    return Kit(
        kernel=kernel, folder=tmp_path, compiler="gcc-12 (Debian) 12.2.0", modules=tmp_path / "modules",
        debug_modules=tmp_path / "debug", symvers=tmp_path / "Module.symvers", **names
    )  # fmt: skip


def test_a_module_of_the_kernel(kit: Kit) -> None:
    """It is found by its name; a name that neither folder has is no module of this kernel."""
    found = KernelView(kit).running("small")
    assert found is not None
    assert found.name == "small"
    assert KernelView(kit).running("large") is None


@pytest.mark.parametrize(
    ("folder", "words"), [("modules", "lacks the module small"), ("debug", "lacks the debug file of module small")]
)
def test_half_a_module_is_a_damaged_kit(kit: Kit, folder: str, words: str) -> None:
    """One of the two files is missing: that is no proof that the kernel has no such module."""
    (kit.folder / folder / FILE).unlink()
    with pytest.raises(InputError, match=words) as caught:
        KernelView(kit).running("small")
    assert f"kmend kernel prune {RELEASE}" in caught.value.hint


def test_the_debug_file_of_another_module(kit: Kit) -> None:
    """The build ids of a module and its debug file must be the same."""
    linked(kit.debug_modules / FILE, "cc" * 20)
    with pytest.raises(InputError, match="build ids differ"):
        KernelView(kit).running("small")


def test_the_vmlinux_of_another_kernel(kit: Kit) -> None:
    """Nothing is built against a kernel whose build id is not the kit's."""
    linked(kit.vmlinux, "cc" * 20)
    subprocess.run(
        ["objcopy", "--rename-section", ".note.gnu.build-id=.notes", kit.vmlinux], check=True, timeout=60
    )
    with pytest.raises(InputError, match=f"its build id is {'cc' * 20}, the kit's is {'bb' * 20}"):
        KernelView(kit).vmlinux  # noqa: B018 - it is read when asked for
    linked(kit.vmlinux, "bb" * 20)
    subprocess.run(
        ["objcopy", "--rename-section", ".note.gnu.build-id=.notes", kit.vmlinux], check=True, timeout=60
    )
    assert KernelView(kit).vmlinux.name == "vmlinux"


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"0x12345678 printk\n", b"zz\tprintk\tvmlinux\n"])
def test_a_damaged_symvers(kit: Kit, content: bytes) -> None:
    """It is named; nothing is guessed."""
    kit.symvers.write_bytes(content)
    with pytest.raises(InputError, match=r"line 1 is no line of a Module\.symvers"):
        KernelView(kit).exports  # noqa: B018 - it is read when asked for
