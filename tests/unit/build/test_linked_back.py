"""What is delicate when code is taken out of an object: linked back, it does what the fixed program does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kmend.elf.objects import ObjectCode, Piece
from makers.assembly import assemble, compile_to_assembly
from makers.programs import DECLARATIONS
from makers.relinked import differ, main_object, printed, printed_livepatched

RARE = 'if (__builtin_expect(x % 7 == 1, 0)) { fail("odd", x); fail("more", x + 1); return 3; }'
COLD = (
    f'unsigned f(unsigned x) {{ {RARE} note("f", x); return x + 1; }}\nunsigned g(unsigned x) {{ return f(x); }}\n'
)
SAME = """
noinline unsigned f(unsigned x) { note("same", x); return x * 77 + 5; }
noinline unsigned g(unsigned x) { note("same", x); return x * 77 + 5; }
unsigned h(unsigned x) { return f(x) * 3 + g(x); }
"""
PART = """
static unsigned slow(unsigned x) {
  static unsigned seen = 3;
  if (x & 1) return x;
  seen += x;
  for (unsigned i = 0; i < (x & 7); i++) { note("slow", seen); seen *= 3; }
  note("end", x); fail("a", x); return seen;
}
unsigned f(unsigned x) { return slow(x) + 1; }
unsigned g(unsigned x) { return slow(x + 3) + 2; }
unsigned h(unsigned x) { static unsigned seen = 4; seen += x; return seen; }
"""
WHOLE = PART.replace("static unsigned slow", "static noinline unsigned slow").replace("if (x & 1) return x;", "")
LABELS = """
unsigned f(unsigned x) {
  static const void *const labels[] = {&&one, &&two, &&three};
  goto *labels[x % 3];
  one: note("one", x); x += 3;
  two: note("two", x); x *= 7;
  three: return x + 5;
}
unsigned g(unsigned x) { return f(x) + 1; }
"""
ISRA = """
struct s { unsigned a, b; };
static noinline unsigned work(struct s *s, unsigned y) { note("w", s->b); return s->b * y; }
static noinline unsigned other(struct s *s) { return s->a * 5 + shared; }
unsigned f(unsigned x) { struct s s = {x, x + 1}; return work(&s, x); }
unsigned g(unsigned x) { struct s s = {x, x + 2}; return work(&s, 3) + other(&s); }
"""
POINTERS = """
noinline unsigned old(unsigned x) { return x + 1; }
static noinline unsigned still(unsigned x) { return x * 5; }
unsigned (*kept)(unsigned) = old;
unsigned f(unsigned x) { return call(old, x) + call(still, x) + (kept == old); }
"""
TABLE = """
noinline unsigned old(unsigned x) { return x + 1; }
unsigned f(unsigned x) { static unsigned (*const all[])(unsigned) = {old, old}; return call(all[x & 1], x) + 1; }
"""
FAR = """
unsigned big[400000];
unsigned f(unsigned x) {
  big[399999] += x;
  return big[399999] + big[(x & 0xffff) + 300000] + (big + 300000)[-(long)(x & 0xff)];
}
"""
ONES = """
static unsigned all[10];
unsigned f(unsigned x) {
  unsigned s = 1;
  for (unsigned *p = all; p != all + 10; p++) { *p += x; s = s * 3 + *p; }
  for (long i = 10; i > 0; i--) s = s * 5 + all[i - 1];
  return s + 1;
}
"""
STATIC_IN_COLD = f"""
unsigned f(unsigned x) {{
  static unsigned n = 5;
  n += x;
  {RARE.replace("x + 1", "n")}
  return x + n;
}}
"""
STRINGS = """
unsigned f(unsigned x) { note("a long text", x); return x; }
unsigned g(unsigned x) { note("text", x); return x; }
"""


class Linked(NamedTuple):
    """A folder with the objects of an edit, and what the differ said of it."""

    original: Path
    fixed: Path
    code: int
    report: dict[str, Any]

    def functions(self, side: Path) -> set[str]:
        """Names of the functions that the compiler has made."""
        return set(ObjectCode(side).functions)


@pytest.fixture(scope="module")
def main(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What calls a program's functions."""
    return main_object(tmp_path_factory.mktemp("main"))


def compare(folder: Path, text: str, fixed: str) -> Linked:
    """Compile both and compare."""
    sides = [
        assemble(compile_to_assembly(folder / name, DECLARATIONS + one))
        for name, one in (("a", text), ("b", fixed))
    ]
    return Linked(*sides, *differ(folder, *sides))


