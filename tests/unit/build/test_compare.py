"""What a fix changes, and what only looks like it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmend.build.check import objections
from kmend.build.compare import Difference
from kmend.model.fix import ObjectionCode
from makers.objects import make_difference

SOURCE = """
static int counter = 7;
static const u8 policy[4] = {1, 2, 3, 4};
static noinline int helper(int x) { return x * 3 + consume(&counter); }
static noinline int quiet(int x) { return policy[x & 3] + consume(0); }
int first(int x) { if (x > 5) printk("first %d\\n", x); return helper(x) + 1; }
int second(int x) { static int seen; seen += x; return quiet(seen) - helper(x); }
void bug(int line) {
  if (line) asm volatile("1: ud2\\n.pushsection __bug_table,\\"aw\\"\\n.long 1b - ., 0\\n"
                         ".word %c0, 0\\n.popsection" : : "i"(__LINE__)); }
"""


def changed(difference: Difference) -> set[str]:
    """Names of the functions that differ."""
    return {change.fixed.name for change in difference.changed}


def is_empty(difference: Difference) -> bool:
    """Whether nothing at all was found."""
    return not (
        difference.changed
        or difference.new_functions
        or difference.changed_data
        or difference.changed_sections
        or difference.ambiguous
        or difference.removed_data
        or difference.new_data
    )


def codes(difference: Difference) -> set[ObjectionCode]:
    """What the builder objects to."""
    return {one.code for one in objections(difference, place="file.o")}


def edited(folder: Path, old: str, new: str, source: str = SOURCE) -> Difference:
    """The difference that one replacement makes."""
    assert old in source
    return make_difference(folder, source, source.replace(old, new, 1))


def test_nothing_differs_from_itself(tmp_path: Path) -> None:
    """The same source gives an empty difference."""
    assert is_empty(make_difference(tmp_path, SOURCE, SOURCE))


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("x > 5", "x > 6", {"first"}),
        ("first %d", "First %d", {"first"}),
        ("x * 3", "x * 5", {"helper"}),
        ("quiet(seen)", "helper(seen)", {"second"}),
        ("policy[x & 3]", "policy[x & 1]", {"quiet"}),
        ("consume(&counter)", "consume(&counter + 1)", {"helper"}),
        ("consume(&counter)", "consume((void *)policy)", {"helper"}),
    ],
)
def test_exactly_the_changed_function_is_found(tmp_path: Path, old: str, new: str, names: set[str]) -> None:
    """Constants, literals, callees and what data is used all count; neighbours and callers do not."""
    difference = edited(tmp_path, old, new)
    assert changed(difference) == names
    assert all(change.reason for change in difference.changed)


def test_an_entry_of_a_special_section_is_a_change_by_itself(tmp_path: Path) -> None:
    """The flags of a BUG are data of the function: the code is the same."""
    difference = edited(tmp_path, ".word %c0, 0", ".word %c0, 1")
    assert changed(difference) == {"bug"}
    assert "__bug_table" in difference.changed[0].reason


@pytest.mark.parametrize(
    ("section", "flags", "entry"),
    [
        ("__ex_table", "a", ".long 1b - ., 2b - ., %c0"),
        ("__jump_table", "aw", ".long 1b - ., 2b - .\\n.quad key + %c0 - ."),
    ],
)
def test_entries_of_other_tables(tmp_path: Path, section: str, flags: str, entry: str) -> None:
    """The type of an exception's handler, and the flag in a static key's address."""
    table = f'.pushsection {section},\\"{flags}\\"\\n{entry}\\n.popsection'
    source = (
        f'int key[4] = {{1}};\nint f(int x) {{ asm volatile("1: nop\\n2: nop\\n{table}" : : "i"(0)); return x; }}'
    )
    difference = edited(tmp_path, '"i"(0)', '"i"(1)', source)
    assert changed(difference) == {"f"}
    assert section in difference.changed[0].reason


def test_a_new_function_and_its_caller(tmp_path: Path) -> None:
    """The caller differs, the new one is new."""
    difference = edited(
        tmp_path,
        "int first(int x) {",
        "static noinline int check(int x) { return consume(&x) > 3; } int first(int x) { if (check(x)) return -1;",
    )
    assert changed(difference) == {"first"}
    assert [piece.name for piece in difference.new_functions] == ["check"]


def test_a_changed_cold_part_changes_its_function(tmp_path: Path) -> None:
    """The part that is rarely run stands elsewhere; the function itself may be the same byte for byte."""
    source = (
        "extern cold int rare(int x);\nint f(int x) { if (__builtin_expect(x > 99, 0)) "
        '{ rare(x); rare(x + 1); printk("odd\\n"); return rare(3); } return consume(&x); }\n'
    )
    difference = edited(tmp_path, "rare(3)", "rare(4)", source)
    assert "f.cold" in difference.fixed.functions
    assert changed(difference) == {"f"}
    assert "cold part" in difference.changed[0].reason


def test_numbers_of_the_compiler_are_no_change(tmp_path: Path) -> None:
    """A new static variable renumbers all that follow; only the function that uses it differs."""
    source = """
