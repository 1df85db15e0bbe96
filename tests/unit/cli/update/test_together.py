"""One livepatch of everything that goes together."""

from dataclasses import replace

import pytest

from kmend.cli.update.together import put_together
from kmend.kit.progress import Silent
from kmend.model.update import Outcome
from makers.update import Workshop, make_fixes

FIXES = make_fixes("a", "b", "c", "d", "e", "f", "g")


def test_all_at_once_when_nothing_stands_against_it(tmp_path):
    """One build, one VM; a second start takes it as it is."""
    shop = Workshop()
    made = put_together(FIXES, shop.shop(tmp_path), taken={}, progress=Silent())
    assert (made.outcome, made.fixes, made.left_out) == (Outcome.PROVEN, tuple("abcdefg"), ())
    assert put_together(FIXES, shop.shop(tmp_path), taken={}, progress=Silent()) == made
    assert len(shop.built) == len(shop.proved) == 1
    assert put_together(FIXES[:2], shop.shop(tmp_path), taken={}, progress=Silent()).fixes == ("a", "b")


@pytest.mark.parametrize(
    ("clashes", "left_out"),
    [
        ([{"b", "f"}], ["f"]),
        ([{"a", "b"}, {"c", "g"}], ["b", "g"]),
        ([{"d"}], ["d"]),
        ([{"b", "d", "g"}], ["g"]),
    ],
)
def test_what_does_not_go_together_is_found_and_named(tmp_path, clashes, left_out):
    """Of each clash one fix is left out with the reason; all others stay, and the folder holds just those."""
    shop = Workshop(clashes=clashes)
    made = put_together(FIXES, shop.shop(tmp_path), taken={}, progress=Silent())
    assert [one.name for one in made.left_out] == left_out
    assert all("compile-failed" in one.reason for one in made.left_out)
    assert set(made.fixes) == set("abcdefg") - set(left_out)
    built = [names for names in shop.built if not any(clash <= set(names) for clash in clashes)]
    assert built[-1] == made.fixes
    assert len(set(shop.built)) == len(shop.built)


def test_what_fails_in_the_vm_does_not_stay_in_the_folder(tmp_path):
    """A larger livepatch that builds but does not hold leaves the smaller one where it is."""
    shop = Workshop()
    real = shop.shop(tmp_path)
    proves = real.proves

    def fails_for_three(folders):
        for folder, report in proves(folders):
            yield folder, replace(report, passed=len(shop.built[-1]) < 3, failure="panic")

    made = put_together(FIXES[:3], replace(real, proves=fails_for_three), taken={}, progress=Silent())
    assert made.fixes == ("a", "b")
    assert made.left_out[0].reason == "lab: panic"
    assert not (tmp_path / "together.trial").exists()
    assert (tmp_path / "together" / "livepatch.json").exists()


def test_nothing_holds_together(tmp_path):
    """That no livepatch came of it is an outcome, not an error."""
    shop = Workshop(clashes=[{"a"}, {"b"}])
    made = put_together(FIXES[:2], shop.shop(tmp_path), taken={}, progress=Silent())
    assert (made.outcome, made.fixes) == (Outcome.FAILED, ())
    assert [one.name for one in made.left_out] == ["a", "b"]


def test_what_cannot_be_applied_together_is_found_without_building(tmp_path):
    """Of two fixes that change one line the later is left out before anything is compiled."""
    shop = Workshop(unmergeable=[{"b", "f"}, {"a", "g"}])
    made = put_together(FIXES, shop.shop(tmp_path), taken={}, progress=Silent())
    assert [(one.name, one.reason) for one in made.left_out] == [("f", "b and f clash"), ("g", "a and g clash")]
    assert shop.built == [tuple("abcde")]


def test_a_fix_whose_own_file_is_objected_to_is_the_first_suspect(tmp_path):
    """It is left out after two trials, without halving."""
    shop = Workshop(clashes=[{"a", "f"}])
    made = put_together(FIXES, shop.shop(tmp_path), taken={}, progress=Silent())
    assert [one.name for one in made.left_out] == ["a"]
    assert len(shop.built) == 2
