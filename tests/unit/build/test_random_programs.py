"""The object differ on random programs and random edits: what it finds, and what its output does."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, assume, event, given, settings
from hypothesis import strategies as st

from kmend.model.fix import ObjectionCode
from makers.assembly import assemble, compile_to_assembly, functions_of, has_aliases
from makers.programs import Program, edits, programs
from makers.relinked import differ, main_object, printed, printed_livepatched

EXAMPLES = int(os.environ.get("KMEND_RANDOM_PROGRAMS", "100"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize="KMEND_RANDOM_PROGRAMS" not in os.environ,
    database=None,
    phases=(Phase.generate,) if "KMEND_RANDOM_PROGRAMS" not in os.environ else tuple(Phase),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
EXPECTED = {ObjectionCode.AMBIGUOUS_SYMBOL, ObjectionCode.REMOVED_STATIC, ObjectionCode.NEW_CALLBACK}
"""What random edits run into: static variables that come and go, pointers to what was left out before."""
_NUMBER = re.compile(r"\.\d+(?=\.|$)")


@pytest.fixture(scope="module")
def main(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What calls a program's functions."""
    return main_object(tmp_path_factory.mktemp("main"))


@pytest.fixture(scope="module")
def folders() -> Iterator[Path]:
    """Where each example has a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def plain(names: list[str]) -> list[str]:
    """Names without the compiler's numbers, in order."""
    return sorted(_NUMBER.sub(".", name) for name in names)


@SETTINGS
@given(data=st.data())
def test_random_programs(folders: Path, main: Path, data: st.DataObject) -> None:
    """Exactly the functions that the compiler itself has made otherwise; linked back, the output does the same."""
    before = data.draw(programs())
    after = data.draw(edits(before))
    with tempfile.TemporaryDirectory(dir=folders) as name:
        check(Path(name), main, before, after)


def check(folder: Path, main: Path, before: Program, after: Program) -> None:
    """All that must hold for one program and its edit."""
    sources = [compile_to_assembly(folder / name, str(text)) for name, text in (("a", before), ("b", after))]
    assume(not any(map(has_aliases, sources)))
    old, new = map(functions_of, sources)
    assume(all(len(one) == 1 for one in (*old.values(), *new.values())))
    original, fixed = map(assemble, sources)
    code, report = differ(folder, original, fixed)
    objections = {one["code"] for one in report["objections"]}
    event(f"exit code {code}")
    assert objections <= EXPECTED
    if ObjectionCode.AMBIGUOUS_SYMBOL not in objections:
        assert plain(report["changed"]) == sorted(one for one in new if one in old and old[one] != new[one])
        assert plain(report["new"]) == sorted(new.keys() - old.keys())
    assert code == (2 if objections else 0 if report["changed"] or report["new"] else 3)
    if code == 0:
        found = printed_livepatched(folder, main, original, report=report, entries=before.entries)
        assert found == printed(folder, [main, fixed], entries=before.entries)


@SETTINGS
@given(program=programs())
def test_a_random_program_against_itself(folders: Path, program: Program) -> None:
    """Exit code 3, though the files differ in a byte behind the end and are really compared."""
    with tempfile.TemporaryDirectory(dir=folders) as name:
        original = assemble(compile_to_assembly(Path(name) / "a", str(program)))
        fixed = Path(name) / "fixed.o"
        fixed.write_bytes(original.read_bytes() + b"\0")
        code, report = differ(Path(name), original, fixed)
        assert code == 3
        assert report["changed"] == report["new"] == report["objections"] == []
