"""Programs of two objects, run in user space: the fixed one, and the original with what the differ took out."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kmend.cli.object_diff import object_diff
from kmend.elf import constants as c
from kmend.elf.reader import ElfFile
from makers.objects import COMPILER

_KLP = re.compile(r"^\.klp\.rela\.vmlinux/\.klp\.sym\.vmlinux\.(.+),0$")
_HAS_PLACE = {c.STT_FUNC, c.STT_OBJECT}
_MAIN = """
int printf(const char *, ...), mprotect(void *, unsigned long, int);
extern unsigned (*entries[])(unsigned);
extern char *redirected[];
static unsigned sum = 1;
void note(const char *text, unsigned x) { while (*text) sum = sum * 31 + *text++; sum = sum * 31 + x; }
void fail(const char *text, unsigned x) { note(text, x + 1); sum ^= 77; }
unsigned call(unsigned (*function)(unsigned), unsigned x) { sum += 3; return function(x); }
asm(".globl __fentry__\\n__fentry__: ret");
int main(void) {
  for (char **pair = redirected; *pair; pair += 2) {  /* as the kernel's tracer does: the first five bytes */
    mprotect((void *)((unsigned long)pair[0] & -4096), 8192, 7);
    pair[0][0] = 0xe9;
    *(int *)(pair[0] + 1) = pair[1] - pair[0] - 5;
  }
  for (unsigned round = 0; round < 40; round++)
    for (int at = 0; entries[at]; at++) printf("%d: %u, %u\\n", at, entries[at](round * round * 2654435u), sum);
  return 0;
}
"""


def main_object(folder: Path) -> Path:
    """What calls the functions of a program and prints what they do; made once for all programs."""
    (folder / "main.c").write_text(_MAIN)
    subprocess.run([COMPILER, "-O1", "-fno-pie", "-w", "-c", "main.c"], cwd=folder, check=True)
    return folder / "main.o"


def printed(
    folder: Path, objects: Sequence[Path], *, entries: Iterable[str], redirected: Mapping[str, str] | None = None
) -> str:
    """What a program prints that is linked from these objects and calls the entries.

    Args:
        folder: Where to work.
        objects: main.o and the others.
        entries: Functions that are called, in this order.
        redirected: Old functions to new ones: jumps that are written before anything is called.
    """
    rows = [word for pair in (redirected or {}).items() for word in pair]
    text = ".data\n.globl entries, redirected\nentries:\n" + "".join(f".quad {one}\n" for one in (*entries, "0"))
    text += "redirected:\n" + "".join(f".quad {one}\n" for one in (*rows, "0"))
    (folder / "table.s").write_text(text)
    words = [COMPILER, "-no-pie", "-o", "program", "table.s", *objects]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return subprocess.run([folder / "program"], check=True, capture_output=True, text=True, timeout=20).stdout


def differ(folder: Path, original: Path, fixed: Path) -> tuple[int, dict[str, Any]]:
    """The exit code of ``kmend object-diff`` and its report; OUT.o stands in the folder."""
    symbols = subprocess.run(["readelf", "--symbols", "--wide", original], capture_output=True, check=True).stdout
    (folder / "symbols").write_bytes(symbols)
    words = [original, fixed, "--object", "vmlinux", "--symtab", folder / "symbols", "--name", "fix"]
    words += ["-o", folder / "OUT.o", "--json", folder / "report"]
    code: int = object_diff.main([str(word) for word in words], standalone_mode=False)
    return code, json.loads((folder / "report").read_text())


def printed_livepatched(
    folder: Path, main: Path, original: Path, *, report: Mapping[str, Any], entries: Iterable[str]
) -> str:
    """What the original prints once its functions are redirected into the OUT.o that differ() has left."""
    out = folder / "OUT.o"
    names = {one.name: match[1] for one in ElfFile(out).symbols if (match := _KLP.match(one.name))}
    assert sorted(names.values()) == sorted(one["name"] for one in report["klp_symbols"])
    whole, part = _resolved(folder, original, out, names)
    redirected = {one["name"]: f".kmend.fix.{one['name']}" for one in report["functions"]}
    return printed(folder, [main, whole, part], entries=entries, redirected=redirected)


def _resolved(folder: Path, original: Path, out: Path, names: Mapping[str, str]) -> tuple[Path, Path]:
    """The original object with its local symbols made global, and OUT.o with plain names for its klp symbols.

    ``names`` are the klp symbols' names to link with, and what they are called in the original.
    """
    (folder / "names").write_text("".join(f"{klp} {plain}\n" for klp, plain in names.items()))
    (folder / "ours").write_text(
        "".join(f"{one.name}\n" for one in ElfFile(original).symbols if one.type in _HAS_PLACE)
    )
    subprocess.run(
        ["objcopy", "--globalize-symbols=ours", original, "whole.o"], cwd=folder, check=True, capture_output=True
    )
    subprocess.run(
        ["objcopy", "--redefine-syms=names", out, "part.o"], cwd=folder, check=True, capture_output=True
    )
    return folder / "whole.o", folder / "part.o"
