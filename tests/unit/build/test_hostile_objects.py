"""Damaged and hostile objects end in an error or an answer: within 2 s and 512 MiB, never in a traceback."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from makers.damage import Ground, compared, limited, symbols_of

CASES = int(os.environ.get("KMEND_FUZZ_CASES", "10000"))
FUNCTIONS = """.file "file.c"
.section .text.first,"ax"
.globl first
.type first,@function
first: call __fentry__
mov $NUMBER,%eax
CODE
ret
.size first,.-first
.section .text.second,"ax"
.globl second
.type second,@function
second: call __fentry__
CODE
ret
.size second,.-second
"""


def hostile_pair(folder: Path, code: str, data: Iterable[str]) -> str:
    """How it ends when two objects are compared that differ in one number; run within the limits."""
    text = FUNCTIONS.replace("CODE", code) + "".join(data)
    for number, name in enumerate(("original", "fixed"), start=1):
        (folder / f"{name}.s").write_text(text.replace("NUMBER", str(number)))
        subprocess.run(["as", "-o", f"{name}.o", f"{name}.s"], cwd=folder, check=True)
    (folder / "symbols").write_bytes(symbols_of(folder / "original.o"))
    paths = [folder / name for name in ("original.o", "fixed.o", "symbols")]
    ((_, outcome),) = limited(lambda _: compared(*paths), [0])
    return outcome


def test_any_damage_ends_in_an_error_or_an_answer(tmp_path: Path) -> None:
    """Cut files, random bytes, absurd counts, offsets and indexes: always a message that somebody foresaw."""
    found = Counter[str]()
    for case, outcome in limited(Ground(tmp_path).outcome, range(CASES)):
        kind = outcome.split(" ", 1)[0]
        assert kind in {"built", "refused", "same", "error"}, f"case {case}: {outcome}"
        assert "cannot be compared" not in outcome, f"case {case}: {outcome}"
        found[kind] += 1
    assert sum(found.values()) == CASES
    assert min(found["built"], found["refused"], found["error"]) > CASES // 100


def zeros(count: int, flags: str) -> list[str]:
    """Sections that take no space in the file."""
    return [f'.section .room.{at},"{flags}",@nobits\n.zero {20 << 20}\n' for at in range(count)]


def chain(length: int) -> list[str]:
    """Constants of which each refers twice to the next, so that there are 2**length ways through them."""
    links = [
        f'.section .rodata.part.{at},"a"\n.quad .rodata.part.{at + 1}\n.quad .rodata.part.{at + 1}\n'
        for at in range(length)
    ]
    return [*links, f'.section .rodata.part.{length},"a"\n.quad NUMBER\n']


def tails() -> list[str]:
    """A long string, and a pointer to each of its tails."""
    text = '.section .rodata.str1.1,"aMS",@progbits,1\n.fill 200000,1,65\n.byte 0\n.section .data.q,"aw"\nq:\n'
    return [text, *(f".quad .rodata.str1.1+{at}\n" for at in range(3000))]


def wide() -> list[str]:
    """Many variables that want to stand at a multiple of 2 MiB."""
    return ['.section .data,"aw"\n.balign 0x200000\n', *(f"v{at}: .byte 1\n" for at in range(600))]


@pytest.mark.parametrize(
    ("code", "data", "says"),
    [
        ("", lambda: zeros(3, "ax"), "is code, but takes no space"),
        ("", lambda: zeros(4, "aw"), "larger than any object"),
        ("movq $.rodata.part.0, %rax", lambda: chain(40), "refer to each other without end"),
        ("movq $q, %rax", tails, "overlap too much"),
        ("movq $v3, %rax", wide, "bytes of alignment"),
    ],
)
def test_a_small_file_cannot_ask_for_much(
    tmp_path: Path, code: str, data: Callable[[], list[str]], says: str
) -> None:
    """What would cost gigabytes or hours is refused with a reason."""
    assert says in hostile_pair(tmp_path, code, data())


def test_the_limits_are_held(tmp_path: Path) -> None:
    """A case that goes on without end, takes too much memory, or raises is told, and the next one is run."""

    def work(case: int) -> str:
        while case == 1:
            pass
        return str(len(bytes((1 << 30) if case == 2 else 5) + b"" * (1 // (case - 3))))

    found = dict(limited(work, range(5)))
    assert found[0] == found[4] == "5"
    assert found[1] == "killed: -27"
    assert found[2].startswith("raised: MemoryError")
    assert found[3].startswith("raised: ZeroDivisionError")


def test_addresses_wrap_around(tmp_path: Path) -> None:
    """A relocation with the largest number that there is stays the same relocation."""
    code = "movabs $v+0x7fffffffffffffff, %rax\nmovabs $v-0x8000000000000000, %rax"
    assert hostile_pair(tmp_path, code, ['.section .data.v,"aw"\n.quad 0\n.globl v\nv: .quad 0\n']) == "built"
