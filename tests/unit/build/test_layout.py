"""Types whose data lives on in the running kernel."""

from __future__ import annotations

import pytest

from kmend.build.layout import changed_types

TEXT = """
struct plain { int a; char *name; }; /* } */
struct sized {
	u32 slot[(8 * 2)];
	union { int x; long y; } u;
} __packed;
enum state { IDLE, BUSY };
typedef struct { int q; } pair_t;
typedef u32 handle_t;
static const struct { const char *name; int size; } table[] = {
	{ "a}", 1 },
};
static int use(struct plain *p) { return p->a; }
"""


def test_the_same_text_changes_nothing() -> None:
    """Nor do comments, white space, function bodies, tables and new types."""
    assert changed_types(TEXT, TEXT) == ()
    assert changed_types(TEXT, TEXT.replace("/* } */", "// other {\n")) == ()
    assert changed_types(TEXT, TEXT.replace("return p->a;", "if (p->a) { return 1; } return p->a;")) == ()
    assert changed_types(TEXT, TEXT.replace('{ "a}", 1 },', '{ "a}", 1 },\n\t{ "b", 2 },')) == ()
    assert changed_types(TEXT, TEXT + "struct more { int a; };\n") == ()
    assert changed_types(TEXT, "union { int other; } more;\n" + TEXT) == ()


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("int a;", "long a;", "struct plain"),
        ("int x;", "u8 x;", "union (unnamed)"),
        ("IDLE, BUSY", "IDLE, GONE, BUSY", "enum state"),
        ("} __packed;", "};", "struct sized"),
        ("8 * 2", "16 * 2", "struct sized"),
        ("int q;", "int q, r;", "struct (unnamed)"),
        ("typedef u32", "typedef u64", "typedef handle_t"),
        ("int size; }", "long size; }", "struct (unnamed)"),
    ],
)
def test_a_changed_layout_is_named(old: str, new: str, name: str) -> None:
    """Members, attributes, values, and sizes."""
    assert old in TEXT
    assert name in changed_types(TEXT, TEXT.replace(old, new))


def test_an_inner_type_changes_the_outer_too() -> None:
    """The outer one has another size."""
    assert set(changed_types(TEXT, TEXT.replace("long y;", "long y[2];"))) == {"struct sized", "union (unnamed)"}


def test_a_type_without_end_is_no_trap() -> None:
    """Text that is cut in the middle, or whose braces do not fit because of #if, ends the search."""
    assert changed_types("struct a { int b;", "struct a { int c;") == ("struct a",)


ENUM = "enum state {{\n\tIDLE,\n\tBUSY = 4,\n\t{more}\n}};\nint room[{size}];\n"


@pytest.mark.parametrize("more", ["GONE", "GONE, LOST", "GONE = 9"])
def test_new_constants_that_leave_the_others_alone_change_nothing(more: str) -> None:
    """No data of the kernel has the new values yet."""
    assert changed_types(ENUM.format(more="", size=1), ENUM.format(more=more, size=1)) == ()


def test_the_number_of_constants_may_rise_where_nothing_is_sized_by_it() -> None:
    """An array of that many is another matter."""
    old, new = "STATE_MAX", "GONE, STATE_MAX"
    assert changed_types(ENUM.format(more=old, size=1), ENUM.format(more=new, size=1)) == ()
    sized = [ENUM.format(more=more, size="STATE_MAX") for more in (old, new)]
    assert changed_types(*sized) == ("enum state",)


def test_a_constant_that_is_gone_or_moves_is_told_apart() -> None:
    """Data may hold a value that means something else now."""
    assert changed_types(ENUM.format(more="A, B", size=1), ENUM.format(more="B, A", size=1)) == ("enum state",)
    assert changed_types(ENUM.format(more="A, B", size=1), ENUM.format(more="B", size=1)) == ("enum state",)
    assert changed_types(ENUM.format(more="A, B", size=1), ENUM.format(more="A", size=1)) == ()