int a(int x) { static int seen; static int limit = 4; seen += x; return consume(&seen) + limit++; }
int b(int x) { static int seen; seen += x; return consume(&seen); }
int c(int x) { return printk(__func__) + x; }
"""
    difference = edited(
        tmp_path, "{ static int seen;", "{ static int more; consume(&more); static int seen;", source
    )
    assert changed(difference) == {"a"}
    assert difference.changed_data == ()
    assert [piece.name.split(".")[0] for piece in difference.new_data] == ["more"]
    numbers = {new.name: old.name for new, old in difference.partner.items() if new.name != old.name}
    assert all(new.split(".")[0] == old.split(".")[0] for new, old in numbers.items())
    assert codes(difference) == set()


def test_static_variables_stay_with_their_functions(tmp_path: Path) -> None:
    """Two of one name are told apart by who uses them, whatever their numbers."""
    source = """
int a(int x) { static int seen = 1; seen += x; return consume(&seen); }
int b(int x) { static int seen = 1; seen -= x; return consume(&seen); }
"""
    difference = edited(
        tmp_path, "int b(", "int c(int x) { static int seen = 1; return consume(&seen); }\nint b(", source
    )
    users = {}
    for side in (difference.original, difference.fixed):
        for function in ("a", "b"):
            targets = [one.target for one in side.functions[function].references]
            (data,) = {one for one in targets if getattr(one, "is_writable", False)}
            users.setdefault(function, []).append(data)
    for old, new in users.values():
        assert difference.partner[new] is old
    assert changed(difference) == set()


def test_static_variables_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    """A function with two of one name gets a third: nobody knows which is which."""
    source = "int a(int x) { { static int n; consume(&n); } { static int n; consume(&n); } return x; }"
    difference = edited(tmp_path, "{ {", "{ { static int n; consume(&n); } {", source)
    assert {piece.name.split(".")[0] for piece in difference.ambiguous} == {"n"}
    assert ObjectionCode.AMBIGUOUS_SYMBOL in codes(difference)


def test_a_variable_that_moves_to_another_function_is_refused(tmp_path: Path) -> None:
    """The same name in another function may be something else."""
    source = "int a(int x) { static int n; return consume(&n); }\nint b(int x) { return consume(0) * 2; }\n"
    fixed = "int a(int x) { return consume(0) * 3; }\nint b(int x) { static int n; return consume(&n); }\n"
    assert ObjectionCode.AMBIGUOUS_SYMBOL in codes(make_difference(tmp_path, source, fixed))


def test_a_renamed_variable_is_refused(tmp_path: Path) -> None:
    """The new one would begin empty while the running kernel goes on with the old one."""
    difference = make_difference(tmp_path, SOURCE, SOURCE.replace("counter", "tally"))
    assert ObjectionCode.REMOVED_STATIC in codes(difference)


def test_clones_of_the_compiler_are_matched_or_new(tmp_path: Path) -> None:
    """Renumbered clones whose code is the same are no change."""
    source = """
