"""The proof that a recompiled original is the code that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmend.build.verify import Proof, prove
from kmend.elf.objects import ObjectCode
from kmend.elf.running import Running
from kmend.model.fix import Objection, ObjectionCode
from makers.objects import compile_c, link_kernel, link_module

SOURCE = """
static int table[8] = {1, 2, 3};
static noinline int helper(int x) { return x * 3 + consume(table); }
int big(int x) { if (x > 1234) printk("big %d\\n", x); return helper(x) + table[2]; }
int tail(int x) { return helper(x + 2); }
int loop(int n) { int s = 0; while (n--) s += consume(&n); return s; }
int digit(void) { int s = 0; for (long i = 1; i < 9; i++) s += "0123456789"[i] * consume(&s); return s; }
"""
FUNCTIONS = ("helper", "big", "tail", "loop", "digit")


def running(folder: Path, text: str, kind: str) -> Running:
    """What a host runs, linked from that text: the kernel or a module."""
    link = link_kernel if kind == "kernel" else link_module
    return link(folder / "running", {"file.c": text})


def proof(folder: Path, ours: str, theirs: str, name: str, *, kind: str = "kernel") -> Proof | Objection:
    """Whether one function of ``ours`` is the code that ``theirs`` was linked into."""
    code = ObjectCode(compile_c(folder / "ours", ours))
    machine = running(folder, theirs, kind)
    blocks = machine.blocks_like(code)
    return prove(code.functions[name], running=machine, block=blocks[0] if blocks else None, place="file.o")


@pytest.mark.parametrize("kind", ["kernel", "module"])
def test_the_same_source_is_proven_whole(tmp_path: Path, kind: str) -> None:
    """Every byte is compared and every relocated field is followed, in the kernel and in a module."""
    code = ObjectCode(compile_c(tmp_path / "ours", SOURCE))
    machine = running(tmp_path, SOURCE, kind)
    (block,) = machine.blocks_like(code)
    for name in FUNCTIONS:
        piece = code.functions[name]
        found = prove(piece, running=machine, block=block, place="file.o")
        assert isinstance(found, Proof), found
        assert found.fields_masked == 0
        assert found.fields_resolved == len(piece.references)
        assert found.bytes_proven >= piece.size - 5 * len(piece.references)


def test_a_tail_jump_may_be_shorter_where_it_is_linked(tmp_path: Path) -> None:
    """The linked code jumps to its neighbour in two bytes; ours needs a relocation for it."""
    machine = running(tmp_path, SOURCE, "kernel")
    ours = ObjectCode(compile_c(tmp_path / "ours", SOURCE)).functions["tail"]
    symbol = machine.find("tail", None)
    assert symbol is not None
    assert symbol.size < ours.size
    assert isinstance(proof(tmp_path, SOURCE, SOURCE, "tail"), Proof)


def test_a_short_tail_jump_to_another_function_is_a_difference(tmp_path: Path) -> None:
    """Two bytes of jump are followed like any other."""
    source = SOURCE + "static noinline int other(int x) { return x * 5 + consume(0); }\n"
    ours = source + "int last(int x) { return other(x + 2) ; }\nint keep(int x) { return helper(x) + 1; }\n"
    theirs = source + "int last(int x) { return helper(x + 2) ; }\nint keep(int x) { return other(x) + 1; }\n"
    found = proof(tmp_path, ours, theirs, "last")
    assert isinstance(found, Objection)
    assert "refers to something else" in found.reason


@pytest.mark.parametrize(
    ("old", "new", "name", "cause"),
    [
        ("x > 1234", "x > 1235", "big", "operand differs"),
        ("big %d", "bad %d", "big", "literal differs"),
        ("return helper(x) + table[2]", "return helper(x) + table[3]", "big", "something else"),
        ("s += consume(&n)", "s += observe(&n)", "loop", "something else"),
        ("while (n--) s += consume(&n)", "while (n--) s -= consume(&n)", "loop", "another instruction"),
        ("i < 9", "i < 8", "digit", "literal differs"),
        ('"0123456789"', '"9876543210"', "digit", "literal differs"),
    ],
    ids=[
        "constant",
        "string",
        "offset",
        "call",
        "instruction",
        "end of a loop through a string",
        "string of a loop",
    ],
)
def test_a_difference_is_shown(tmp_path: Path, old: str, new: str, name: str, cause: str) -> None:
    """Whatever differs is refused with the first differing instruction on both sides and the likely cause."""
    assert old in SOURCE
    for kind in ("kernel", "module"):
        found = proof(tmp_path / kind, SOURCE, SOURCE.replace(old, new), name, kind=kind)
        assert isinstance(found, Objection)
        assert found.code == ObjectionCode.MISMATCH
        assert cause in found.reason or (kind, cause) == ("module", "something else")
        ours, theirs = found.evidence
        assert ours.startswith("recompiled  +0x")
        assert theirs.startswith("running     +0x")
        assert ours.partition(": ")[2] != theirs.partition(": ")[2]


def test_a_jump_to_another_place_within_is_a_difference(tmp_path: Path) -> None:
    """Distances of inner jumps are compared by where they lead to."""
    ours = 'int f(int x) { asm volatile("jmp 1f\\n nop\\n 1: nop\\n 2: nop"); return x; }'
    found = proof(tmp_path, ours, ours.replace("jmp 1f", "jmp 2f"), "f")
    assert isinstance(found, Objection)
    assert "the jump goes elsewhere" in found.reason


def test_a_function_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Its name alone is missing."""
    found = proof(tmp_path, SOURCE, SOURCE.replace("tail", "tall"), "tail")
    assert isinstance(found, Objection)
    assert "no function of this name" in found.reason