def link_back(folder: Path, main: Path, text: str, fixed: str) -> Linked:
    """The same, built: the original with the output does what the fixed program does."""
    linked = compare(folder, text, fixed)
    assert linked.code == 0, linked.report["objections"]
    names = [{name for name, one in ObjectCode(side).functions.items() if not one.is_local} for side in linked[:2]]
    entries = sorted(names[0] & names[1])
    done = printed_livepatched(folder, main, linked.original, report=linked.report, entries=entries)
    assert done == printed(folder, [main, linked.fixed], entries=entries)
    return linked


def edit(folder: Path, main: Path, text: str, *, old: str, new: str) -> Linked:
    """Link back what a replacement makes."""
    assert old in text
    return link_back(folder, main, text, text.replace(old, new))


def test_a_cold_part_that_appears_or_vanishes(tmp_path: Path, main: Path) -> None:
    """It comes along with its function, or is left behind with the old one."""
    plain = COLD.replace(RARE, "")
    came = link_back(tmp_path / "a", main, plain, COLD)
    assert "f.cold" in came.functions(came.fixed) - came.functions(came.original)
    assert {"f"} <= set(came.report["changed"]) <= {"f", "g"}
    assert came.report["new"] == []
    link_back(tmp_path / "b", main, COLD, plain)
    alone = edit(tmp_path / "c", main, COLD, old="x + 1); return", new="x + 2); return")
    assert "f.cold" in alone.functions(alone.original)


@pytest.mark.parametrize(("text", "fixed"), [(PART, WHOLE), (WHOLE, PART)])
def test_a_part_that_comes_or_goes_keeps_its_static_variable(
    tmp_path: Path, main: Path, text: str, fixed: str
) -> None:
    """The variable is used by another function than before, but by the same lines of source."""
    linked = link_back(tmp_path, main, text, fixed)
    assert "slow.part.0" in linked.functions(linked.original) ^ linked.functions(linked.fixed)
    (seen,) = linked.report["klp_symbols"]
    assert seen["name"].startswith("seen.")


def test_a_part_that_changes_is_replaced_by_itself(tmp_path: Path, main: Path) -> None:
    """What has been inlined of the same function stays as it is."""
    assert edit(tmp_path, main, PART, old='"end"', new='"END"').report["changed"] == ["slow.part.0"]


def test_a_static_variable_moves_into_the_cold_part(tmp_path: Path, main: Path) -> None:
    """And out of it: it is the running kernel's all the same."""
    moved = STATIC_IN_COLD.replace("n += x;", "").replace('{ fail("odd"', '{ n += x; fail("odd"')
    moved = moved.replace("return x + n", "return x")
    for name, text, fixed in (("a", STATIC_IN_COLD, moved), ("b", moved, STATIC_IN_COLD)):
        linked = link_back(tmp_path / name, main, text, fixed)
        assert [one["name"].split(".")[0] for one in linked.report["klp_symbols"]] == ["n"]


@pytest.mark.parametrize(
    ("old", "new", "clone"),
    [
        ("s->b * y;", "s->b * y + 1;", None),
        ('note("w", s->b);', 'note("w", s->b); s->a++;', "work.isra.0"),
        ("work(&s, x)", "work(&s, 3)", "work.constprop.0"),
    ],
)
def test_clones_that_come_and_go(tmp_path: Path, main: Path, old: str, new: str, clone: str | None) -> None:
    """A function whose arguments the compiler takes apart, or no longer does."""
    linked = edit(tmp_path, main, ISRA, old=old, new=new)
    if clone is not None and clone in linked.functions(linked.fixed):
        assert clone in linked.report["new"]
    assert linked.report["changed"]


@pytest.mark.parametrize("kind", ["noinline unsigned g", "static noinline unsigned g"])
@pytest.mark.parametrize("name", ["f", "g"])
def test_one_of_two_functions_that_the_compiler_made_one(tmp_path: Path, main: Path, name: str, kind: str) -> None:
    """Identical functions share their code; a fix of one of them must leave the other as it is."""
    text = SAME.replace("noinline unsigned g", kind)
    head, tail = f'unsigned {name}(unsigned x) {{ note("same", x); return x * 77', "+ 5;"
    linked = edit(tmp_path, main, text, old=f"{head} {tail}", new=f"{head} + 6;")
    assert set(linked.report["changed"]) | set(linked.report["new"]) >= {name}


