"""Which version is newer, as the container projects count."""

import pytest

from kmend.audit.versions import is_fixed, upstream


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
