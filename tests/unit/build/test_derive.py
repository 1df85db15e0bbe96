"""Fixes derived from two source trees, and the catalogue in fixes/."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from kmend.build import derive, fixes, functions
from kmend.kit.errors import InputError

CATALOGUE = Path(__file__).parents[3] / "fixes"
SHIPPED = sorted(path.name for path in CATALOGUE.iterdir() if path.is_dir())

OLD = """\
#include <linux/a.h>

static const struct ops table = {
	.go = go,
};

/* Counts. */
static int count(struct a *a)
{
	return a->n;
}

#ifdef CONFIG_X
static void other(void)
{
	x();
}
#endif

/**
 * go - goes
 */
int __must_check go(struct a *a,
		int n)
{
	if (n) {
		n--;
	}
	return count(a);
}

SYSCALL_DEFINE2(leap, int, a,
		int, b)
{
	return a + b;
}
"""
NEW = (
    OLD.replace("	x();\n", "	y();\n")
    .replace("		n--;\n", "		n -= 2;\n")
    .replace("	return count(a);\n", "	if (limit(a))\n		return -EINVAL;\n	return count(a);\n")
    .replace(
        "#ifdef CONFIG_X\n",
        "/* Limits. */\nstatic bool limit(struct a *a)\n{\n	return a->n > 9;\n}\n\n#ifdef CONFIG_X\n",
    )
    .replace("return a + b", "return a - b")
)


def tree(place: Path, texts: Mapping[str, str]) -> Path:
    """A source tree."""
    for path, text in texts.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    return place


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """An old and a new tree of one file."""
    return tree(tmp_path / "old", {"fs/a.c": OLD}), tree(tmp_path / "new", {"fs/a.c": NEW})


def derived(trees: tuple[Path, Path], tmp_path: Path, names: tuple[str, ...] | None) -> str:
    """The old file after the derived fix."""
    old, new = trees
    fix = derive.derive(
        name="n", cves=(), title="t", old=old, new=new, files=("fs/a.c",), functions=names, origin="o"
    )
    fixes.apply((fix,), source=old, into=tmp_path / "into")
    return (tmp_path / "into/fs/a.c").read_text()


def test_scan_finds_functions_and_leaves_data_alone() -> None:
    """Functions are found by their column-0 braces; macros give the name that they define."""
    found = {one.name: one for one in functions.scan(OLD.split("\n"))}
    assert list(found) == ["count", "other", "go", "leap"]
    lines = OLD.split("\n")
    assert lines[found["go"].start].startswith("int __must_check go(")
    assert lines[found["go"].end - 1] == "}"
    assert lines[functions.with_comment(lines, found["go"])] == "/**"


def test_derive_takes_whole_files(trees: tuple[Path, Path], tmp_path: Path) -> None:
    """Without names of functions, the new file's text comes out."""
    assert derived(trees, tmp_path, None) == NEW


def test_derive_takes_only_the_named_functions(trees: tuple[Path, Path], tmp_path: Path) -> None:
    """Other changes of the same file stay out, even between the named functions."""
    expected = NEW.replace("	y();\n", "	x();\n").replace("return a - b", "return a + b")
    assert derived(trees, tmp_path, ("go", "limit")) == expected
    assert derived(trees, tmp_path, ("leap",)) == OLD.replace("a + b", "a - b")


def test_derive_puts_new_functions_before_the_next_one(tmp_path: Path) -> None:
    """A new function behind an #endif goes before the function that follows it, comment included."""
    new = "#ifdef X\nint a(void)\n{\n}\n#endif\n\n/* New. */\nint b(void)\n{\n}\n\n/* Old. */\n"
    new += "int c(void)\n{\n	b();\n}\n"
    old = new.replace("/* New. */\nint b(void)\n{\n}\n\n", "").replace("	b();\n", "")
    pair = tree(tmp_path / "old", {"fs/a.c": old}), tree(tmp_path / "new", {"fs/a.c": new})
    assert derived(pair, tmp_path, ("b", "c")) == new


