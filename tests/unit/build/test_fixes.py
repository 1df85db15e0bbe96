"""Fix folders and applying their diffs."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from kmend.build import fixes
from kmend.kit.errors import InputError
from kmend.model.fix import Fix

TOML = 'name = "one"\ncves = ["CVE-2026-1234"]\ntitle = "A title"\norigin = "upstream 0123"\n'
OLD = "".join(f"line {number}\n" for number in range(1, 41))
NEW = OLD.replace("line 10\n", "line ten\n")


def unified(old: str, new: str, path: str = "fs/proc/a.c") -> str:
    """A diff as GNU diff makes it."""
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"a/{path}", f"b/{path}")
    return "".join(lines)


def fix(diff: str, name: str = "one") -> Fix:
    """A fix with that diff."""
    return Fix(name=name, cves=(), title="t", diff=diff, origin="o")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good fix folder."""
    place = tmp_path / "fix"
    place.mkdir()
    (place / "fix.toml").write_text(TOML)
    (place / "fix.patch").write_text(unified(OLD, NEW))
    return place


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source tree of two files."""
    (tmp_path / "source/fs/proc").mkdir(parents=True)
    (tmp_path / "source/fs/proc/a.c").write_text(OLD)
    (tmp_path / "source/fs/b.c").write_text(OLD)
    return tmp_path / "source"


def test_load_reads_every_key(folder: Path) -> None:
    """A fix folder comes back as the Fix that it describes."""
    (folder / "fix.toml").write_text(TOML + 'reasoning = "why"\nreviewer = "R"\n')
    (folder / "probe.c").write_text("int main(void) { return 0; }\n")
    loaded = fixes.load(folder)
    assert (loaded.name, loaded.cves, loaded.reasoning, loaded.reviewer) == ("one", ("CVE-2026-1234",), "why", "R")
    assert loaded.probe.startswith("int main")
    assert fixes.files(loaded) == ("fs/proc/a.c",)


def test_save_then_load_gives_the_same_fix(tmp_path: Path) -> None:
    """Odd characters in the texts survive the way through fix.toml."""
    made = Fix(
        name="x-1",
        cves=("CVE-2026-1", "CVE-2026-12345")[1:],
        title='quote " backslash \\ umlaut ü delete \x7f emoji 🐧',
        diff=unified(OLD, NEW),
        origin="o",
        reasoning="two\nlines",
        probe="int x;\n",
    )
    fixes.save(made, tmp_path / "out")
    assert fixes.load(tmp_path / "out") == made


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        (TOML.replace("title", "titel"), "lacks title and has unknown titel"),
        (TOML.replace('"CVE-2026-1234"', '"CVE-26-1"'), "is not a CVE id"),
        (TOML.replace('["CVE-2026-1234"]', '"CVE-2026-1234"'), "must be a list of strings"),
        (TOML.replace('"A title"', "7"), "must be a string"),
        (TOML.replace('"A title"', '" "'), "with something in it"),
        (TOML.replace('"one"', '"../one"'), "is not allowed"),
        (TOML + "=", "is not TOML"),
        (TOML + "title = 'again'", "is not TOML"),
    ],
)
def test_load_refuses_bad_keys(folder: Path, toml: str, says: str) -> None:
    """Every fault of fix.toml has a message of its own."""
    (folder / "fix.toml").write_text(toml)
    with pytest.raises(InputError, match=says):
        fixes.load(folder)


GIT = "diff --git a/fs/a.c b/fs/a.c\n"


@pytest.mark.parametrize(
    ("diff", "says"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"some prose\n", "holds no changes"),
        (b"--- a/f.c\n+++ b/f.c\n@@ -1 +1 @@\n-\xfc\n+u\n", "is not UTF-8 text .line 4"),
        (b"--- a/f.c\n+++ b/f.c\n@@ -1 +1 @@\n-\0\n+u\n", "binary data"),
        (b"diff --git a/a.o b/a.o\nindex 1..2 100644\nGIT binary patch\nliteral 0\n", "binary file"),
        (b"diff --git a/a.o b/a.o\nindex 1..2 100644\nBinary files a/a.o and b/a.o differ\n", "binary file"),
        (b"--- a/../f.c\n+++ b/../f.c\n@@ -1 +1 @@\n-a\n+b\n", "not allowed"),
        (b"--- a/x/../../f.c\n+++ b/x/../../f.c\n@@ -1 +1 @@\n-a\n+b\n", "not allowed"),
        (b"--- /etc/passwd\n+++ /etc/passwd\n@@ -1 +1 @@\n-a\n+b\n", "not allowed"),
        (b"--- a//etc/passwd\n+++ b//etc/passwd\n@@ -1 +1 @@\n-a\n+b\n", "not allowed"),
        (b"--- a/.git/config\n+++ b/.git/config\n@@ -1 +1 @@\n-a\n+b\n", "not allowed"),
        (b'--- "a/f\\303.c"\n+++ "b/f\\303.c"\n@@ -1 +1 @@\n-a\n+b\n', "not allowed"),
        (b"--- a/f.c\n+++ b/g.c\n@@ -1 +1 @@\n-a\n+b\n", "renames"),
        (GIT.encode() + b"rename from fs/a.c\nrename to fs/b.c\n", "renames or copies"),
        (GIT.encode() + b"old mode 100644\nnew mode 100755\n", "changes a file's mode"),
        (GIT.encode() + b"deleted file mode 100644\n--- a/fs/a.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n", "deletes"),
        (b"--- a/fs/a.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n", "deletes"),
        (
            GIT.encode() + b"new file mode 120000\n--- /dev/null\n+++ b/fs/a.c\n@@ -0,0 +1 @@\n+/etc\n",
            "not an ordinary",
        ),
        (
            GIT.encode() + b"index 12..34 120000\n--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1 +1 @@\n-a\n+b\n",
            "symbolic link",
        ),
        (b"--- a/f.c\n+++ b/f.c\n@@ -1,9 +1,9 @@\n-a\n+b\n", "not a whole unified diff"),
        (b"--- a/f.c\n+++ b/f.c\n@@ -1 +1 @@\n-a\n+b\n+c\n", "exceeds its stated length"),
        (b"--- a/f.c\n+++ b/f.c\n@@ -1,0 +2 @@\n+b\n", "no context"),
        (b"--- a/f.c\n+++ b/f.c\n@@ -1 +1 @@\n-a\n+a\n", "changes nothing"),
        (b"--- a/f.c\n+++ b/f.c\n@@ -1 +1 @@\n-a\n+b\n--- a/f.c\n+++ b/f.c\n@@ -9 +9 @@\n-a\n+b\n", "two places"),
    ],
)
def test_load_refuses_bad_diffs(folder: Path, diff: bytes, says: str) -> None:
    """A diff that does more than change and add source files is refused before anything reads further."""
    (folder / "fix.patch").write_bytes(diff)
    with pytest.raises(InputError, match=says):
        fixes.load(folder)


def test_load_accepts_a_mailed_diff(folder: Path) -> None:
    """Headers, a diffstat and a signature around the diff, as git format-patch writes them, do no harm."""
    mail = "From 0123 Mon Sep 17\nSubject: x\n\ntext\n---\n a.c | 2 +-\n\n" + GIT.replace("fs/a.c", "fs/proc/a.c")
    (folder / "fix.patch").write_text(mail + "index 12..34 100644\n" + unified(OLD, NEW) + "-- \n2.39.5\n\n")
    assert fixes.files(fixes.load(folder)) == ("fs/proc/a.c",)


def test_load_names_what_is_missing(folder: Path, tmp_path: Path) -> None:
    """A missing folder, a missing file and an entry that has yet to be derived are told apart."""
    with pytest.raises(InputError, match="no fix folder"):
        fixes.load(tmp_path / "nowhere")
    (folder / "fix.patch").unlink()
    with pytest.raises(InputError, match=r"fix\.patch is missing"):
        fixes.load(folder)
    (folder / "fix.toml").rename(folder / "derive.toml")
    with pytest.raises(InputError, match="holds no fix yet"):
        fixes.load(folder)


def test_apply_writes_only_beside_the_source(source: Path, tmp_path: Path) -> None:
    """Changed files appear in the overlay, and the source stays as it was."""
    into = tmp_path / "overlay"
    assert fixes.apply((fix(unified(OLD, NEW)),), source=source, into=into) == ("fs/proc/a.c",)
    assert (into / "fs/proc/a.c").read_text() == NEW
    assert (source / "fs/proc/a.c").read_text() == OLD
    assert [path.name for path in into.rglob("*") if path.is_file()] == ["a.c"]


def test_apply_joins_two_fixes_of_one_file(source: Path, tmp_path: Path) -> None:
    """Both diffs are against the untouched file, in any order, and near lines may be each other's context."""
    one = fix(unified(OLD, NEW), "one")
    more = OLD.replace("line 12\n", "").replace("line 30\n", "line 30\nmore\n")
    two = fix(unified(OLD, more), "two")
    for number, order in enumerate(((one, two), (two, one))):
        fixes.apply(order, source=source, into=tmp_path / str(number))
        expected = NEW.replace("line 12\n", "").replace("line 30\n", "line 30\nmore\n")
        assert (tmp_path / str(number) / "fs/proc/a.c").read_text() == expected