@pytest.mark.parametrize("section", ["", 'in_section(".rodata..c_jump_table,\\"a\\",@progbits #") '])
@pytest.mark.parametrize("new", ["x += 4;", 'x += 4; note("more", x);'])
def test_a_table_of_labels_comes_along(tmp_path: Path, main: Path, *, new: str, section: str) -> None:
    """The running kernel's leads into the old code, whether or not the places are still the same."""
    text = LABELS.replace("static const void", f"static {section}const void")
    linked = edit(tmp_path, main, text, old="x += 3;", new=new)
    assert linked.report["changed"] == ["f"]
    assert linked.report["klp_symbols"] == []


def test_a_label_in_the_cold_part(tmp_path: Path, main: Path) -> None:
    """The table leads into the new cold part, which leads back into the new function."""
    text = LABELS.replace("one: note", "one: cold; fail").replace("x += 3;", "fail(__func__, x);")
    linked = edit(tmp_path, main, text, old="x + 5", new="x + 6")
    table = next(one for one in ObjectCode(linked.original).pieces() if one.holds_labels)
    assert "f.cold" in {one.target.name for one in table.references if isinstance(one.target, Piece)}
    assert linked.report["klp_symbols"] == []


def test_a_table_of_labels_stays_with_a_function_that_does_not_change(tmp_path: Path, main: Path) -> None:
    """Only its caller is replaced."""
    linked = edit(tmp_path, main, LABELS, old="f(x) + 1", new="f(x) + 2")
    assert linked.report["changed"] == ["g"]


def test_a_variable_table_of_labels_is_refused(tmp_path: Path) -> None:
    """A copy would lose what has been written to it, and the running kernel's leads into the old code."""
    text = LABELS.replace("static const void *const", "static void *").replace(
        "goto", "labels[x & 1] = x & 8 ? &&one : &&two; goto"
    )
    linked = compare(tmp_path, text, text.replace("x += 3;", "x += 4;"))
    assert linked.code == 2
    assert [one["code"] for one in linked.report["objections"]] == ["unsupported-section"]
    assert "labels" in linked.report["objections"][0]["place"]


def test_the_address_of_a_label_in_code(tmp_path: Path, main: Path) -> None:
    """``_THIS_IP_``: the place in the new code."""
    text = """
    unsigned g(unsigned x) { return x * 3; }
    unsigned f(unsigned x) {
      { __label__ here; here: note("a", ((unsigned long)&&here < 64) + x); }
      return x + 1; }
    """
    assert edit(tmp_path, main, text, old="x + 1", new="x + 2").report["changed"] == ["f"]


@pytest.mark.parametrize(
    ("text", "old", "new", "changed", "needed"),
    [
        (POINTERS, "x + 1;", "x + 2;", ["old"], []),
        (POINTERS, "(kept == old)", "(kept == old) * 2", ["f"], ["kept", "old", "still"]),
        (TABLE, "+ 1;", "+ 2;", ["old", "f"], ["all.0"]),
        (FAR, "return big", "return 1 + big", ["f"], ["big"]),
        (ONES, "s + 1", "s + 2", ["f"], ["all"]),
        (STRINGS, 'note("a long text", x)', 'note("a long text", x); note("text", 1); note("new", 2)', ["f"], []),
    ],
)
def test_what_code_refers_to(
    tmp_path: Path, main: Path, *, text: str, old: str, new: str, changed: list[str], needed: list[str]
) -> None:
    """Pointers to functions, places far into and beside an array, strings that share their end."""
    linked = edit(tmp_path, main, text, old=old, new=new)
    assert linked.report["changed"] == changed
    assert [one["name"] for one in linked.report["klp_symbols"]] == needed


def test_a_table_of_new_functions_is_refused(tmp_path: Path) -> None:
    """The pointer in new data may outlive the livepatch like any other."""
    fixed = TABLE.replace("{old, old}", "{old, fresh}").replace(
        "unsigned f(", "static unsigned fresh(unsigned x) { return x * 9; }\nunsigned f("
    )
    linked = compare(tmp_path, TABLE.replace("static unsigned (*const all[])(unsigned) = {old, old};", "").replace(
        "call(all[x & 1], x)", "old(x)"), fixed)  # fmt: skip
    assert [one["code"] for one in linked.report["objections"]] == ["new-callback"]


def test_numbered_unique_names_are_no_change(tmp_path: Path) -> None:
    """``__UNIQUE_ID_…`` counts up when a line in front is added."""
    text = "static unsigned __UNIQUE_ID_state7 = 4;\nunsigned f(unsigned x) { return __UNIQUE_ID_state7 += x; }\n"
    assert compare(tmp_path, text, text.replace("state7", "state12")).code == 3