def test_a_weak_function_that_another_file_overrides_is_refused(tmp_path: Path) -> None:
    """Though both hold the same code: the running one belongs to the other file."""
    weak = "__attribute__((weak)) int arch(int x) { return x + 1; }\n"
    code = ObjectCode(compile_c(tmp_path / "ours", SOURCE + weak))
    machine = link_kernel(
        tmp_path / "running", {"file.c": SOURCE + weak, "arch.c": "int arch(int x) { return x + 1; }"}
    )
    (block,) = machine.blocks_like(code)
    found = prove(code.functions["arch"], running=machine, block=block, place="file.o")
    assert isinstance(found, Objection)
    assert "in place of this weak one" in found.reason
    alone = link_kernel(tmp_path / "alone", {"file.c": SOURCE + weak})
    assert isinstance(prove(code.functions["arch"], running=alone, block=block, place="file.o"), Proof)


def test_a_static_function_is_never_taken_for_a_global_namesake(tmp_path: Path) -> None:
    """A file whose own function is not there is not helped by one that another file exports."""
    ours = "static used noinline int reset(int x) { return x; }\nint use(int x) { return consume(&x); }\n"
    code = ObjectCode(compile_c(tmp_path / "ours", ours))
    machine = link_kernel(
        tmp_path / "running",
        {"file.c": "int use(int x) { return consume(&x); }", "b.c": "int reset(int x) { return x; }"},
    )
    assert machine.blocks_like(code) == []
    found = prove(code.functions["reset"], running=machine, block=None, place="file.o")
    assert isinstance(found, Objection)


def test_constants_without_a_name_are_compared(tmp_path: Path) -> None:
    """An initializer that the compiler put aside is part of the proof."""
    source = "int f(int x) { int a[16] = {9,8,7,6,5,4,3,2,1,0,1,2,3,4,5,77}; consume(a); return a[x]; }"
    assert isinstance(proof(tmp_path, source, source, "f"), Proof)
    found = proof(tmp_path / "b", source, source.replace("{9,", "{8,"), "f")
    assert isinstance(found, Objection)
