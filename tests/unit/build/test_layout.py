"""Types whose data lives on in the running kernel."""

from __future__ import annotations

import pytest

from kmend.build.layout import changed_types

TEXT = """
#define SLOTS 8
#define ROOM (SLOTS * 2)
struct plain { int a; char *name; }; /* } */
struct sized {
	u32 slot[ROOM];
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
    assert changed_types(TEXT, TEXT + "#define OTHER 4\n") == ()


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("int a;", "long a;", "struct plain"),
        ("int x;", "u8 x;", "union (unnamed)"),
        ("IDLE, BUSY", "IDLE, GONE, BUSY", "enum state"),
        ("} __packed;", "};", "struct sized"),
        ("#define SLOTS 8", "#define SLOTS 16", "struct sized"),
        ("int q;", "int q, r;", "struct (unnamed)"),
        ("typedef u32", "typedef u64", "typedef handle_t"),
        ("int size; }", "long size; }", "struct (unnamed)"),
    ],
)
def test_a_changed_layout_is_named(old: str, new: str, name: str) -> None:
    """Members, attributes, values, and the macros that sizes are made of."""
    assert old in TEXT
    assert name in changed_types(TEXT, TEXT.replace(old, new))


def test_an_inner_type_changes_the_outer_too() -> None:
    """The outer one has another size."""
    assert set(changed_types(TEXT, TEXT.replace("long y;", "long y[2];"))) == {"struct sized", "union (unnamed)"}


def test_a_type_without_end_is_no_trap() -> None:
    """Text that is cut in the middle, or whose braces do not fit because of #if, ends the search."""
    assert changed_types("struct a { int b;", "struct a { int c;") == ("struct a",)