@pytest.mark.parametrize(
    ("names", "says"),
    [(("go", "gone"), "gone is not defined"), (("count",), "Nothing of count differs")],
)
def test_derive_says_what_is_missing(
    trees: tuple[Path, Path], tmp_path: Path, names: tuple[str, ...], says: str
) -> None:
    """A function that nobody has, and one that does not differ, are told apart."""
    with pytest.raises(InputError, match=says):
        derived(trees, tmp_path, names)


def catalogue(place: Path, adds: str = "if (limit(a))") -> Path:
    """A catalogue of one entry that fits nothing and one for the trees above."""
    keys = 'cves = ["CVE-2026-0001"]\ntitle = "t"\nreasoning = "r"\nupstream = "u"\nfiles = ["fs/{file}"]\n'
    keys += 'functions = ["limit", "go"]\nadds = ["{adds}"]\n'
    texts = {"order.txt": "# first things first\nx\none\n", "one/derive.toml": keys.format(file="a.c", adds=adds)}
    texts |= {"x/derive.toml": keys.format(file="x.c", adds=adds), "one/probe.c": "int main(void) { return 2; }\n"}
    return tree(place, texts)


def test_choose_gives_fixes_and_reasons(trees: tuple[Path, Path], tmp_path: Path) -> None:
    """Each entry becomes a fix, with its probe, or a reason why not."""
    old, new = trees
    choice = derive.choose(catalogue(tmp_path / "c"), old=old, new=new, origin="o")
    assert [(fix.name, fix.cves, fix.origin) for fix in choice.fixes] == [
        ("one", ("CVE-2026-0001",), "o (upstream: u)")
    ]
    assert choice.fixes[0].probe.startswith("int main")
    assert [misfit.name for misfit in choice.misfits] == ["x"]
    assert "no fs/x.c" in choice.misfits[0].reason
    assert derive.first_that_fits(tmp_path / "c", old=old, new=new, origin="o") == choice.fixes[0]


def test_first_that_fits_gives_every_reason(trees: tuple[Path, Path], tmp_path: Path) -> None:
    """An old source that has the fix, and a new one that lacks it, are told apart by the added text."""
    old, new = trees
    place = catalogue(tmp_path / "c")
    with pytest.raises(InputError, match=r"(?s)x: There is no fs/x\.c.*one: the older source has the fix already"):
        derive.first_that_fits(place, old=new, new=new, origin="o")
    with pytest.raises(InputError, match="one: the newer source does not have the fix"):
        derive.first_that_fits(place, old=old, new=old, origin="o")


def test_entries_refuse_a_faulty_catalogue(tmp_path: Path) -> None:
    """The order names each folder once, and the keys are checked."""
    place = catalogue(tmp_path / "c")
    (place / "order.txt").write_text("one\n")
    with pytest.raises(InputError, match=r"do not agree: x\."):
        derive.entries(place)
    (place / "order.txt").write_text("one\nx\n")
    (place / "x/derive.toml").write_text("cves = 1\n")
    with pytest.raises(InputError, match=r"x/derive\.toml lacks title"):
        derive.entries(place)


def test_shipped_catalogue_parses() -> None:
    """At least three entries, each with a CVE id, functions, a mark to know the fix by, and a probe."""
    shipped = derive.entries(CATALOGUE)
    assert sorted(entry.name for entry in shipped) == SHIPPED
    assert len(shipped) >= 3
    for entry in shipped:
        assert entry.cves
        assert entry.functions
        assert entry.adds
        assert "Asked:" in entry.probe
        assert "Harmless:" in entry.probe


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_probe_compiles(name: str, tmp_path: Path) -> None:
    """Every probe is one C file that becomes one static program without a warning."""
    gcc = shutil.which("gcc-12") or shutil.which("gcc")
    assert gcc, "a C compiler is needed"
    flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static")
    probe = str(CATALOGUE / name / "probe.c")
    done = subprocess.run(
        [gcc, *flags, probe, "-o", str(tmp_path / "probe")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
