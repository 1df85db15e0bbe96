"""Which fixes make up a livepatch."""

from __future__ import annotations

import pytest

from kmend.build.plan import plan
from kmend.kit.errors import InputError
from kmend.model.fix import Fix
from makers.nouns import KERNEL


def fix(name: str) -> Fix:
    """A fix of that name."""
    return Fix(name=name, cves=(), title="t", diff="d", origin="o")


def test_fixes_keep_their_order() -> None:
    """A later one may need an earlier one."""
    patchset = plan([fix("b"), fix("a")], KERNEL, number=7)
    assert [one.name for one in patchset.fixes] == ["b", "a"]
    assert (patchset.kernel, patchset.number) == (KERNEL, 7)


@pytest.mark.parametrize(
    ("names", "number", "message"),
    [
        ([], 1, "no fix"),
        (["a", "b", "a"], 1, "Fix a was given more than once"),
        (["a"], 0, "out of range"),
        (["a"], -3, "out of range"),
        (["a"], 1_000_000, "out of range"),
    ],
)
def test_what_makes_no_livepatch_is_refused(names: list[str], number: int, message: str) -> None:
    """With one clear message."""
    with pytest.raises(InputError, match=message):
        plan([fix(name) for name in names], KERNEL, number=number)
