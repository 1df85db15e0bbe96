"""Versions of the kernel as its CVE records write them: ``6.1.178``, ``6.1.*``, ``7.2-rc3``."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from kmend.exposure.records import Affected, Span
from kmend.linux.versions import series_of

_VERSION = re.compile(r"(\d+(?:\.\d+)*)(?:-rc(\d+))?")
_FINAL = 1 << 20


class Stand(NamedTuple):
    """How a version stands to a hole."""

    affected: bool
    introduced_later: bool
    """Of versions without the hole: they are older than it."""
    because: str
    """The span of versions that decided, in words."""


def upstream(version: str) -> str:
    """The stable version in a package version or a release: ``6.1.170`` of ``6.1.170-3``; empty when none is."""
    found = _VERSION.match(version)
    return found[1] if found else ""


def stand(version: str, affected: tuple[Affected, ...]) -> Stand | None:
    """Whether a released version has the hole; None when the record says nothing about released versions."""
    if not affected or _key(version) is None:
        return None
    found = [_of(version, one) for one in affected]
    return next((one for one in found if one.affected), found[0])


def ever_affected(version: str, affected: tuple[Affected, ...]) -> bool:
    """Whether any release of a version's series, ``5.15`` of ``5.15.0``, has the hole."""
    series = series_of(version)
    ends = {end for one in affected for span in one.spans for end in (span.start, span.below)}
    turns = {end for end in ends if end.startswith(f"{series}.") and _key(end)}
    stands = (stand(one, affected) for one in {f"{series}.0", f"{series}.{_FINAL}", *turns})
    return any(one.affected for one in stands if one)


def _of(version: str, affected: Affected) -> Stand:
    span = next((one for one in affected.spans if _holds(version, one)), None)
    if span is None:
        return _otherwise(version, affected)
    if span.affected:
        return Stand(affected=True, introduced_later=False, because=f"affected {_words(span)}")
    if span.start == "0":
        return Stand(affected=False, introduced_later=True, because=f"came in with {span.below or span.up_to}")
    return Stand(affected=False, introduced_later=False, because=f"repaired in {span.start}")


def _otherwise(version: str, affected: Affected) -> Stand:
    """What holds for a version in no span."""
    if affected.otherwise:
        repaired = [one.start for one in affected.spans if not one.affected and one.start != "0"]
        same = [one for one in repaired if (_key(one) or ())[:2] == (_key(version) or ())[:2]]
        because = f"repaired only in {same[0]}" if same else "this series has no repair"
        return Stand(affected=True, introduced_later=False, because=because)
    own = _key(version) or ()
    later = all((_key(one.start) or ()) > own for one in affected.spans if one.affected)
    because = "came in later" if later else "outside of the affected versions"
    return Stand(affected=False, introduced_later=later, because=because)


def _holds(version: str, span: Span) -> bool:
    own, start = _key(version), _key(span.start)
    if own is None or start is None or own < start:
        return False
    if span.below:
        end = _key(span.below)
        return end is not None and own < end
    if span.up_to:
        return _up_to(own, span.up_to)
    return own == start


def _up_to(own: tuple[int, ...], last: str) -> bool:
    if last == "*":
        return True
    end = _key(last.removesuffix(".*"))
    if end is None:
        return False
    return own[: len(_numbers(last))] <= _numbers(last) if last.endswith(".*") else own <= end


@lru_cache(maxsize=1 << 16)
def _key(version: str) -> tuple[int, ...] | None:
    """What orders versions; four numbers and that of the candidate. None for what is no version."""
    found = _VERSION.fullmatch(version)
    if not found:
        return None
    numbers = (*_numbers(found[1]), 0, 0, 0, 0)[:4]
    return (*numbers, int(found[2]) if found[2] else _FINAL)


@lru_cache(maxsize=1 << 16)
def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.removesuffix(".*").split(".") if part.isdecimal())


def _words(span: Span) -> str:
    end = f" before {span.below}" if span.below else f" up to {span.up_to}" if span.up_to else ""
    return f"from {span.start}{end}" if end else span.start
