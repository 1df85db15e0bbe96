"""Real ELF objects for tests: small C files compiled as the kernel's are, and what runs linked from them."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from kmend.build.compare import Difference, compare
from kmend.build.view import Export
from kmend.elf.objects import ObjectCode
from kmend.elf.reader import ElfFile
from kmend.elf.running import VMLINUX, Block, Running, RunningKernel, RunningModule

COMPILER = "gcc-12"
KERNEL_FLAGS = (
    "-std=gnu11", "-O2", "-ffreestanding", "-nostdinc", "-fno-pic", "-fno-pie", "-mcmodel=kernel", "-mno-red-zone",
    "-mno-sse", "-mno-mmx", "-m64", "-fshort-wchar", "-fno-common", "-fno-strict-aliasing", "-fno-jump-tables",
    "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-fno-stack-protector", "-pg",
    "-mrecord-mcount", "-mfentry", "-falign-jumps=1", "-falign-loops=1", "-Wno-builtin-declaration-mismatch",
    "-g0",
)  # fmt: skip
"""As Debian's kernels have them, without what needs kernel headers."""
SECTIONS = ("-ffunction-sections", "-fdata-sections")
SIZES = {
    "alt_instr": 12,
    "bug_entry": 12,
    "exception_table_entry": 12,
    "jump_entry": 16,
    "orc_entry": 6,
    "paravirt_patch_site": 16,
    "static_call_site": 8,
}
"""Structures of special sections in Linux 6.1."""
BASE = 0xFFFFFFFF81000000
PRELUDE = """\
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long u64;
#define noinline __attribute__((noinline))
#define used __attribute__((used))
#define cold __attribute__((cold))
#define in_section(name) __attribute__((section(name)))
extern int printk(const char *text, ...);
extern int consume(void *thing), observe(void *thing);
"""
OUTSIDE = """\
int printk(const char *text, ...) { return 0; }
int consume(void *thing) { return 1; }
int observe(void *thing) { return 2; }
void __fentry__(void) { }
"""
_LAYOUT = """
SECTIONS {
  .data..percpu 0 : { *(.data..percpu) }
  . = 0xffffffff81000000;
  .text : { *(.text .text.unlikely .text.*) *(.sched.text) }
  .rodata : { *(.rodata .rodata.*) }
  .data : { *(.data .data.* __jump_table __bug_table) }
  .bss : { *(.bss .bss.*) }
  /DISCARD/ : { *(.comment .note.* __mcount_loc) }
}
"""


def compile_c(
    folder: Path, text: str, *, name: str = "file.c", out: str = "file.o", flags: tuple[str, ...] = SECTIONS
) -> Path:
    """One object; the file's name ends up in its FILE symbol."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(PRELUDE + text)
    subprocess.run(
        [COMPILER, *KERNEL_FLAGS, *flags, "-c", "-o", out, name],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return folder / out


def make_difference(folder: Path, original: str, fixed: str, *, name: str = "file.c") -> Difference:
    """Two versions of a file, compiled and compared."""
    before = compile_c(folder / "original", original, name=name)
    after = compile_c(folder / "fixed", fixed, name=name)
    return compare(ObjectCode(before), ObjectCode(after), SIZES)


def link_kernel(folder: Path, files: Mapping[str, str]) -> RunningKernel:
    """A linked kernel of some files, compiled without sections of their own as distributions do."""
    objects = [
        compile_c(folder, text, name=Path(name).name, out=f"running{number}.o", flags=("-g0",))
        for number, (name, text) in enumerate(files.items())
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "layout.lds").write_text(_LAYOUT)
    (folder / "outside.c").write_text(OUTSIDE)
    flags = [one for one in KERNEL_FLAGS if one not in {"-pg", "-mrecord-mcount", "-mfentry"}]
    subprocess.run([COMPILER, *flags, "-c", "outside.c"], cwd=folder, check=True)
    subprocess.run(
        ["ld", "-m", "elf_x86_64", "-T", "layout.lds", "-e", "0", "-o", "vmlinux", *objects, "outside.o"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return RunningKernel(folder / "vmlinux")


def link_module(folder: Path, files: Mapping[str, str], *, name: str = "small") -> RunningModule:
    """A module of some files, linked but not relocated."""
    folder.mkdir(parents=True, exist_ok=True)
    objects = [
        compile_c(folder, text, name=file, out=f"{name}{number}.o", flags=("-g0", "-DMODULE"))
        for number, (file, text) in enumerate(files.items())
    ]
    subprocess.run(["ld", "-r", "-o", f"{name}.ko", *objects], cwd=folder, check=True)
    return RunningModule(name, folder / f"{name}.ko", ElfFile(folder / f"{name}.ko"))


def block_of(running: Running, path: Path) -> Block:
    """The one block that an object stems from."""
    (block,) = running.blocks_like(ObjectCode(path))
    return block


class FakeView:
    """What KernelView knows of a kernel, made of parts."""

    def __init__(
        self, vmlinux: RunningKernel, *modules: RunningModule, exports: Mapping[str, str] | None = None
    ) -> None:
        self.vmlinux = vmlinux
        self.sizes = SIZES
        self.klp_sizes = {"klp_func": 24, "klp_object": 16}
        self.exports = {name: Export(0x1234, owner, "") for name, owner in (exports or {}).items()}
        self._modules = {module.name: module for module in modules}

    def running(self, name: str) -> Running | None:
        """The kernel or a module."""
        return self.vmlinux if name == VMLINUX else self._modules.get(name)

    def sample_module(self) -> ElfFile:
        """Any module."""
        return next(iter(self._modules.values())).elf


def warnings_of(path: Path) -> str:
    """What readelf has to say against a file."""
    done = subprocess.run(["readelf", "-aW", path], capture_output=True, text=True, check=False)
    bad = [line for line in done.stdout.splitlines() if "Warning" in line or "<corrupt" in line]
    return "\n".join([done.stderr, *bad]).strip()
