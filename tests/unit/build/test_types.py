"""Which changes of a type concern data that a running kernel holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from kmend.build.layout import read_otherwise
from kmend.build.retyped import layout_objections, with_debugging
from kmend.kit.progress import Silent
from kmend.model.fix import Objection
from makers.objects import PRELUDE, SECTIONS, compile_c

THING = """
typedef struct { int counter; } atomic_t;
struct inner { u32 low, high; };
struct thing {
  int a;
  u8 b;
  struct inner in;
  struct thing *next;
  u32 reserved;
  u32 last;
};
typedef u32 handle_t;
enum state { IDLE, BUSY = 4, STATE_MAX };
static struct thing *all;
static handle_t handle;
int put(struct thing *p, enum state state) {
  p->next = all; all = p; handle++; return p->a + p->b + p->in.low + (state == BUSY);
}
"""


def refused(folder: Path, original: str, fixed: str) -> Sequence[Objection]:
    """The Objections to a change of a file's types."""

    def pair(_: str) -> tuple[Path, Path]:
        flags = (*SECTIONS, "-g", "-gdwarf-4", "-fno-var-tracking")
        return compile_c(folder / "a", original, flags=flags), compile_c(folder / "b", fixed, flags=flags)

    reads = read_otherwise(PRELUDE + original, PRELUDE + fixed)
    return layout_objections(
        {"file.c": reads}, pair=pair, place=lambda name, file: f"{file}: {name}", progress=Silent()
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("u8 b;", "u8 other;"),
        ("int a;", "signed a;"),
        ("struct inner in;", "struct { u32 low, high; } in;"),
        ("struct inner in;", "union { struct inner in; struct inner same; };"),
        ("typedef u32 handle_t", "typedef unsigned handle_t"),
        ("IDLE, BUSY = 4", "IDLE, BUSY = 2 + 2"),
        ("STATE_MAX }", "GONE, STATE_MAX }"),
        ("u32 last;", "atomic_t last;"),
    ],
)
def test_another_text_for_the_same_bytes_is_no_change(tmp_path: Path, old: str, new: str) -> None:
    """Other names, other words for the same type, another value for what only counts."""
    fixed = THING.replace(old, new).replace("p->b", "p->other" if "other" in new else "p->b")
    assert read_otherwise(THING, fixed) or "STATE_MAX" in new
    assert list(refused(tmp_path, THING, fixed)) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("u32 last;", "u32 last; u64 lock;", "member `lock` (u64, 8 bytes) added at offset 32; size 32 → 40"),
        ("u8 b;", "u8 b; u8 c;", "member `c` (u8, 1 byte) added at offset 5, in a hole: data made before"),
        ("u8 b;", "u8 b : 1;", "member `b` at offset 4 has 1 bit instead of 1 byte"),
        ("int a;", "u32 a;", "member `a` at offset 0 is u32, 4 bytes instead of int, 4 bytes"),
        ("u32 reserved;\n  u32 last;", "u32 last, reserved;", "from offset 24 to offset 28; and 1 more"),
        ("u32 reserved;", "u32 flags;", "member `flags`"),
        ("u32 last;", "atomic_t more;", "member `more`"),
        ("u32 reserved;", "struct inner more; u32 reserved;", "from offset 24 to offset 32; and 1 more; size"),
        ("typedef u32 handle_t", "typedef u64 handle_t", "size 4 → 8"),
        ("IDLE, BUSY = 4", "IDLE, BUSY", "BUSY is 1 instead of 4"),
    ],
)  # fmt: skip
def test_a_change_of_what_lasts_is_refused_in_words(tmp_path: Path, old: str, new: str, said: str) -> None:
    """Members added, moved, resized, of another kind; constants; what stood there for nothing."""
    assert old in THING
    objections = refused(tmp_path, THING, THING.replace(old, new))
    assert len(objections) == 1
    assert said in objections[0].reason
    assert "shadow variable" in objections[0].advice
    assert "used by put" in objections[0].evidence or "handle_t" in old


