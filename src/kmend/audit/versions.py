"""Which version is newer: as Debian counts, and as the container projects count."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest

_VERSION = re.compile(
    r"v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(?:[-~.+]?(alpha|beta|rc)[.\-]?(\d{1,9})?)?", re.IGNORECASE | re.ASCII
)
_PHASES = {"alpha": 0, "beta": 1, "rc": 2}
_FINAL = 3
_LONGEST_EPOCH = 10
_PARTS = re.compile(r"(\D*)(\d*)", re.ASCII)

Upstream = tuple[int, int, int, int, int]
"""Major, minor, patch, phase (a release candidate comes before its release), number of the candidate."""


def debian_compare(version: str, other: str) -> int:
    """Above 0 when ``version`` is newer, below when ``other`` is (deb-version(7))."""
    epoch, rest = _epoch(version)
    other_epoch, other_rest = _epoch(other)
    if epoch != other_epoch:
        return epoch - other_epoch
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    other_upstream, _, other_revision = other_rest.rpartition("-") if "-" in other_rest else (other_rest, "", "")
    return _part_compare(upstream, other_upstream) or _part_compare(revision, other_revision)


def upstream(version: str) -> Upstream | None:
    """What a version string says of the upstream version: ``5:24.0.7-1~ubuntu`` and ``v24.0.7`` are both 24.0.7.

    None when no version can be seen in it.
    """
    found = _VERSION.search(version.rpartition(":")[2] if re.match(r"\d+:", version) else version)
    if not found:
        return None
    phase = _PHASES[found[4].lower()] if found[4] else _FINAL
    return int(found[1]), int(found[2]), int(found[3] or 0), phase, int(found[5] or 0)


def is_fixed(version: Upstream, fixed: Sequence[str]) -> bool:
    """Whether a version has a fix that came out in these versions, one per maintained series.

    It has when it is in the series of one of them and not older, or newer than all of them.
    """
    known = [one for text in fixed if (one := upstream(text))]
    if any(version[:2] == one[:2] and version >= one for one in known):
        return True
    return bool(known) and version >= max(known)


def _epoch(version: str) -> tuple[int, str]:
    head, colon, rest = version.partition(":")
    return (int(head), rest) if colon and head.isdecimal() and len(head) < _LONGEST_EPOCH else (0, version)


def _part_compare(one: str, other: str) -> int:
    pairs = zip_longest(_PARTS.findall(one), _PARTS.findall(other), fillvalue=("", ""))
    for (words, number), (other_words, other_number) in pairs:
        order = _words_compare(words, other_words) or _number_compare(number, other_number)
        if order:
            return order
    return 0


def _number_compare(one: str, other: str) -> int:
    """By value, whatever their length: a version is anybody's text."""
    mine, theirs = one.lstrip("0"), other.lstrip("0")
    return len(mine) - len(theirs) or (mine > theirs) - (mine < theirs)


def _words_compare(one: str, other: str) -> int:
    for mine, theirs in zip_longest(one, other, fillvalue=""):
        if order := _weight(mine) - _weight(theirs):
            return order
    return 0


def _weight(letter: str) -> int:
    """``~`` before the end, the end before letters, letters before all else."""
    if letter == "~":
        return -1
    if not letter:
        return 0
    return ord(letter) if letter.isalpha() else ord(letter) + 256
