"""What each CVE is to the kernel that runs: closed, by what, not there, or open. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from kmend.exposure import versions
from kmend.exposure.presence import Finder, Place, Presence, is_of_another_machine
from kmend.exposure.records import CveRecord
from kmend.model.exposure import Evidence, Verdict


class Takes(StrEnum):
    """What a kernel of this distribution has besides the release that its version names."""

    NOTHING = "nothing"
    """It is that release: upstream's, or that of a distribution that takes over stable releases whole."""
    REPAIRS = "repairs"
    """Repairs of its own."""
    SERIES = "series"
    """Some later release of the same series, and repairs of its own: the version stays at the first."""
    ANYTHING = "anything"
    """Whatever it takes from later kernels, with the holes in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the kernel that runs, whatever the CVE."""

    version: str
    """Upstream version that it is made from: ``6.1.170``; empty when nobody knows."""
    takes: Takes
    closed: Mapping[str, Evidence] = field(default_factory=dict)
    """CVEs that the package's version closed, and who says so."""
    said_open: Mapping[str, Evidence] = field(default_factory=dict)
    """CVEs that the distribution says it has not closed in this version."""
    livepatched: Mapping[str, Evidence] = field(default_factory=dict)
    """CVEs that a livepatch in effect closes."""
    files: Finder | None = None
    """None when it is not known which code the kernel contains."""
    machine: str = ""
    """Its folder of ``arch/``; empty when it is not known."""


class Judged(NamedTuple):
    """A verdict and what led to it."""

    verdict: Verdict
    evidence: tuple[Evidence, ...]
    place: Place


_FILES = "kernel files"
_NOWHERE = Place(Presence.UNKNOWN, ())


def judge(record: CveRecord, known: Known) -> Judged:
    """The verdict on one CVE: the first of livepatch, package, version and code that settles it."""
    if record.cve in known.livepatched:
        place = known.files.place(record.files) if known.files else _NOWHERE
        return Judged(Verdict.CLOSED_BY_LIVEPATCH, (known.livepatched[record.cve],), place)
    if record.cve in known.closed:
        return Judged(Verdict.CLOSED_BY_VERSION, (known.closed[record.cve],), _NOWHERE)
    stand = versions.stand(known.version, record.affected) if known.version else None
    if stand is not None and not stand.affected and _counts(stand, record, known):
        verdict = Verdict.NOT_AFFECTED if stand.introduced_later else Verdict.CLOSED_BY_VERSION
        return Judged(verdict, (_version(known, stand.because),), _NOWHERE)
    return _by_code(record, known, stand)


def _counts(stand: versions.Stand, record: CveRecord, known: Known) -> bool:
    """Whether the hole is not in this kernel either, when it is not in the release that its version names."""
    if known.takes in {Takes.NOTHING, Takes.REPAIRS}:
        return True
    if versions.ever_affected(known.version, record.affected):
        return False
    return known.takes is Takes.SERIES or not stand.introduced_later


def _by_code(record: CveRecord, known: Known, stand: versions.Stand | None) -> Judged:
    """The verdict where no version settles it."""
    place = known.files.place(record.files) if known.files else _NOWHERE
    if known.files is None and is_of_another_machine(record.files, known.machine):
        place = Place(Presence.ABSENT, ())
    said = _files_said(record, known, place)
    if place.presence is Presence.ABSENT:
        return Judged(Verdict.NOT_BUILT, (said,), place)
    if record.cve in known.said_open:
        affected = known.said_open[record.cve]
    elif stand is None:
        why = Evidence(source="record", value="it says nothing about released versions")
        return Judged(Verdict.UNKNOWN, (why, said), place)
    elif known.takes is not Takes.NOTHING:
        why = Evidence(
            source="version", value=f"{known.version} does not say what this distribution has taken over into it"
        )
        return Judged(Verdict.UNKNOWN, (why, said), place)
    else:
        affected = _version(known, stand.because)
    if known.files is not None and place.presence in {Presence.UNKNOWN, Presence.REST}:
        return Judged(Verdict.UNKNOWN, (affected, said), place)
    return Judged(Verdict.OPEN, (affected, said), place)


def _version(known: Known, because: str) -> Evidence:
    return Evidence(source="record", value=f"{because}; this is {known.version}")


def _files_said(record: CveRecord, known: Known, place: Place) -> Evidence:
    if place.presence is Presence.ABSENT and known.files is None:
        return Evidence(source="record", value=f"{_few(record.files)}: another architecture's code")
    if known.files is None:
        return Evidence(source=_FILES, value="not given, so all code counts as built in this kernel")
    if not record.files:
        return Evidence(source=_FILES, value="the record names no files")
    return Evidence(source=_FILES, value=_placed(_few(record.files), place))


def _placed(named: str, place: Place) -> str:
    if place.presence is Presence.ABSENT:
        return f"{named}: not built in this kernel"
    if place.presence is Presence.UNKNOWN:
        return f"{named}: not in this kernel's source, perhaps under another name"
    if place.presence is Presence.REST:
        return f"{named}: not built, but for headers that this kernel may use"
    if place.presence is Presence.HEADER:
        return f"{named}: only headers, which this kernel may use"
    return f"{_few(tuple(file for file, _ in place.files))} in {_few(place.objects)}"


def _few(names: tuple[str, ...]) -> str:
    most = 3
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