def test_a_renamed_type_is_compared_too(tmp_path: Path) -> None:
    """Another name alone is no change; another name and one more member is."""
    text = "struct old_one { int a; long b; long c; };\nint f(struct old_one *p) { return p->a; }\n"
    renamed = text.replace("old_one", "new_one")
    assert list(refused(tmp_path, text, renamed)) == []
    (one,) = refused(tmp_path, text, renamed.replace("int a;", "int a, more;"))
    assert "`more` (int, 4 bytes) added at offset 4, in a hole" in one.reason


def test_a_long_list_of_users_is_cut(tmp_path: Path) -> None:
    """A dozen, and how many there are beside."""
    many = "".join(f"int use{n}(struct thing *p) {{ return p->a + {n}; }}\n" for n in range(20))
    (one,) = refused(tmp_path, THING + many, THING.replace("int a;", "long a;") + many)
    assert len(one.evidence) == 13
    assert one.evidence[-1] == "and 9 more"


def test_a_type_that_nothing_uses_is_no_matter(tmp_path: Path) -> None:
    """A header has many of those."""
    more = "struct other { int a; };\n"
    assert list(refused(tmp_path, THING + more, THING + more.replace("int a", "long a"))) == []


STACK = """
struct walk { int depth; int left; };
static noinline int step(struct walk *w) { w->left--; return consume(&w->depth); }
int go(int n) { struct walk w = { .depth = n }; observe(&w.left); return step(&w) + w.left; }
"""


def test_what_is_on_stacks_only_may_change(tmp_path: Path) -> None:
    """The functions that hold it and all that they pass it to change with it."""
    fixed = STACK.replace("int left;", "int left; long more[9];").replace(
        ".depth = n", ".depth = n, .more = { n }"
    )
    assert [one.name for one in read_otherwise(STACK, fixed)] == ["struct walk"]
    assert list(refused(tmp_path, STACK, fixed)) == []


@pytest.mark.parametrize(
    "more",
    [
        "static struct walk kept; int keep(void) { return consume(&kept); }",
        "struct holder { struct walk *w; }; static struct holder h; int keep(void) { return h.w->left; }",
        "struct holder { struct walk w; }; static struct holder h; int keep(void) { return h.w.left; }",
        "int keep(void *data) { struct walk *w = data; return w->left; }",
        "int keep(void *data) { return step(data); }",
        "int keep(void *data) { return step((struct walk *)data); }",
        "extern void *kmalloc(u64 size); void *keep(void) { return kmalloc(sizeof(struct walk)); }",
        "extern void *kmalloc(u64 size); int keep(struct walk *w) { w = kmalloc(sizeof(*w)); return step(w); }",
        "int (*const table[])(struct walk *) = { step };",
        "extern int on_each(void *call, void *data); int keep(struct walk *w) { return on_each(step, w); }",
        "struct walk *keep(void *a) { return a; }",
        "int keep(int n) { struct walk quiet; observe(&quiet); return n; }",
    ],
)
def test_what_may_outlive_the_call_is_refused(tmp_path: Path, more: str) -> None:
    """Statics, members, pointers from anywhere, allocations, callbacks, and functions that stay as they are."""
    fixed = STACK.replace("int left;", "int left; int more;").replace("= n }", "= n, .more = n }")
    padded = more.replace("struct walk quiet", "struct walk quiet __attribute__((aligned(64)))")
    assert len(refused(tmp_path, STACK + padded, fixed + padded)) == 1


def test_types_without_a_name_are_known_by_what_has_them(tmp_path: Path) -> None:
    """The Objection names the variable or the typedef."""
    text = (
        "typedef struct { int a; } pair_t;\nstatic pair_t pair;\n"
        "static struct { int x; } table[2];\nint f(int n) { return table[n].x + pair.a + consume(&pair); }\n"
    )
    (one,) = refused(tmp_path, text, text.replace("int x;", "int x, y;"))
    assert one.place == "file.c: variable table"
    (one,) = refused(tmp_path, text, text.replace("int a;", "long a;"))
    assert one.place == "file.c: typedef pair_t"


def test_the_command_asks_for_debugging_information_last() -> None:
    """Kbuild's own wish to have none comes before, and the code stays the same."""
    words = with_debugging(["gcc-12", "-O2", "-g0", "-c", "-o", "a.o", "a.c"])
    assert words[-1] == "a.c"
    assert "-g0" not in words
    assert words.index("-gdwarf-4") > words.index("-O2")
