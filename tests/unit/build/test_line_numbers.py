"""Line numbers that move are no change; numbers that only look like one are."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmend.build.compare import Difference
from makers.objects import make_difference

TAKERS = """
void __might_sleep(const char *file, int line);
void __might_resched(const char *file, int line, unsigned int offsets);
void lockdep_rcu_suspicious(const char *file, const int line, const char *s);
int __ext4_journal_stop(const char *where, unsigned int line, void *handle);
void __ext4_std_error(void *sb, const char *function, unsigned int line, int error);
void *__ext4_iget(void *sb, unsigned long ino, int flags, const char *function, unsigned int line);
void __ext4_warning(void *sb, const char *function, unsigned int line, const char *fmt, ...);
void somebody(const char *file, int line);
"""
SOURCE = (
    TAKERS
    + """
int first(int x) { return consume(&x) + 1; }
int sleeps(int x) { __might_sleep(__FILE__, __LINE__); return consume(&x); }
int both(int x) {
  if (x > 3) lockdep_rcu_suspicious(__FILE__, __LINE__, "suspicious");
  __might_resched(__FILE__, __LINE__, 7);
  return consume(&x); }
int stops(void *x) { return __ext4_journal_stop(__func__, __LINE__, x); }
void last(void *x) { if (observe(x)) __ext4_std_error(x, __func__, __LINE__, observe(x)); }
int asserts(int x) { if (x > 4) printk("\\0014RTNL: assertion failed at %s (%d)\\n", __FILE__, __LINE__);
  return consume(&x); }
void copies(void *x) { __ext4_warning(x, __func__, __LINE__, __func__, __func__); }
void *fifth(void *x) { return __ext4_iget(x, 5, 6, __func__, __LINE__); }
"""
)
WARN = """
int warns(int x) {
  if (x > 5) asm volatile("1: ud2\\n.pushsection __bug_table,\\"aw\\"\\n.long 1b - ., %c0 - .\\n"
                          ".word %c1, %c2\\n.popsection" : : "i"(__FILE__), "i"(__LINE__), "i"(FLAGS));
  return consume(&x); }
""".replace("FLAGS", "2307")
DEBUG = """
struct ddebug { const char *module, *function, *file, *format; u32 line : 18, class : 6, flags : 8; long key[2]; };
static struct ddebug __attribute__((aligned(8))) in_section("__dyndbg") __UNIQUE_ID_ddebug71 = {
  "m", "f", __FILE__, "text", __LINE__, CLASS, 0 };
int tells(int x) { return observe(&__UNIQUE_ID_ddebug71); }
""".replace("CLASS", "1")


def changed(difference: Difference) -> set[str]:
    """Names of the functions that differ."""
    return {change.fixed.name for change in difference.changed}


def moved(folder: Path, source: str, old: str = "", new: str = "") -> Difference:
    """What a comment of three lines in front changes, along with one replacement."""
    assert old in source
    return make_difference(folder, source, source.replace(TAKERS, TAKERS + "/*\n\n\n*/").replace(old, new, 1))


def test_lines_of_calls_move(tmp_path: Path) -> None:
    """In whatever argument the called function takes them; and only what really changed is found."""
    assert changed(moved(tmp_path, SOURCE)) == set()
    assert changed(moved(tmp_path / "b", SOURCE, "consume(&x) + 1", "consume(&x) + 2")) == {"first"}


def test_lines_within_a_function_move_differently(tmp_path: Path) -> None:
    """A comment in the middle of it: what stands above stays."""
    assert changed(moved(tmp_path, SOURCE, "  __might_resched", "\n\n  __might_resched")) == set()


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("__LINE__, 7", "__LINE__, 8", {"both"}),
        ("x > 3", "x > 4", {"both"}),
        ('__LINE__, "suspicious"', '__LINE__, "other"', {"both"}),
        ("5, 6, __func__", "5, 7, __func__", {"fifth"}),
        ("__func__, __LINE__, x", "__func__, __LINE__, x + 1", {"stops"}),
    ],
)
def test_a_changed_number_beside_a_line_is_a_change(tmp_path: Path, old: str, new: str, names: set[str]) -> None:
    """The other arguments of the same call count, and the reason names them and not the line."""
    difference = moved(tmp_path, SOURCE, old, new)
    assert changed(difference) == names
    assert "esi" not in difference.changed[0].reason.replace("rsi", "") or old.startswith("x >")


@pytest.mark.parametrize(
    "body",
    [
        "somebody(__FILE__, NUMBER);",  # not known to take a line
        "__might_sleep((void *)x, NUMBER);",  # no text of the place
        "__might_sleep(file, NUMBER);",  # a text that may change
        # Used elsewhere too:
        'int n = NUMBER; asm volatile("mov %0, %%eax" : : "S"(n) : "eax"); __might_sleep(__FILE__, n);',
        "if (x) somebody(__FILE__, NUMBER); else __might_sleep(__FILE__, NUMBER);",
        'printk("at %s:%d", __FILE__, NUMBER);',  # no message that is known
        'printk("RTNL: assertion failed at %s (%d) for %d\\n", __FILE__, 900, NUMBER);',
        "observe((void *)NUMBER); __might_sleep(__FILE__, 900);",
    ],
)  # fmt: skip
def test_a_number_that_may_mean_something_else_is_a_change(tmp_path: Path, body: str) -> None:
    """An unknown function, no constant text beside it, another use of the same register."""
    source = TAKERS + f"static char file[] = __FILE__;\nint f(long x) {{ {body} return consume(file); }}\n"
    difference = make_difference(tmp_path, source.replace("NUMBER", "500"), source.replace("NUMBER", "503"))
    assert changed(difference) == {"f"}


def test_lines_that_no_edit_explains_are_a_change(tmp_path: Path) -> None:
    """Two lines of one file that change places, or two that become one."""
    source = TAKERS + "".join(
        f"int f{number}(int x) {{ __might_sleep(__FILE__, {number}); return consume(&x); }}\n"
        for number in (500, 600, 700)
    )
    assert changed(make_difference(tmp_path, source, source.replace("__, 600", "__, 650"))) == set()
    jumped = make_difference(tmp_path / "b", source, source.replace("__, 600", "__, 750"))
    assert changed(jumped) == {"f600"}
    assert "line" in jumped.changed[0].reason
    assert changed(make_difference(tmp_path / "c", source, source.replace("__, 600", "__, 700"))) == {"f600"}


def test_the_line_of_a_warning_is_no_change(tmp_path: Path) -> None:
    """It is a field of struct bug_entry; the flags beside it and the file are data of the function."""
    source = TAKERS + WARN
    assert changed(moved(tmp_path, source)) == set()
    flags = moved(tmp_path / "b", source, "2307", "2305")
    assert changed(flags) == {"warns"}
    assert "__bug_table" in flags.changed[0].reason
    assert changed(moved(tmp_path / "c", source, '"i"(__FILE__)', '"i"("other.c")')) == {"warns"}


def test_the_line_of_a_debug_message_is_no_change(tmp_path: Path) -> None:
    """It is a bit field of struct _ddebug; the class beside it counts."""
    source = TAKERS + DEBUG
    assert changed(moved(tmp_path, source)) == set()
    assert changed(moved(tmp_path / "b", source, "__LINE__, 1", "__LINE__, 2")) == {"tells"}
    assert changed(moved(tmp_path / "c", source, '"text"', '"texts"')) == {"tells"}
