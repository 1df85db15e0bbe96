"""Fix folders made by editing files of a source tree."""

import difflib
from pathlib import Path

TOML = 'name = "{name}"\ncves = ["CVE-2026-1000"]\ntitle = "A test"\norigin = "test"\n'


def write_fix(folder: Path, diff: str) -> Path:
    """A fix folder around a diff."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fix.toml").write_text(TOML.format(name=folder.name))
    (folder / "fix.patch").write_text(diff)
    return folder


def make_fix(folder: Path, source: Path, *edits: tuple[str, str, str]) -> Path:
    """A fix folder whose diff replaces the first occurrence of a text in each file: path, old, new."""
    return write_fix(folder, "".join(make_diff(source, *edit) for edit in edits))


def make_diff(source: Path, path: str, old: str, new: str) -> str:
    """A diff with three lines of context."""
    return make_edited(source, path, (old, new))


def make_edited(source: Path, path: str, *edits: tuple[str, str]) -> str:
    """A diff of several edits of one file: old, new."""
    before = after = (source / path).read_text()
    for old, new in edits:
        assert old in after, f"{path} has no {old!r}"
        after = after.replace(old, new, 1)
    lines = [text.splitlines(keepends=True) for text in (before, after)]
    return "".join(difflib.unified_diff(*lines, f"a/{path}", f"b/{path}"))
