"""Line numbers that stay, so that a moved ``__LINE__`` is no change."""

from __future__ import annotations

import difflib
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmend.build.lines import keep_lines
from makers.objects import PRELUDE, make_difference

FUNCTION = "int f{0}(int x)\n{{\n\treturn consume(&x) + {0};\n}}\n\n"
LINE = "int g{0}(void)\n{{\n\treturn __LINE__;\n}}\n\n"
ORIGINAL = FUNCTION.format(1) + LINE.format(1) + FUNCTION.format(2) + LINE.format(2)


def kept(folder: Path, original: str, fixed: str) -> str:
    """The fixed text with its directives."""
    (folder / "original.c").write_text(original)
    (folder / "fixed.c").write_text(fixed)
    return keep_lines(folder / "original.c", folder / "fixed.c")


def test_unchanged_lines_get_no_directive(tmp_path: Path) -> None:
    """Nor do changes that move nothing."""
    assert kept(tmp_path, ORIGINAL, ORIGINAL) == ORIGINAL
    fixed = ORIGINAL.replace("+ 1", "+ 9")
    assert kept(tmp_path, ORIGINAL, fixed) == fixed


def test_functions_further_down_keep_their_numbers(tmp_path: Path) -> None:
    """Lines added and removed in several places; only what was touched differs once compiled."""
    fixed = ORIGINAL.replace("\treturn consume(&x) + 1;", "\tx++;\n\tx *= 3;\n\treturn consume(&x) + 1;")
    fixed = fixed.replace("{\n\treturn consume(&x) + 2;\n", "{ return consume(&x) + 7;\n")
    assert {one.fixed.name for one in make_difference(tmp_path / "plain", ORIGINAL, fixed).changed} == {
        "f1", "f2", "g1", "g2",
    }  # fmt: skip
    text = kept(tmp_path, PRELUDE + ORIGINAL, PRELUDE + fixed).removeprefix(PRELUDE)
    difference = make_difference(tmp_path / "kept", ORIGINAL, text)
    assert {one.fixed.name for one in difference.changed} == {"f1", "f2"}


def test_a_file_without_a_last_newline(tmp_path: Path) -> None:
    """Nothing is put behind its last line."""
    fixed = ("int early;\n" + ORIGINAL).rstrip("\n")
    assert kept(tmp_path, "}", "int a;\n}") == "int a;\n}"
    assert kept(tmp_path, ORIGINAL.rstrip("\n"), fixed).replace("#line", "").count("}") == ORIGINAL.count("}")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    old=st.lists(st.sampled_from(["a;", "b;", "}", "\tx;"]), max_size=20),
    new=st.lists(st.sampled_from(["a;", "b;", "}", "\tx;"]), max_size=20),
)
def test_what_a_directive_says_is_true(tmp_path: Path, old: list[str], new: list[str]) -> None:
    """After the last directive, every line that both texts share bears the original's number."""
    original, fixed = ("".join(f"{line}\n" for line in lines) for lines in (old, new))
    result = kept(tmp_path, original, fixed).splitlines()
    assert [line for line in result if not line.startswith("#line")] == fixed.splitlines()
    number, numbered = 0, []
    for line in result:
        if line.startswith("#line "):
            number = int(line.split()[1]) - 1
        else:
            number += 1
            numbered.append((number, line))
    marks = [at for at, line in enumerate(result) if line.startswith("#line")]
    if marks:
        after = len([line for line in result[marks[-1] :] if not line.startswith("#line")])
        tail = numbered[len(numbered) - after :]
        blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
        last = blocks[-2] if len(blocks) > 1 else None
        # Without an end of a function after the last change no directive can stand there.
        ended = last is not None and "}" in new[max(0, last.b - 1) : -1]
        if ended and last.b + last.size == len(new) and last.a + last.size == len(old):
            assert tail[-1][0] == len(old) or not tail
