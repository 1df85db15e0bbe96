"""Versions of packages: which is newer, as Debian, Alpine and rpm count, and the series of a kernel's."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import zip_longest

_LONGEST_EPOCH = 10
_PARTS = re.compile(r"(\D*)(\d*)", re.ASCII)
_APK = re.compile(r"\d+(\.\d+)*[a-z]?(_(alpha|beta|pre|rc|cvs|svn|git|hg|p)\d*)*(~[0-9a-f]+)?(-r\d+)?", re.ASCII)
_APK_PARTS = re.compile(
    r"(?P<first>^\d+)|\.(?P<more>\d+)|_(?P<suffix>[a-z]+)|-r(?P<revision>\d+)|(?P<letter>[a-z])|(?P<count>\d+)"
    r"|~[0-9a-f]+",
    re.ASCII,
)
_APK_KINDS = ("first", "more", "letter", "suffix", "count", "revision", "end", "none")
"""Where two versions go on with different kinds of parts, the earlier kind is the newer version."""
_APK_BEFORE = ("alpha", "beta", "pre", "rc")
_APK_SUFFIXES = (*_APK_BEFORE, "cvs", "svn", "git", "hg", "p")
_RPM_PARTS = re.compile(r"~|\^|\d+|[A-Za-z]+", re.ASCII)
_NUMERIC = ("first", "more", "count", "revision")


def debian_compare(version: str, other: str) -> int:
    """Above 0 when ``version`` is newer, below when ``other`` is (deb-version(7))."""
    epoch, rest = _epoch(version)
    other_epoch, other_rest = _epoch(other)
    if epoch != other_epoch:
        return epoch - other_epoch
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    other_upstream, _, other_revision = other_rest.rpartition("-") if "-" in other_rest else (other_rest, "", "")
    return _part_compare(upstream, other_upstream) or _part_compare(revision, other_revision)


def apk_compare(version: str, other: str) -> int:
    """Above 0 when ``version`` is newer, below when ``other`` is (apk-package(5)).

    What is no version is older than all that are.
    """
    for one, two in zip_longest(_apk_parts(version), _apk_parts(other), fillvalue=("end", "")):
        if order := _apk_part_compare(one, two):
            return order
    return 0


def rpm_compare(version: str, other: str) -> int:
    """Above 0 when ``version`` is newer, below when ``other`` is (rpm-version(7)).

    Both are EPOCH:VERSION-RELEASE. A missing epoch is 0; a release that one of them lacks does not count.
    """
    epoch, rest = _epoch(version)
    other_epoch, other_rest = _epoch(other)
    if epoch != other_epoch:
        return epoch - other_epoch
    (upper, _, release), (other_upper, _, other_release) = rest.partition("-"), other_rest.partition("-")
    order = _rpm_part_compare(upper, other_upper)
    return order or (_rpm_part_compare(release, other_release) if release and other_release else 0)


_COMPARE = {"deb": debian_compare, "apk": apk_compare, "rpm": rpm_compare}


def comparison(kind: str) -> Callable[[str, str], int]:
    """How versions of packages of a kind (``Package.origin``) are compared; of one not known as Debian's."""
    return _COMPARE.get(kind, debian_compare)


def series_of(version: str) -> str:
    """The series of a kernel: ``6.1`` for ``6.1.192-2``."""
    return ".".join(version.split(".")[:2])


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


def _apk_parts(version: str) -> list[tuple[str, str]]:
    """Kind and text of each part."""
    if not _APK.fullmatch(version):
        return [("none", "")]
    return [(found.lastgroup, found[found.lastgroup]) for found in _APK_PARTS.finditer(version) if found.lastgroup]


def _apk_part_compare(one: tuple[str, str], other: tuple[str, str]) -> int:
    (kind, text), (other_kind, other_text) = one, other
    if kind != other_kind:
        if kind == "suffix" and text in _APK_BEFORE and other_kind != "none":
            return -1
        if other_kind == "suffix" and other_text in _APK_BEFORE and kind != "none":
            return 1
        return _APK_KINDS.index(other_kind) - _APK_KINDS.index(kind)
    if kind == "suffix":
        return _APK_SUFFIXES.index(text) - _APK_SUFFIXES.index(other_text)
    # A part that begins with 0 is a fraction: 1.05 comes before 1.1.
    if kind in _NUMERIC and not (kind == "more" and "0" in {text[0], other_text[0]}):
        return _number_compare(text, other_text)
    return (text > other_text) - (text < other_text)


def _rpm_part_compare(one: str, other: str) -> int:
    pairs = zip_longest(_RPM_PARTS.findall(one), _RPM_PARTS.findall(other), fillvalue="")
    return next((order for mine, theirs in pairs if (order := _rpm_segment_compare(mine, theirs))), 0)


def _rpm_segment_compare(mine: str, theirs: str) -> int:
    """``~`` before the end, the end before ``^``, that before letters, letters before numbers."""
    if order := _rpm_rank(mine) - _rpm_rank(theirs):
        return order
    if mine.isdigit():
        return _number_compare(mine, theirs)
    return (mine > theirs) - (mine < theirs)


def _rpm_rank(part: str) -> int:
    if part in {"~", "", "^"}:
        return ("~", "", "^").index(part)
    return 4 if part.isdigit() else 3
