"""Unified diffs: whatever GNU diff makes is placed and applied exactly."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmend.build import unified
from kmend.kit.errors import InputError

LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n", "}\n", "-- x\n", "+\n", " \f\n"]), max_size=25)


def diff(old: list[str], new: list[str]) -> str:
    """A diff of one file with three lines of context."""
    return "".join(difflib.unified_diff(old, new, "a/f.c", "b/f.c"))


@given(old=LINES, new=LINES)
def test_any_diff_leads_from_old_to_new(old: list[str], new: list[str]) -> None:
    """Reading a diff, placing it and editing gives the new text, whatever the two texts are."""
    text = diff(old, new)
    if not text or not old:
        return
    (file,) = unified.parse(text, what="it")
    edits, offsets = unified.place(file, old, what="it")
    assert unified.edited(old, edits) == new
    assert not any(offsets)


@given(before=LINES, at=st.integers(0, 19), drift=st.lists(st.just("drift\n"), max_size=9))
def test_no_changed_line_is_passed_over(before: list[str], at: int, drift: list[str]) -> None:
    """A unique hunk is found after lines before it were added; with any of its own lines altered it is refused."""
    old = [f"line {number}\n" for number in range(20)]
    new = [*old[:10], "new\n", *old[11:]]
    (file,) = unified.parse(diff(old, new), what="it")
    moved = before + drift + old
    edits, offsets = unified.place(file, moved, what="it")
    assert offsets == (len(before) + len(drift),)
    assert unified.edited(moved, edits) == before + drift + new
    moved[len(before) + len(drift) + at] = "altered\n"
    if 7 <= at <= 13:
        with pytest.raises(InputError, match="found 'altered'"):
            unified.place(file, moved, what="it")
    else:
        assert unified.place(file, moved, what="it")[1] == offsets