def test_apply_takes_the_same_change_once(source: Path, tmp_path: Path) -> None:
    """Two fixes that hold the very same hunk do not conflict."""
    both = (fix(unified(OLD, NEW), "one"), fix(unified(OLD, NEW), "two"))
    fixes.apply(both, source=source, into=tmp_path / "into")
    assert (tmp_path / "into/fs/proc/a.c").read_text() == NEW


@pytest.mark.parametrize("other", [OLD.replace("line 10\n", "x\n"), OLD.replace("line 10\n", "line 10\nnext\n")])
def test_apply_names_both_fixes_that_conflict(source: Path, tmp_path: Path, other: str) -> None:
    """Two fixes that change the same or neighbouring lines are refused, and nothing is written."""
    both = (fix(unified(OLD, NEW), "one"), fix(unified(OLD, other), "two"))
    with pytest.raises(InputError, match=r"one and two both change fs/proc/a\.c at line 1[01]"):
        fixes.apply(both, source=source, into=tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_apply_accepts_another_line_but_no_fuzz(source: Path, tmp_path: Path) -> None:
    """The same text further down is taken when it is unique; one differing context line is not."""
    (source / "fs/proc/a.c").write_text("new\n" * 7 + OLD)
    fixes.apply((fix(unified(OLD, NEW)),), source=source, into=tmp_path / "into")
    assert (tmp_path / "into/fs/proc/a.c").read_text() == "new\n" * 7 + NEW
    (source / "fs/proc/a.c").write_text(OLD.replace("line 8\n", "line eight\n"))
    with pytest.raises(
        InputError, match=r"hunk 1 of fs/proc/a\.c .*expects 'line 8' at line 8, but found 'line eight'"
    ):
        fixes.apply((fix(unified(OLD, NEW)),), source=source, into=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_apply_refuses_two_possible_places(source: Path, tmp_path: Path) -> None:
    """A hunk that fits two other places is never put at one of them."""
    (source / "fs/proc/a.c").write_text("new\n" + OLD + OLD)
    with pytest.raises(InputError, match="fits 2 other places"):
        fixes.apply((fix(unified(OLD, NEW)),), source=source, into=tmp_path / "into")


def test_apply_says_when_the_fix_is_there_already(source: Path, tmp_path: Path) -> None:
    """A kernel that has the fix is told from one that the fix is not for."""
    (source / "fs/proc/a.c").write_text(NEW)
    with pytest.raises(InputError, match="already in this source, at line 7"):
        fixes.apply((fix(unified(OLD, NEW)),), source=source, into=tmp_path / "into")


def test_apply_refuses_absent_files_and_links(source: Path, tmp_path: Path) -> None:
    """Files that this source lacks, and paths through symbolic links, are refused."""
    with pytest.raises(InputError, match="has no such file"):
        fixes.apply((fix(unified(OLD, NEW, "fs/none.c")),), source=source, into=tmp_path / "into")
    (source / "link").symlink_to("fs")
    for diff in (unified(OLD, NEW, "link/b.c"), unified("", "x\n", "link/c.c").replace("a/link/c.c", "/dev/null")):
        with pytest.raises(InputError, match=r"symbolic link|has that file"):
            fixes.apply((fix(diff),), source=source, into=tmp_path / "into")


def test_apply_adds_new_files(source: Path, tmp_path: Path) -> None:
    """A new file is written beside the changed ones; one that exists already is refused."""
    new = unified("", "int x;\n", "fs/new.h").replace("--- a/fs/new.h", "--- /dev/null")
    assert fixes.apply((fix(new + unified(OLD, NEW)),), source=source, into=tmp_path / "i") == (
        "fs/new.h",
        "fs/proc/a.c",
    )
    assert (tmp_path / "i/fs/new.h").read_text() == "int x;\n"
    (source / "fs/new.h").write_text("")
    with pytest.raises(InputError, match="has that file already"):
        fixes.apply((fix(new),), source=source, into=tmp_path / "j")


def test_apply_leaves_nothing_partial(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second file cannot be written, the first one goes too."""
    real = fixes.write_atomic

    def full(path: Path, content: bytes) -> None:
        if path.name == "a.c":
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(fixes, "write_atomic", full)
    two = fix(unified(OLD, NEW, "fs/b.c") + unified(OLD, NEW))
    with pytest.raises(OSError, match="No space"):
        fixes.apply((two,), source=source, into=tmp_path / "into")
    assert not [path for path in (tmp_path / "into").rglob("*") if path.is_file()]


def test_apply_keeps_old_bytes_and_missing_last_newline(source: Path, tmp_path: Path) -> None:
    """Bytes that are not UTF-8 elsewhere, form feeds and a missing last newline stay as they were."""
    (source / "fs/b.c").write_bytes(b"/* J\xfcrgen \f */\n" + OLD.encode() + b"end")
    diff = "--- a/fs/b.c\n+++ b/fs/b.c\n@@ -41,2 +41,2 @@\n line 40\n-end\n\\ No newline at end of file\n+END\n"
    fixes.apply((fix(diff),), source=source, into=tmp_path / "into")
    assert (tmp_path / "into/fs/b.c").read_bytes() == b"/* J\xfcrgen \f */\n" + OLD.encode() + b"END\n"