static noinline int work(int x, int mode) { int s = x; if (mode) s *= 3; return s + consume(&s); }
int a(int x) { return work(x, 1) + 1; }
int b(int x) { return work(x, 0) + 2; }
int c(int x) { return work(x, x) + 3; }
"""
    difference = edited(tmp_path, "int a(int x)", "int new(int x) { return work(x, 1); }\nint a(int x)", source)
    assert changed(difference) == set()
    assert [piece.name for piece in difference.new_functions] == ["new"]


def test_a_changed_initial_value_is_refused(tmp_path: Path) -> None:
    """The running kernel has the old one."""
    difference = edited(tmp_path, "{1, 2, 3, 4}", "{1, 2, 3, 5}")
    assert [piece.name for piece in difference.changed_data] == ["policy"]
    assert codes(difference) == {ObjectionCode.CHANGED_DATA}


def test_a_changed_pointer_in_data_is_refused(tmp_path: Path) -> None:
    """The bytes are all zero on both sides: the relocation differs."""
    source = SOURCE + "int (*const operations[])(int) = {first, second};\n"
    difference = edited(tmp_path, "{first, second}", "{first, first}", source)
    assert [piece.name for piece in difference.changed_data] == ["operations"]


def test_a_string_behind_a_nameless_constant_is_a_change(tmp_path: Path) -> None:
    """An array of pointers that the compiler put aside: its bytes are zero, what it points to differs."""
    source = (
        'int f(int x) { const char *names[12] = {"a","b","c","d","e","f","g","h","i","j","k","l"};'
        " consume(names); return x; }"
    )
    difference = edited(tmp_path, '"k"', '"K"', source)
    assert changed(difference) == {"f"}


@pytest.mark.parametrize(
    ("text", "section"),
    [
        ('static int (*init)(int) used in_section(".initcall6.init") = helper;', ".initcall6.init"),
        ('static const char info[] used in_section(".modinfo") = "alias=x";', ".modinfo"),
        ('static const void *kbl used in_section("_kprobe_blacklist") = helper;', "_kprobe_blacklist"),
        ('static struct { const char *name; } p used in_section("__param") = { "p" };', "__param"),
        ('static u32 id used in_section(".BTF_ids");', ".BTF_ids"),
    ],
)  # fmt: skip
def test_what_registers_something_is_refused(tmp_path: Path, text: str, section: str) -> None:
    """Initcalls, parameters, aliases and lists act when the kernel or module starts, not afterwards."""
    difference = make_difference(tmp_path, SOURCE, SOURCE + text)
    assert difference.changed_sections == (section,)
    assert ObjectionCode.UNSUPPORTED_SECTION in codes(difference)
    assert is_empty(make_difference(tmp_path / "same", SOURCE + text, SOURCE + text))


def test_numbered_names_in_registering_sections_are_no_change(tmp_path: Path) -> None:
    """Several authors of a module: a new function in front renumbers them, and they stay as they are."""
    info = "".join(
        f'static const char __UNIQUE_ID_author{{{number}}}[] used in_section(".modinfo") = "author={name}";\n'
        for number, name in enumerate("abc")
    )
    before, after = (info.replace("{0}", x).replace("{1}", y).replace("{2}", z) for x, y, z in ("123", "789"))
    difference = make_difference(tmp_path, SOURCE + before, SOURCE.replace("x > 5", "x > 6") + after)
    assert changed(difference) == {"first"}
    assert difference.changed_sections == ()
    assert codes(difference) == set()


def test_init_code_is_refused(tmp_path: Path) -> None:
    """It ran long ago."""
    source = SOURCE + 'int in_section(".init.text") setup(int x) { return consume(&x) + 1; }\n'
    assert codes(edited(tmp_path, "consume(&x) + 1", "consume(&x) + 2", source)) == {ObjectionCode.INIT_CODE}


def test_a_function_that_cannot_be_traced_is_refused(tmp_path: Path) -> None:
    """Without a call to __fentry__ there is nothing to redirect; it is the running one that counts."""
    source = SOURCE + "__attribute__((no_instrument_function)) int raw(int x) { return consume(&x) + 1; }\n"
    assert codes(edited(tmp_path, "consume(&x) + 1", "consume(&x) + 2", source)) == {ObjectionCode.NOT_TRACEABLE}
    raw, traced = "__attribute__((no_instrument_function)) int raw(int x) {", "int raw(int x) { x++;"
    traced = edited(tmp_path / "b", raw, traced, source)
    assert codes(traced) == {ObjectionCode.NOT_TRACEABLE}


def test_a_copy_of_a_writable_compound_literal_is_never_made(tmp_path: Path) -> None:
    """It may hold state, so a changed one is changed data, and its users do not get one of their own."""
    source = (
        "struct s { int a; };\nstatic struct s *p = &(struct s){ 3 };\nint f(void) { return consume(p) + p->a; }\n"
    )
    difference = edited(tmp_path, "{ 3 }", "{ 4 }", source)
    assert ObjectionCode.CHANGED_DATA in codes(difference)


OPERATIONS = st.sampled_from(["+", "-", "^", "*", "|"])
NUMBERS = st.integers(2, 90)


@st.composite
def programs(draw: st.DrawFn) -> tuple[list[str], list[str], set[str]]:
    """Bodies of some functions, the same with some of them altered, and the names of those."""
    count = draw(st.integers(2, 6))
    before, after, touched = [], [], set()
    for number in range(count):
        callee = f"f{draw(st.integers(0, number - 1))}(x)" if number else "consume(&x)"
        operation, constant = draw(OPERATIONS), draw(NUMBERS)
        extra = draw(
            st.sampled_from(["", f'printk("text {number} %d\\n", x);', "static int n; n += x; consume(&n);"])
        )
        body = (
            f"noinline int f{number}(int x) {{ {extra} return ({callee} {operation} {constant}) + consume(0); }}"
        )
        before.append(body)
        if draw(st.booleans()):
            body = body.replace(f"{operation} {constant})", f"{operation} {constant + 1})")
            touched.add(f"f{number}")
        after.append(body)
    return before, after, touched


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=programs(), extra=st.booleans())
def test_exactly_the_touched_functions_of_any_program(
    tmp_path: Path, program: tuple[list[str], list[str], set[str]], extra: bool
) -> None:
    """Small programs with some constants altered, and perhaps a new function with a static variable in front."""
    before, after, touched = program
    front = ["int front(int x) { static int n; n += x; return consume(&n); }"] if extra else []
    difference = make_difference(tmp_path, "\n".join(before), "\n".join([*front, *after]))
    assert changed(difference) == touched
    assert {piece.name for piece in difference.new_functions} == ({"front"} if extra else set())
    assert not difference.changed_data
    assert codes(difference) == set()


HIDDEN = """
static __attribute__((no_instrument_function)) noinline int hidden(int x) { return x * 5 + consume(0); }
int caller(int x) { return hidden(x) + 1; }
int other(int x) { return observe(0) + x; }
"""


def test_callers_change_where_a_function_cannot_be_redirected(tmp_path: Path) -> None:
    """They call a copy of it; those that do not call it stay."""
    found = edited(tmp_path, "x * 5", "x * 6", HIDDEN)
    assert changed(found) == {"caller"}
    assert [one.name for one in found.new_functions] == ["hidden"]
    assert not codes(found)
    assert "hidden" in found.changed[0].reason


def test_a_pointer_to_what_cannot_be_redirected_is_refused(tmp_path: Path) -> None:
    """Whoever has the pointer would go on with the old code."""
    source = HIDDEN + "int (*const table[])(int) = { hidden };\n"
    found = edited(tmp_path, "x * 5", "x * 6", source)
    assert changed(found) == {"hidden"}
    assert codes(found) == {ObjectionCode.NOT_TRACEABLE}


def test_what_other_files_may_call_is_refused_when_it_cannot_be_redirected(tmp_path: Path) -> None:
    """Its callers are not all known."""
    assert codes(edited(tmp_path, "x * 5", "x * 6", HIDDEN.replace("static ", ""))) == {
        ObjectionCode.NOT_TRACEABLE
    }


def test_exports_are_no_change(tmp_path: Path) -> None:
    """Nobody but the livepatch itself can use a new one."""
    more = 'asm(".pushsection \\"___ksymtab_gpl+first\\",\\"a\\"\\n.long first - ., 0, 0\\n.popsection");\n'
    assert is_empty(make_difference(tmp_path, SOURCE, SOURCE + more))
