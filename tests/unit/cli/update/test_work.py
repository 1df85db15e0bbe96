"""Fixes of a plan, built and proven one by one."""

from dataclasses import replace

import pytest

from kmend.cli.update.proving import SERIES
from kmend.cli.update.work import read_result, work_off
from kmend.kit.errors import BugError, MachineError, ProgramError
from kmend.kit.progress import Silent
from kmend.model.update import Outcome
from makers.nouns import make_livepatch, make_report
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


def test_many_are_proven_in_one_vm(tmp_path):
    """Built ones are proven by the series, what cannot be proven for an error of kmend is tried again."""
    fixes = make_fixes(*(f"fix{at:02}" for at in range(SERIES + 3)))
    shop = Workshop({"fix02": "lab", "fix17": "lab broken"})
    asked = []
    real = shop.shop(tmp_path)

    def proves(folders):
        asked.append(len(folders))
        return real.proves(folders)

    results = outcomes(work_off(fixes, replace(real, proves=proves), progress=Silent()))
    assert asked == [SERIES, 3]
    assert {name for name, (outcome, _) in results.items() if outcome is Outcome.PROVEN} == {
        fix.name for fix in fixes
    } - {"fix02", "fix17", "fix18"}
    assert results["fix17"] == results["fix18"] == (Outcome.FAILED, "error")
    shop.answers.clear()
    again = outcomes(work_off(fixes, real, progress=Silent()))
    assert again["fix17"] == again["fix18"] == (Outcome.PROVEN, "")


def test_the_last_report_about_a_fix_counts(tmp_path):
    """A livepatch that held in a series and not alone has failed."""
    fixes = make_fixes("a", "b")
    real = Workshop().shop(tmp_path)

    def proves(folders):
        yield from real.proves(folders)
        yield folders[0], make_report(make_livepatch(), passed=False)

    results = work_off(fixes, replace(real, proves=proves), progress=Silent())
    assert outcomes(results) == {"a": (Outcome.FAILED, "lab"), "b": (Outcome.PROVEN, "")}
    assert read_result(real, fixes[0]) == results[0]


def test_stopped_in_the_vm(tmp_path):
    """Ctrl-C while a series runs: what was proven is kept, what was built is proven at the next start."""
    fixes = make_fixes("a", "b", "c")
    shop = Workshop()
    real = shop.shop(tmp_path)

    def proves(folders):
        yield next(real.proves(folders))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work_off(fixes, replace(real, proves=proves), progress=Silent())
    assert [read_result(real, fix).outcome for fix in fixes] == [Outcome.PROVEN, Outcome.BUILT, Outcome.BUILT]
    assert {one.outcome for one in work_off(fixes, real, progress=Silent())} == {Outcome.PROVEN}
    assert len(shop.built) == 3
