"""Which version is newer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmend.audit.versions import debian_compare, is_fixed, upstream

ORDERED = [
    ("1.0~rc1-1", "1.0-1"), ("1.0-1", "1.0-1+deb12u1"), ("1.1.5+ds1-1", "1.1.5+ds1-1+deb12u1"), ("9", "10"),
    ("1:0.9", "0:2.0") , ("1.6.20~ds1-1", "1.6.20~ds1-1+deb12u2"), ("2.36-9+deb12u6", "2.36-9+deb12u13"),
    ("1.0.0~rc93+ds1-5+deb11u3", "1.0.0~rc95"), ("1.0a", "1.0+"), ("1.2-3", "1.2-3.1"), ("0", "0.0"),
]  # fmt: skip


@pytest.mark.parametrize(("older", "newer"), [pair for pair in ORDERED if not pair[0].startswith("1:")])
def test_debian_versions_are_in_order(older: str, newer: str):
    """As deb-version(7) says: tilde before all, letters before other signs, numbers by value."""
    assert debian_compare(older, newer) < 0
    assert debian_compare(newer, older) > 0
    assert debian_compare(older, older) == 0


def test_an_epoch_goes_before_all():
    """5:1 is newer than 99."""
    assert debian_compare("5:1", "99") > 0


@given(st.from_regex(r"([0-9]:)?[0-9][a-z0-9.+~]{0,8}(-[a-z0-9.+~]{1,5})?", fullmatch=True),
       st.from_regex(r"([0-9]:)?[0-9][a-z0-9.+~]{0,8}(-[a-z0-9.+~]{1,5})?", fullmatch=True))  # fmt: skip
def test_the_order_is_dpkgs(one: str, other: str):
    """The same as python-debian, a reading of dpkg's own."""
    from debian.debian_support import version_compare  # noqa: PLC0415 - only the build extra has it

    ours, theirs = debian_compare(one, other), version_compare(one, other)
    assert (ours > 0) - (ours < 0) == (theirs > 0) - (theirs < 0)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v1.1.12", (1, 1, 12)),
        ("1.1.5+ds1-1+deb12u1", (1, 1, 5)),
        ("5:24.0.7-1~ubuntu.22.04~jammy", (24, 0, 7)),
        ("1.0.0~rc93+ds1-5", (1, 0, 0)),
        ("runc version 1.3.3", (1, 3, 3)),
    ],
)
def test_the_upstream_version_is_seen(text: str, version: tuple[int, int, int]):
    """In whatever a package or a binary wraps it."""
    found = upstream(text)
    assert found is not None
    assert found[:3] == version


def test_no_version_is_none():
    """A word is no version."""
    assert upstream("unknown") is None


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ("1.2.7", False), ("1.2.8", True), ("1.3.2", False), ("1.3.3", True), ("1.4.0-rc.2", False),
        ("1.4.0-rc.3", True), ("1.4.0", True), ("1.5.0", True), ("1.1.99", False),
    ],
)  # fmt: skip
def test_a_fix_counts_for_its_series(version: str, fixed: bool):
    """1.2.8, 1.3.3 and 1.4.0-rc.3 fix three series; older series have none."""
    found = upstream(version)
    assert found is not None
    assert is_fixed(found, ("1.2.8", "1.3.3", "1.4.0-rc.3")) is fixed
