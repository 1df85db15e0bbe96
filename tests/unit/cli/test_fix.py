"""The verb ``kmend fix``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kmend.build import fixes
from kmend.cli import main
from kmend.model.fix import Fix

OLD = "int a;\n\nint go(void)\n{\n\treturn 1;\n}\n"
DERIVE = """\
cves = ["CVE-2026-0001"]
title = "A title"
reasoning = "r"
files = ["fs/a.c"]
functions = ["go"]
adds = ["return 2;"]
"""


def kmend(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    """Run the command line; the exit code."""
    monkeypatch.setattr("sys.argv", ["kmend", *map(str, words)])
    return main.run_command(main.kmend)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two source trees and a catalogue."""
    for name, text in (("old", OLD), ("new", OLD.replace("1", "2"))):
        (tmp_path / name / "fs").mkdir(parents=True)
        (tmp_path / name / "Kbuild").touch()
        (tmp_path / name / "fs/a.c").write_text(text)
    (tmp_path / "c/one").mkdir(parents=True)
    (tmp_path / "c/order.txt").write_text("one\n")
    (tmp_path / "c/one/derive.toml").write_text(DERIVE)
    return tmp_path


def test_derive_leaves_fix_folders(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What fits becomes a folder that `kmend fix check` accepts for the older tree and refuses for the newer."""
    words = ("--catalogue", place / "c", "--origin", "o", "--into", place / "out")
    assert kmend(monkeypatch, "fix", "derive", place / "old", place / "new", *words) == 0
    assert "derived" in capsys.readouterr().out
    assert kmend(monkeypatch, "fix", "check", place / "out/one", "--source", place / "old", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["cves"] == ["CVE-2026-0001"]
    assert kmend(monkeypatch, "fix", "check", place / "out/one", "--source", place / "new") == 1
    assert "already in this source" in capsys.readouterr().err


def test_derive_says_why_nothing_fits(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No fix is an error, its reasons are shown, and nothing is left."""
    words = ("--catalogue", place / "c", "--origin", "o", "--into", place / "out")
    assert kmend(monkeypatch, "fix", "derive", place / "new", place / "new", *words) == 1
    assert "left out one: the older source has the fix already" in capsys.readouterr().out
    assert kmend(monkeypatch, "fix", "derive", place / "c", place / "new", *words) == 1
    assert "no kernel source tree" in capsys.readouterr().err
    assert not (place / "out").exists()


def test_derive_takes_versions_as_well(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package version stands for its source tree, and for where the fix comes from."""
    trees = {("6.1", "6.1.170-3"): place / "old", ("6.12", "6.12.117-1~deb12u1"): place / "new"}
    monkeypatch.setattr("kmend.kernels.store.source", lambda series, version, **_: trees[series, version])
    words = ("--catalogue", place / "c", "--into", place / "out")
    assert kmend(monkeypatch, "fix", "derive", "6.1.170-3", "6.12.117-1~deb12u1", *words) == 0
    assert "derived" in capsys.readouterr().out
    assert fixes.load(place / "out/one").origin == "Debian linux 6.1.170-3 to 6.12.117-1~deb12u1"


def test_check_shows_a_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plain form names the CVE ids and the files."""
    diff = "--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1 +1 @@\n-a\n+b\n"
    fixes.save(Fix(name="one", cves=(), title="A title", diff=diff, origin="o"), tmp_path)
    assert kmend(monkeypatch, "fix", "check", tmp_path) == 0
    shown = capsys.readouterr().out
    assert "one  A title" in shown
    assert "changes  fs/a.c" in shown
