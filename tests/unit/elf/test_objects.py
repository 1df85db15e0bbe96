"""Objects taken apart: pieces, and what each refers to."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmend.elf import constants as c
from kmend.elf.names import is_private_static, is_static_local, parent_of, unnumbered
from kmend.elf.objects import Content, ObjectCode, Piece, Undefined
from kmend.elf.tables import ORC_IP, entries_by_function
from kmend.elf.writer import OutObject, OutSymbol
from kmend.kit.errors import InputError
from makers.objects import SIZES, compile_c


def code(folder: Path, text: str) -> ObjectCode:
    """A compiled text."""
    return ObjectCode(compile_c(folder, text))


def targets(piece: Piece) -> list[tuple[str, int]]:
    """What a piece refers to: name (or literal) and bytes into it."""
    return [
        (repr(one.target.data) if isinstance(one.target, Content) else one.target.name, one.delta)
        for one in piece.references
    ]


def test_every_function_and_variable_is_a_piece(tmp_path: Path) -> None:
    """By name, with size and binding; aliases lead to the same piece."""
    found = code(
        tmp_path,
        "static int v[3] = {1}; int f(int x) { return consume(v) + x; }\n"
        'extern int g(int) __attribute__((alias("f")));',
    )
    assert set(found.functions) == {"f", "g"}
    assert found.functions["f"] is found.functions["g"]
    assert found.data["v"].size == 12
    assert found.data["v"].is_local
    assert found.data["v"].is_writable
    assert not found.functions["f"].is_local
    assert found.file_name() == "file.c"


def test_a_reference_counts_from_the_end_of_the_instruction(tmp_path: Path) -> None:
    """An immediate after the address moves the place that a PC-relative value counts from."""
    found = code(
        tmp_path,
        "static int v[4] = {1};\nint f(void) {"
        ' asm volatile("movl $5, v+8(%rip)\\n movb $1, v(%rip)\\n call observe"); return consume(v); }',
    )
    relative = [one for one in found.functions["f"].references if one.type in c.PC_RELATIVE]
    _fentry, first, second, call, *_ = relative
    assert (first.adjust, first.delta) == (8, 8)
    assert (second.adjust, second.delta) == (5, 0)
    assert (call.adjust, call.delta, call.is_branch) == (4, 0, True)
    assert {first.target, second.target} == {found.data["v"]}


def test_places_beside_a_variable_keep_their_distance(tmp_path: Path) -> None:
    """The end of an array belongs to the array, not to what happens to follow."""
    found = code(
        tmp_path,
        "static int a[4] = {1}, b[4] = {2};\n"
        "int f(void) { int s = 0; for (int *p = a; p < a + 4; p++) s += consume(p) + consume(b); return s; }\n"
        "int g(long i) { return consume(a - 1) + b[i + 9]; }\n",
    )
    assert ("a", 16) in targets(found.functions["f"])
    assert {("a", -4), ("b", 36)} <= set(targets(found.functions["g"]))


def test_literals_are_known_by_what_they_hold(tmp_path: Path) -> None:
    """Strings with their NUL, from their first byte, with the distance to it; wide ones whole."""
    found = code(
        tmp_path,
        'const char *f(void) { return "abc" + 4; }\nconst char *tail(void) { consume("xabc"); return "abc"; }\n'
        'int w(void) { return consume(L"\\u0100AB"); }\n',
    )
    assert (r"b'abc\x00'", 4) in targets(found.functions["f"])
    assert {r"b'abc\x00'", r"b'xabc\x00'"} <= {name for name, _ in targets(found.functions["tail"])}
    (wide,) = [one.target for one in found.functions["w"].references if isinstance(one.target, Content)]
    assert wide.data == "\u0100AB\0".encode("utf-16-le")


def test_branches_within_a_shared_section_are_references(tmp_path: Path) -> None:
    """The assembler has resolved them; their bytes are cleared, and they point to the neighbour."""
    text = 'in_section(".s") noinline static int near(int x) { return consume(&x) + 1; }\n'
    found = code(tmp_path, text + 'in_section(".s") int far(int x) { return near(x) + near(x + 1) + 2; }\n')
    near, far = found.functions["near"], found.functions["far"]
    calls = [one for one in far.references if one.target is near]
    assert len(calls) == 2
    for call in calls:
        assert call.is_branch
        assert call.delta == 0
        assert far.code[call.offset : call.offset + 4] == bytes(4)
    assert near.fixed_branches == far.fixed_branches == ()


def test_a_label_inside_does_not_divide_a_function(tmp_path: Path) -> None:
    """Nor a variable: both stay whole, and references to the label count into them."""
    found = code(
        tmp_path,
        'int f(int x) { asm volatile("nop\\n.globl inner\\ninner: nop"); return consume(&x); }\n'
        "extern char inner[]; int g(void) { return consume(inner); }\n",
    )
    assert "inner" not in found.functions
    (inner,) = [one for one in found.functions["g"].references if one.target is found.functions["f"]]
    assert inner.delta > 0
    assert found.functions["f"].size == found.functions["f"].section.size


def test_what_another_object_defines_is_a_name(tmp_path: Path) -> None:
    """With the distance that the reference has from it."""
    found = code(tmp_path, "extern int far[9]; int f(void) { return far[3] + consume(far); }")
    assert {("far", 12), ("far", 0), ("consume", 0)} <= set(targets(found.functions["f"]))
    assert all(isinstance(one.target, Undefined) for one in found.functions["f"].references)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('asm(".comm shared, 4, 4");', "common symbol"),
        ('asm(".section .x,\\"ax\\"\\n.globl q\\nq: .long far@GOTPCREL\\n.text");', "relocation type"),
    ],
)
def test_what_no_kernel_object_holds_is_refused(tmp_path: Path, text: str, what: str) -> None:
    """With the place and what to do."""
    with pytest.raises(InputError, match=what):
        code(tmp_path, text)


def test_a_linked_file_is_refused(tmp_path: Path) -> None:
    """It has no relocations to follow."""
    path = compile_c(tmp_path, "int f(void) { return 1; }")
    content = bytearray(path.read_bytes())
    content[16] = 2
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a relocatable"):
        ObjectCode(path)


def test_table_entries_belong_to_their_functions(tmp_path: Path) -> None:
    """Each entry with its own bytes and its references counted from its start."""
    bug = '.pushsection __bug_table,\\"aw\\"\\n.long 1b - ., 0\\n.word %d, 0\\n.popsection'
    text = "".join(
        f'int f{number}(int x) {{ asm volatile("1: ud2\\n{bug % number}"); return x; }}\n' for number in (7, 8)
    )
    found = code(tmp_path, text)
    entries = entries_by_function(found, SIZES)
    for number in (7, 8):
        (entry,) = [one for one in entries[found.functions[f"f{number}"]] if one.table == "__bug_table"]
        assert entry.data[8] == number
        assert entry.references[0].offset == 0
        assert entry.references[0].target is found.functions[f"f{number}"]


def test_half_an_entry_is_refused(tmp_path: Path) -> None:
    """The size of entries comes from the kernel; a table that does not fit is not guessed at."""
    table = '.pushsection __ex_table,\\"a\\"\\n.long 1b - ., 1b - .\\n.popsection'
    found = code(tmp_path, f'int f(int x) {{ asm volatile("1: nop\\n{table}"); return x; }}')
    with pytest.raises(InputError, match="not a multiple"):
        entries_by_function(found, SIZES)
    with pytest.raises(InputError, match="does not know struct exception_table_entry"):
        entries_by_function(found, {})


def test_every_function_of_a_shared_section_knows_how_to_unwind(tmp_path: Path) -> None:
    """Where the neighbour ends in the same state there is no entry; taken out, the function needs one."""
    unwind = "".join(
        f'.pushsection .orc_unwind_ip,\\"a\\"\\n.long {label} - .\\n.popsection\\n'
        f'.pushsection .orc_unwind,\\"a\\"\\n.word {value}, 0, 0\\n.popsection\\n'
        for label, value in (("one", 8), ("one + 4", 16), ("three + 2", 32))
    )
    text = "".join(
        f'in_section(".s") int {name}(int x) {{ asm volatile("nop; nop; nop"); return x; }}\n'
        for name in ("one", "two", "three")
    )
    found = code(tmp_path, text + f'asm("{unwind}");')
    entries = entries_by_function(found, SIZES)
    unwinding = {
        name: [
            (one.references[0].delta, one.code[0]) for one in entries[found.functions[name]] if one.table == ORC_IP
        ]
        for name in ("one", "two", "three")
    }
    assert unwinding == {"one": [(0, 8), (4, 16)], "two": [(0, 16)], "three": [(0, 16), (2, 32)]}


def test_unwind_tables_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """One of the two is shorter."""
    text = 'int f(int x) { return x; } asm(".pushsection .orc_unwind_ip,\\"a\\"\\n.long f - .\\n.popsection");'
    with pytest.raises(InputError, match="do not fit together"):
        entries_by_function(code(tmp_path, text), SIZES)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("foo", "foo"),
        ("foo.isra.0", "foo.isra"),
        ("foo.constprop.12.isra.3.cold", "foo.constprop.isra.cold"),
        ("foo.part.0.cold", "foo.part.cold"),
        ("seen.7", "seen."),
        ("__UNIQUE_ID_ddebug123.45", "__UNIQUE_ID_ddebug."),
        ("__UNIQUE_ID_alias12", "__UNIQUE_ID_alias"),
        (".data.__UNIQUE_ID_state12", ".data.__UNIQUE_ID_state"),
        ("__BTF_ID__struct__bpf_shtab2__8141419", "__BTF_ID__struct__bpf_shtab2__"),
        ("x86_64", "x86_64"),
    ],
)
def test_numbers_of_the_compiler_are_left_out(name: str, plain: str) -> None:
    """All others stay."""
    assert unnumbered(name) == plain


def test_which_statics_may_be_copied() -> None:
    """Only numbered ones of a macro or the compiler; constants only where they cannot change."""
    copied = [
        "__warned.3",
        "__already_done.12",
        "__func__.4",
        "__key.1",
        "_rs.9",
        "CSWTCH.18",
        "C.3.1234",
        "__msg.2",
    ]
    assert all(is_private_static(name, is_writable=False) for name in copied)
    shared = [
        "__warned",
        "_rs",
        "__key",
        "___done.3",
        "___once_key.2",
        "seen.4",
        "descriptor",
        "descriptor.2",
        "C",
        "C.4",
    ]
    assert not any(is_private_static(name, is_writable=False) for name in shared)
    assert is_private_static("__compound_literal.0", is_writable=False)
    assert not is_private_static("__compound_literal.0", is_writable=True)
    assert is_private_static("__UNIQUE_ID_ddebug12.3", is_writable=True)
    assert is_static_local("seen.4")
    assert not is_static_local("seen")
    assert parent_of("foo.isra.0.cold") == "foo.isra.0"


def test_room_before_a_function_belongs_to_it(tmp_path: Path) -> None:
    """Padding that objtool marks with __pfx_ is no piece; what points into it points before the function."""
    out = OutObject()
    text = out.section(".text.f", flags=c.SHF_ALLOC | c.SHF_EXECINSTR, align=16)
    text.append(b"\x90" * 16 + b"\xc3")
    function = out.symbol(OutSymbol("f", text, 16, 1, c.STB_LOCAL, c.STT_FUNC))
    out.symbol(OutSymbol("__pfx_f", text, 0, 16, c.STB_LOCAL, c.STT_FUNC))
    out.section("sites").append(bytes(4))
    out.section("sites").relocations.append((0, c.R_X86_64_PC32, function, -16))
    path = tmp_path / "padded.o"
    path.write_bytes(out.to_bytes())
    found = ObjectCode(path)
    assert [(one.name, one.padding) for one in found.pieces() if one.section.is_text] == [("f", 16)]
    assert targets(found.tables("sites")[0]) == [("f", -16)]
    assert [one.name for one in found.file_locals()] == ["f"]
