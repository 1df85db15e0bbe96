"""Only the functions that a CVE's record names."""

import json
from dataclasses import replace

import pytest

from kmend.build import fixes as fix_folders
from kmend.build.narrow import narrowed
from kmend.build.sources import Sources
from kmend.build.update import plan_update
from kmend.exposure.records import parse
from kmend.kernels.changelog import ChangelogItem
from kmend.kit.progress import Silent
from kmend.model.update import CveState
from makers.cve_records import make_units, record
from makers.nouns import KERNEL

OLD = "int named(int a)\n{\n\treturn a;\n}\n\nint other(int a)\n{\n\treturn a;\n}\n"
CHECK = "static int check(int a)\n{\n\treturn a > 0;\n}\n\n"
NEW = CHECK + OLD.replace("return a;", "return check(a) ? a : 0;", 1).replace("\treturn a;", "\treturn a + 1;")


@pytest.fixture
def sources(tmp_path):
    """Two trees of one file: a new function, one that uses it, and one that changed for another reason."""
    for name, text in (("old", OLD), ("new", NEW)):
        (tmp_path / name / "fs").mkdir(parents=True)
        (tmp_path / name / "fs/a.c").write_text(text)
    return Sources(old=tmp_path / "old", new=tmp_path / "new", old_version="6.1.170-3", new_version="6.1.192-2")


def told(text):
    """A record whose description is the text."""
    return parse(json.dumps(record("CVE-2026-1000", "fs/a.c", text=text)).encode(), cve="CVE-2026-1000")


def test_named_functions_and_what_they_newly_use_are_taken(sources):
    """The function that the record does not name stays as it was; the fix says what it may lack."""
    fix = narrowed(told("In named(), a must be positive."), ("fs/a.c",), sources)
    text = fix_folders.changed((fix,), source=sources.old)["fs/a.c"]
    assert text == NEW.replace("a + 1", "a")
    assert "The commit may change more." in fix.reasoning


@pytest.mark.parametrize("text", ["Something is wrong.", "check() is new.", "unnamed() and named_too()"])
def test_nothing_named_is_no_fix(sources, text):
    """A word that is no changed function of the old file does not count."""
    assert narrowed(told(text), ("fs/a.c",), sources) is None


@pytest.mark.parametrize(("narrow", "code", "changes"), [(True, "narrowed", 1), (False, "", 2)])
def test_the_plan_marks_what_was_narrowed(sources, narrow, code, changes):
    """Only when asked, and its row says so."""
    one = told("named() is wrong")
    plan, fixes = plan_update(
        KERNEL,
        [ChangelogItem(version="6.1.192-2", subject="s", cves=(one.cve,))],
        records={one.cve: replace(one, cve=one.cve)},
        units=make_units({"fs/a.c": "vmlinux"}),
        sources=sources,
        narrow=narrow,
        progress=Silent(),
    )
    assert [(row.state, row.code) for row in plan.cves] == [(CveState.FIX, code)]
    assert fixes[0].diff.count("-\treturn a;") == changes
