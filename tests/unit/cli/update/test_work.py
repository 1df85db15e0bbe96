"""Fixes of a plan, built and proven one by one."""

import pytest

from kmend.cli.update.work import read_result, work_off
from kmend.kit.errors import BugError, MachineError, ProgramError
from kmend.kit.progress import Silent
from kmend.model.update import Outcome
from makers.update import Workshop, make_fixes


def outcomes(results):
    """Name → outcome and code."""
    return {one.name: (one.outcome, one.code) for one in results}


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_fix_ends_with_an_outcome(tmp_path, jobs):
    """What is refused, what fails in the VM and what kmend stumbles over do not stop the others."""
    fixes = make_fixes("good", "no", "sick", "broken", "bug", "oops", "last")
    answers = {"no": "refused", "sick": "lab", "broken": ProgramError("gcc died"), "bug": BugError("own")}
    answers["oops"] = KeyError("x")
    results = work_off(fixes, Workshop(answers).shop(tmp_path), jobs=jobs, progress=Silent())
    assert outcomes(results) == {
        "good": (Outcome.PROVEN, ""),
        "no": (Outcome.REFUSED, "compile-failed"),
        "sick": (Outcome.FAILED, "lab"),
        "broken": (Outcome.FAILED, "error"),
        "bug": (Outcome.FAILED, "error"),
        "oops": (Outcome.FAILED, "crash"),
        "last": (Outcome.PROVEN, ""),
    }
    assert [one.name for one in results] == [fix.name for fix in fixes]
    assert "no such name" in results[1].reason
    assert "load: kernel panic" in results[2].reason


def test_a_second_start_goes_on(tmp_path):
    """What has a result is not done again; --limit counts what is still open; errors are tried again."""
    fixes = make_fixes("a", "b", "c")
    first = Workshop({"a": ProgramError("killed")})
    assert set(outcomes(work_off(fixes, first.shop(tmp_path), limit=2, progress=Silent()))) == {"a", "b"}
    second = Workshop()
    results = work_off(fixes, second.shop(tmp_path), progress=Silent())
    assert second.built == [("a",), ("c",)]
    assert {one.outcome for one in results} == {Outcome.PROVEN}


def test_what_did_not_hold_is_tried_again_only_when_asked(tmp_path):
    """A livepatch that failed in the VM stays failed without --again."""
    fixes = make_fixes("a")
    work_off(fixes, Workshop({"a": "lab"}).shop(tmp_path), progress=Silent())
    second = Workshop()
    assert work_off(fixes, second.shop(tmp_path), progress=Silent())[0].outcome is Outcome.FAILED
    assert work_off(fixes, second.shop(tmp_path), again=True, progress=Silent())[0].outcome is Outcome.PROVEN
    assert second.built == [("a",)]


def test_what_was_built_without_a_vm_is_only_proven_later(tmp_path):
    """--lab none, then --lab quick: built once."""
    fixes = make_fixes("a")
    shop = Workshop()
    assert work_off(fixes, shop.shop(tmp_path, lab=False), progress=Silent())[0].outcome is Outcome.BUILT
    assert work_off(fixes, shop.shop(tmp_path), progress=Silent())[0].outcome is Outcome.PROVEN
    assert (shop.built, shop.proved) == ([("a",)], ["a"])


def test_a_result_counts_for_its_own_diff_only(tmp_path):
    """A changed fix, and a file that is no result, are built anew."""
    (fix,), (other,) = make_fixes("a"), make_fixes("b")
    shop = Workshop().shop(tmp_path)
    work_off((fix,), shop, progress=Silent())
    path = tmp_path / "results" / "a.json"
    path.rename(tmp_path / "results" / "b.json")
    assert read_result(shop, other) is None
    path.write_text("{")
    assert read_result(shop, fix) is None


def test_a_machine_that_lacks_something_ends_the_work(tmp_path):
    """No QEMU is not the fault of a fix: no result is written."""
    fixes = make_fixes("a", "b")
    with pytest.raises(MachineError, match="no QEMU"):
        work_off(fixes, Workshop({"a": MachineError("no QEMU")}).shop(tmp_path), progress=Silent())
    assert not (tmp_path / "results").exists()
