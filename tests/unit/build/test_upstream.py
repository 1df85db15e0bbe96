"""Fixes from upstream commits in a git clone."""

import subprocess
from dataclasses import replace

import pytest

from kmend.build import fixes as fix_folders
from kmend.build import upstream
from kmend.build.closure import Update
from kmend.build.sources import Sources
from kmend.build.update import plan_update
from kmend.exposure import records
from kmend.kit.errors import InputError
from kmend.kit.progress import Silent
from kmend.linux.changelog import ChangelogItem
from kmend.model.update import CveState
from makers.cve_records import make_units, record, write_records
from makers.nouns import KERNEL

FIRST = "int one(int a)\n{\n\treturn a;\n}\n"
LAST = "int two(int a)\n{\n\treturn a;\n}\n"
GAP = "\n/* text */\n" * 6
ORIGINAL = FIRST + GAP + LAST
FIXED_ONE = ORIGINAL.replace("return a;", "return a + 1;", 1)
FIXED_BOTH = FIXED_ONE.replace("return a;", "return a + 2;", 1)


def git(folder, *words):
    """What git prints."""
    settings = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", folder, *settings, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone in which one commit repairs one() and the next one two() and a header; and their hashes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "linux"
    (folder / "fs").mkdir(parents=True)
    git(folder, "init", "-q")
    commits = []
    for text, header in ((ORIGINAL, "1"), (FIXED_ONE, "1"), (FIXED_BOTH, "2")):
        (folder / "fs/a.c").write_text(text)
        (folder / "fs/a.h").write_text(f"#define A {header}\n")
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", "x")
        commits.append(git(folder, "rev-parse", "HEAD"))
    return upstream.check(folder), commits


def tree_with(tmp_path, name, text, header="1"):
    """A source tree with one file and a header."""
    (tmp_path / name / "fs").mkdir(parents=True)
    (tmp_path / name / "fs/a.c").write_text(text)
    (tmp_path / name / "fs/a.h").write_text(f"#define A {header}\n")
    return tmp_path / name


def take(clone, commit, tree):
    """The fix that a commit is for a tree."""
    return upstream.taken_over(
        commit, ("fs/a.c",), clone=clone, tree=tree, name="n", cve="CVE-2026-1000", title="t"
    )


def test_a_commit_is_merged_at_other_lines(clone, tmp_path):
    """The distribution's own lines stay, and only the commit's change is made."""
    its, (_, one, two) = clone
    old = tree_with(tmp_path, "old", "/* the distribution's */\n" + ORIGINAL)
    fixed = fix_folders.changed((take(its, two, old),), source=old)
    assert fixed == {"fs/a.c": "/* the distribution's */\n" + ORIGINAL.replace(LAST, LAST.replace("a;", "a + 2;"))}
    both = fix_folders.changed((take(its, one, old), replace(take(its, two, old), name="m")), source=old)
    assert both == {"fs/a.c": "/* the distribution's */\n" + FIXED_BOTH}


def test_conflicts_and_what_is_there_already_are_named(clone, tmp_path):
    """Neither is guessed at."""
    its, (root, one, _) = clone
    with pytest.raises(InputError, match="conflicts"):
        take(its, one, tree_with(tmp_path, "other", ORIGINAL.replace("return a;", "return 7;")))
    with pytest.raises(InputError, match="already"):
        take(its, one, tree_with(tmp_path, "new", FIXED_ONE))
    with pytest.raises(InputError, match="adds or deletes"):
        take(its, root, tree_with(tmp_path, "odd", "int x;\n"))
    with pytest.raises(InputError, match="no git clone"):
        upstream.check(tmp_path / "none")


def test_the_plan_prefers_commits(clone, tmp_path):
    """The commit's own files count, each CVE has a fix of its own, and without one the difference is taken."""
    its, (_, one, two) = clone
    vulns = write_records(
        tmp_path / "vulns", *(record(f"CVE-2026-100{at}", "fs/a.c", "fs/a.h") for at in range(3))
    )
    for cve, commit in (("CVE-2026-1000", one), ("CVE-2026-1001", two), ("CVE-2026-1002", "f" * 40)):
        (vulns / f"cve/published/2026/{cve}.dyad").write_text(f"5.3:{'a' * 40}:6.1.178:{commit}\n")
    known = records.read(vulns)
    units = make_units({"fs/a.c": "vmlinux"})
    sources = Sources(
        old=tree_with(tmp_path, "old", ORIGINAL),
        new=tree_with(tmp_path, "new", FIXED_BOTH, header="2"),
        old_version="6.1.170-3",
        new_version="6.1.192-2",
    )
    plan, fixes = plan_update(
        KERNEL,
        [ChangelogItem(version="6.1.192-2", subject="s", cves=tuple(known))],
        records=known,
        units=units,
        update=Update.between(units, sources, progress=Silent()),
        clone=its,
        progress=Silent(),
    )
    assert [(row.state, row.code) for row in plan.cves] == [(CveState.FIX, "")] * 3
    origins = {fix.name: fix.origin for fix in fixes}
    assert origins.pop("CVE-2026-1000") == f"upstream stable commit {one}"
    assert "6.1.170-3 to 6.1.192-2" in origins.pop("CVE-2026-1002")
    exact = {one.name: one.exact for one in plan.fixes}
    assert (exact["CVE-2026-1000"], exact["CVE-2026-1002"]) == (True, False)
