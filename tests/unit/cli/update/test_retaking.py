"""What is built of a difference that cannot be built as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kmend.build.closure import Update
from kmend.build.sources import Sources
from kmend.cli.update.retaking import Attempt, Retaker
from kmend.kit.progress import Silent
from kmend.model.fix import Fix, Objection, ObjectionCode
from kmend.model.livepatch import Livepatch
from kmend.model.update import CveState, PlannedCve, PlannedFix, UpdatePlan
from makers.cve_records import make_units
from makers.nouns import KERNEL, make_livepatch

FILE = "drivers/a.c"
NAMES = ("one", "two", "three")
CVES = {"CVE-2026-1000": ("one",), "CVE-2026-1001": ("two",)}


def function(name: str, *, fixed: bool) -> str:
    """A C function, in the fixed form or not."""
    return f"int {name}(int x)\n{{\n\treturn x{' + 1' if fixed else ''};\n}}\n\n"


@pytest.fixture
def retaker(tmp_path: Path) -> Retaker:
    """Three functions of one file change; two CVEs share the fix, and their records name one function each."""
    for side in ("old", "new"):
        place = tmp_path / side / FILE
        place.parent.mkdir(parents=True)
        place.write_text("".join(function(name, fixed=side == "new") for name in NAMES))
    sources = Sources(old=tmp_path / "old", new=tmp_path / "new", old_version="6.1.1-1", new_version="6.1.2-1")
    update = Update.between(make_units({FILE: "vmlinux"}), sources, progress=Silent())
    cves = tuple(planned_cve(cve, named) for cve, named in CVES.items())
    fix = PlannedFix(name="a", cves=tuple(CVES), files=(FILE,), objects=("vmlinux",), exact=False)
    plan = UpdatePlan(kernel=KERNEL, to_version="6.1.2-1", cves=cves, fixes=(fix,))
    return Retaker(plan, lambda: update)


def planned_cve(cve: str, named: tuple[str, ...]) -> PlannedCve:
    """A row of the plan."""
    return PlannedCve(
        cve=cve, title="t", severity="", score=0.0, files=(FILE,), sources=(FILE,), named=named,
        objects=("vmlinux",), commit="", state=CveState.FIX, code="", reason="", fix="a",
    )  # fmt: skip


def attempt(retaker: Retaker, folder: Path, refusing: Callable[[str], Objection | None]) -> Attempt:
    """Build the fix with a builder that refuses some diffs."""

    def builds(fixes: Sequence[Fix], out: Path) -> Livepatch | tuple[Objection, ...]:
        objection = refusing(fixes[0].diff)
        if objection is not None:
            return (objection,)
        out.mkdir(parents=True)
        (out / "diff").write_text(fixes[0].diff)
        return make_livepatch()

    changes = "".join(f"+{name}\n" for name in NAMES)
    fix = Fix(name="a", cves=tuple(CVES), title="t", diff=f"whole {changes}", origin="o")
    return retaker.build(fix, builds, folder)


def taken(diff: str) -> set[str]:
    """The functions that a diff changes."""
    return {name for name in NAMES if f"+{name}\n" in diff or f"\n@@ {name}" in diff or _changes(diff, name)}


def _changes(diff: str, name: str) -> bool:
    inside = ""
    for line in diff.splitlines():
        inside = line.split("(")[0].split()[-1] if line[1:].startswith("int ") else inside
        if inside == name and line.startswith("+"):
            return True
    return False


def objection(place: str, code: ObjectionCode) -> Objection:
    """What the builder says."""
    return Objection(code=code, place=place, reason="because", advice="")


def test_what_is_objected_to_is_left_out(retaker: Retaker, tmp_path: Path) -> None:
    """The rest is built, and closes the CVEs whose functions are in it."""

    def refusing(diff: str) -> Objection | None:
        return objection("drivers/a.o: two", ObjectionCode.CHANGED_DATA) if "two" in taken(diff) else None

    found = attempt(retaker, tmp_path / "out", refusing)
    assert isinstance(found.made, Livepatch)
    assert found.closes == ("CVE-2026-1000",)
    assert [(part.names, part.code) for part in found.left_out] == [(("two",), "changed-data")]


def test_only_what_records_name_is_built_when_that_closes_more(retaker: Retaker, tmp_path: Path) -> None:
    """The builder cannot say what of the difference is at fault; what no record names is said to be left out."""

    def refusing(diff: str) -> Objection | None:
        return objection("net/other.c", ObjectionCode.COMPILE_FAILED) if "three" in taken(diff) else None

    found = attempt(retaker, tmp_path / "out", refusing)
    assert isinstance(found.made, Livepatch)
    assert set(found.closes) == set(CVES)
    assert taken((tmp_path / "out" / "diff").read_text()) == {"one", "two"}
    assert [part.code for part in found.left_out] == ["not-named"]
    assert "three" in found.left_out[0].names
    assert [path.name for path in tmp_path.iterdir() if "named" in path.name] == []


def test_what_cannot_be_built_at_all_is_refused(retaker: Retaker, tmp_path: Path) -> None:
    """With the first Objections, and nothing left behind."""
    found = attempt(retaker, tmp_path / "out", lambda _: objection("net/other.c", ObjectionCode.COMPILE_FAILED))
    assert not isinstance(found.made, Livepatch)
    assert not (tmp_path / "out").exists()


def test_the_reason_is_what_cannot_be_rather_than_what_a_compiler_missed(retaker: Retaker, tmp_path: Path) -> None:
    """The compiler's complaint led to what the builder then objected to."""
    codes = iter(
        (ObjectionCode.COMPILE_FAILED, ObjectionCode.CHANGED_LAYOUT, *[ObjectionCode.COMPILE_FAILED] * 20)
    )

    def refusing(_: str) -> Objection:
        return Objection(code=next(codes), place=f"{FILE}: one", reason="r", advice="a")

    made = attempt(retaker, tmp_path / "out", refusing).made
    assert isinstance(made, tuple)
    assert made[0].code is ObjectionCode.CHANGED_LAYOUT
