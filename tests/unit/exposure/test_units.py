"""Which source files a kernel was built from."""

from pathlib import Path
from subprocess import run

from kmend.exposure import units
from kmend.kit.progress import Silent
from kmend.model.kernel import Kit
from makers.nouns import KERNEL

READELF = """\
 <0><c>: Abbrev Number: 1 (DW_TAG_compile_unit)
    <15>   DW_AT_name        : (indirect string, offset: 0): /build/path/linux-6.1.170/arch/x86/kernel/head_64.S
    <89>   DW_AT_name        : (indirect line string, offset: 0x101): ./fs/a.c

File: lib/modules/6.1.0/kernel/net/snd-b.ko
    <89>   DW_AT_name        : net/b.c
"""


def test_readelf_is_understood():
    """Indirect and direct names, assembler files with the distribution's folder, and the file's name before it."""
    assert list(units.parse(READELF.splitlines(), "vmlinux")) == [
        ("arch/x86/kernel/head_64.S", "vmlinux"),
        ("fs/a.c", "vmlinux"),
        ("net/b.c", "snd_b"),
    ]


def make_kit(tmp_path: Path) -> Kit:
    """A kit whose vmlinux and one module are small objects with debug information."""
    source, debug = tmp_path / "source", tmp_path / "debug"
    for path, text in {
        "fs/a.c": '#include "part.c"\nint a;\n',
        "fs/part.c": "int part(void) { return 1; }\n",
        "fs/unused.c": '#include "unused_part.c"\n',
        "fs/unused_part.c": "",
        "net/b.c": "int b;\n",
    }.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    (debug / "net").mkdir(parents=True)
    run(["gcc", "-g", "-c", "fs/a.c", "-o", tmp_path / "vmlinux"], cwd=source, check=True)
    run(["gcc", "-g", "-c", "net/b.c", "-o", debug / "net" / "b-mod.ko"], cwd=source, check=True)
    unused = dict.fromkeys(("image", "modules", "config", "headers", "symvers"), tmp_path)
    return Kit(
        kernel=KERNEL,
        folder=tmp_path,
        vmlinux=tmp_path / "vmlinux",
        debug_modules=debug,
        source=source,
        compiler="gcc",
        **unused,
    )


def test_units_come_from_debug_information_and_are_kept(tmp_path, monkeypatch):
    """Built files have their object, included files their includer; a second look needs no kit."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kit = make_kit(tmp_path)
    found = units.units(kit, progress=Silent())
    assert found.objects == {"fs/a.c": ("vmlinux",), "net/b.c": ("b_mod",)}
    assert found.included == {"fs/part.c": ("fs/a.c",)}
    kit.vmlinux.unlink()
    assert units.units(kit, progress=Silent()) == found
