"""Versions against the spans of a CVE record."""

import pytest

from kmend.exposure.records import Affected, Span
from kmend.exposure.versions import ever_affected, stand, upstream
from makers.exposures import USUAL

# A change that only stable releases took over.
ONLY_STABLE = (Affected(otherwise=False, spans=(Span("6.1.120", "6.1.131", "", True),)),)


@pytest.mark.parametrize(
    ("version", "affected", "is_affected", "later"),
    [
        ("6.1.176", USUAL, True, False),
        ("6.1.178", USUAL, False, False),
        ("6.1.192", USUAL, False, False),
        ("6.12.96", USUAL, True, False),
        ("6.12.100", USUAL, False, False),
        ("6.6.1", USUAL, True, False),
        ("5.2.21", USUAL, False, True),
        ("5.3", USUAL, True, False),
        ("5.3.0", USUAL, True, False),
        ("7.2-rc1", USUAL, True, False),
        ("7.2", USUAL, False, False),
        ("8.0", USUAL, False, False),
        ("6.1.119", ONLY_STABLE, False, True),
        ("6.1.125", ONLY_STABLE, True, False),
        ("6.1.131", ONLY_STABLE, False, False),
    ],
)
def test_spans(version, affected, is_affected, later):
    """A version counts by its numbers: 6.1 is not 6.12, and a candidate comes before its release."""
    found = stand(version, affected)
    assert (found.affected, found.introduced_later) == (is_affected, later)
    assert found.because


@pytest.mark.parametrize(
    ("version", "affected", "expected"),
    [
        ("6.1.0", ONLY_STABLE, True),
        ("6.1", ONLY_STABLE, True),
        ("6.12.1", ONLY_STABLE, False),
        ("6.1.190", USUAL, True),
        ("5.2.0", USUAL, False),
        ("8.0", USUAL, False),
        ("6.1.0", (), False),
    ],
)
def test_whether_any_release_of_a_series_has_it(version, affected, expected):
    """Also one that took the hole over and lost it again."""
    assert ever_affected(version, affected) is expected


def test_one_of_several_statements_is_enough():
    """A record that speaks of two histories affects what either affects."""
    assert stand("6.1.125", (ONLY_STABLE[0], USUAL[0])).affected
    assert stand("6.1.125", (Affected(False, (Span("9.0", "", "", True),)), ONLY_STABLE[0])).affected


@pytest.mark.parametrize(("version", "affected"), [("6.1.1", ()), ("", USUAL), ("next-20260101", USUAL)])
def test_nothing_is_said(version, affected):
    """No spans, or no version, is no answer."""
    assert stand(version, affected) is None


def test_spans_that_are_no_versions_hold_for_none():
    """What cannot be compared decides nothing."""
    odd = (Affected(False, (Span("abc", "def", "", True), Span("6.1", "", "xyz", True))),)
    assert not stand("6.1.5", odd).affected


@pytest.mark.parametrize(
    ("version", "expected"),
    [("6.1.176-1", "6.1.176"), ("6.12.107-1~deb12u1", "6.12.107"), ("6.1.0-50-cloud-amd64", "6.1.0"), ("x", "")],
)
def test_upstream(version, expected):
    """The stable version in a package's."""
    assert upstream(version) == expected
