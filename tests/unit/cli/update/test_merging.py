"""Fixes of one update that touch the same files."""

from __future__ import annotations

from pathlib import Path

from kmend.build import fixes as fix_folders
from kmend.build.closure import Update
from kmend.build.taking import begun
from kmend.cli.update.merging import Merger
from kmend.model.fix import Fix, Objection, ObjectionCode
from makers.update import update_of

HEADER = "drivers/box.h"
ONE, TWO = "drivers/one.c", "drivers/two.c"
OLD = {
    HEADER: "#define A 1\n",
    ONE: '#include "box.h"\nint one(void)\n{\n\treturn A;\n}\n',
    TWO: '#include "box.h"\nint two(void)\n{\n\treturn A;\n}\n',
}
NEW = {
    HEADER: "#define A 1\n#define B 2\n#define C 3\n",
    ONE: OLD[ONE].replace("return A", "return B"),
    TWO: OLD[TWO].replace("return A", "return C"),
}


def fix_of(update: Update, name: str, *files: str) -> Fix:
    """The whole difference of some files."""
    diff = update.diff(begun(update, files).changes)
    return Fix(name=name, cves=(f"CVE-2026-{1000 + len(name)}",), title="t", diff=diff, origin="o")


def merger_of(update: Update, **files: str) -> Merger:
    """For fixes that take the whole difference of one file each."""
    return Merger(update, {name: begun(update, [file]).changes for name, file in files.items()})


def test_lines_at_one_place_of_a_header_come_in_the_order_of_the_newer_file(tmp_path: Path) -> None:
    """As diffs the two would clash."""
    update = update_of(tmp_path, OLD, NEW)
    fixes = (fix_of(update, "b", TWO), fix_of(update, "a", ONE))
    merged = merger_of(update, a=ONE, b=TWO).merged(fixes)
    assert [fix.name for fix in merged] == ["b", "a"]
    fix_folders.apply(merged, source=tmp_path / "old", into=tmp_path / "out")
    assert {path: (tmp_path / "out" / path).read_text() for path in NEW} == NEW


def test_a_fix_that_brings_nothing_more_is_part_of_another(tmp_path: Path) -> None:
    """Its CVEs are closed by that."""
    update = update_of(tmp_path, OLD, NEW)
    first, second = fix_of(update, "a", ONE), fix_of(update, "again", ONE)
    (merged,) = merger_of(update, a=ONE, again=ONE).merged((first, second))
    assert merged.name == "a"
    assert merged.cves == (*first.cves, *second.cves)


def test_what_is_not_of_the_update_stays_as_it_is(tmp_path: Path) -> None:
    """A fix from upstream's commits."""
    update = update_of(tmp_path, OLD, NEW)
    fix = fix_of(update, "a", ONE)
    assert Merger(update, {"a": None}).merged((fix,)) == (fix,)
    assert Merger(update, {}).grow((fix,), ()) is False


def test_what_all_miss_together_is_taken_too(tmp_path: Path) -> None:
    """A header that one of them changes, and a file that only the other compiles."""
    third = "drivers/three.c"
    old = OLD | {third: '#include "box.h"\nint three(void)\n{\n\treturn A;\n}\n'}
    new = NEW | {third: old[third].replace("return A", "return A + 0")}
    update = update_of(tmp_path, old, new)
    fix = fix_of(update, "a", ONE)
    merger = merger_of(update, a=ONE)
    lines = (f"{third}: In function 'three':", f"{third}:4:9: error: something is not right")
    objection = Objection(code=ObjectionCode.COMPILE_FAILED, place=third, reason="r", advice="a", evidence=lines)
    assert merger.grow((fix,), (objection,))
    assert third in fix_folders.files(merger.merged((fix,))[0])
    assert not merger.grow((fix,), (objection,))
