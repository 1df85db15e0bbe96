"""Which version of a package is newer."""

import shutil
import subprocess
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmend.linux.versions import apk_compare, debian_compare, rpm_compare

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


# The older first.
OF_ALPINE = (
    "no version", "1.2_alpha", "1.2_alpha1", "1.2_beta", "1.2_pre2", "1.2_rc1", "1.2_rc2", "1.2", "1.2-r0",
    "1.2-r10", "1.2_git20240101", "1.2_p1", "1.2a", "1.2b", "1.2.0", "1.2.1", "1.10", "1.10.1-r2", "2", "10",
)  # fmt: skip


@pytest.mark.parametrize(("older", "newer"), list(combinations(OF_ALPINE, 2)))
def test_alpine_versions_are_in_order(older: str, newer: str):
    """As apk-package(5) says; what goes on is newer, but for a suffix that comes before."""
    assert apk_compare(older, newer) < 0
    assert apk_compare(newer, older) > 0


def test_a_part_of_an_alpine_version_that_begins_with_0_is_a_fraction():
    """1.05 comes before 1.2, and before 1.5."""
    assert apk_compare("1.05", "1.2") < 0
    assert apk_compare("1.05", "1.5") < 0
    assert apk_compare("05.1", "4.1") > 0


APK = st.from_regex(
    r"[0-9]{1,2}(\.[0-9]{1,2}){0,3}[a-c]?(_(rc|p|git|alpha)[0-9]{0,2}){0,2}(-r[0-9])?", fullmatch=True
)


@given(st.lists(st.one_of(APK, st.text(max_size=6)), min_size=3, max_size=3))
def test_alpine_versions_have_one_order(versions: list[str]):
    """Whatever the versions: the same from both sides, and transitive."""
    one, other, third = versions
    assert (apk_compare(one, other) > 0) == (apk_compare(other, one) < 0)
    if apk_compare(one, other) <= 0 and apk_compare(other, third) <= 0:
        assert apk_compare(one, third) <= 0


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0~rc1-1", "1.0-1"),
        ("1.0-1", "1.0^git1-1"),
        ("1.0^git1-1", "1.0.1-1"),
        ("1.0a-1", "1.0.1-1"),
        ("9-1", "1:1-1"),
        ("5.1.8-6.el9", "5.1.8-6.el9_1"),
        ("5.1.8-6.el9", "5.1.8-9.el9"),
        ("0:2-9", "2-10"),
    ],
)
def test_rpm_versions_are_in_order(older: str, newer: str):
    """Epoch, version, release."""
    assert rpm_compare(older, newer) < 0
    assert rpm_compare(newer, older) > 0


@pytest.mark.parametrize(
    ("one", "other"), [("1.0", "1.0-5.el9"), ("0:1-1", "1-1"), ("1.0.", "1.0"), ("1.01", "1.1")]
)
def test_rpm_versions_that_are_equal(one: str, other: str):
    """A release that is not named is any; zeros and signs at the end do not count."""
    assert rpm_compare(one, other) == 0


PART = st.from_regex(r"[019ab.~^_+]{1,7}", fullmatch=True)


@pytest.mark.skipif(shutil.which("rpm") is None, reason="Debian's rpm is not here")
@settings(max_examples=20)
@given(st.lists(st.tuples(PART, PART), min_size=100, max_size=200))
def test_the_order_is_rpms(pairs: list[tuple[str, str]]):
    """As the real rpm compares them."""
    asked = ",".join(f'{{"{one}","{other}"}}' for one, other in pairs)
    program = f"%{{lua: for _, p in ipairs({{{asked}}}) do print(rpm.vercmp(p[1], p[2]), ' ') end}}"
    done = subprocess.run(["rpm", "--eval", program], capture_output=True, text=True, check=True)
    ours = [(order > 0) - (order < 0) for order in (rpm_compare(one, other) for one, other in pairs)]
    assert list(zip(pairs, ours, strict=True)) == list(zip(pairs, map(int, done.stdout.split()), strict=True))
