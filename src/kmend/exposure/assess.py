"""The whole of an exposure: verdict, reach and rank of each CVE, and what to do first. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from kmend.exposure.actions import Newer, actions
from kmend.exposure.index import Records
from kmend.exposure.reach.judge import Judge
from kmend.exposure.records import CveRecord
from kmend.exposure.verdicts import Known, judge
from kmend.model.exposure import CveExposure, Exposure, Reach, Verdict
from kmend.model.facts import Facts
from kmend.model.kernel import Kernel
from kmend.model.livepatch import Livepatch

_VERDICTS = tuple(Verdict)
_REACHES = (Reach.REACHABLE, Reach.UNKNOWN, Reach.GATED, Reach.NOT_REACHABLE, None)
_STILL_THERE = frozenset((Verdict.OPEN, Verdict.UNKNOWN))
_WHO = ("AV:", "AC:", "PR:", "UI:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What goes into an exposure beside the facts."""

    records: Records
    known: Known
    exploited: Mapping[str, str] = field(default_factory=dict)
    """CVE → since when, by CISA's list."""
    manifest: Livepatch | None = None
    newer: tuple[Newer, ...] = ()
    """Kernels that are installed and newer than the one that runs."""
    container: str = ""
    """Only this one, by name or id; or those of this pod."""
    cve: str = ""
    """Only this one."""
    missing: tuple[str, ...] = ()


def assess(facts: Facts, asked: Asked) -> Exposure:
    """The exposure of a host."""
    boxes = Judge(facts, only=asked.container)
    chosen = [one for one in asked.records.records if asked.cve in {"", one.cve}]
    cves = sorted((_one(record, asked, boxes) for record in chosen), key=_rank)
    found = (*cves, *_without_record(asked))
    return Exposure(
        host=facts.host,
        kernel=Kernel(
            release=facts.kernel.release, version=facts.kernel.package_version, build_id=facts.kernel.build_id
        ),
        package=facts.kernel.package,
        distribution=facts.distribution,
        architecture=facts.kernel.architecture,
        collected=facts.collected,
        actions=actions(facts, found, manifest=asked.manifest, newer=asked.newer),
        cves=found,
        containers=boxes.containers,
        left_out=boxes.left_out,
        unread=tuple(one for one in asked.records.unread if asked.cve in {"", one.cve}),
        missing=(*asked.missing, *_unseen(facts)),
    )


def _one(record: CveRecord, asked: Asked, boxes: Judge) -> CveExposure:
    verdict, evidence, place = judge(record, asked.known)
    still_there = verdict in _STILL_THERE
    from_network = "/AV:N/" in record.vector
    return CveExposure(
        cve=record.cve,
        title=record.title,
        verdict=verdict,
        severity=record.severity,
        score=record.score,
        vector=record.vector,
        rationale=_who(record.rationale) if still_there else "",
        exploited_since=asked.exploited.get(record.cve, ""),
        files=record.files,
        objects=place.objects,
        evidence=evidence,
        reach=boxes.reach(record.files, place, from_network=from_network) if still_there else (),
    )


def _without_record(asked: Asked) -> Iterator[CveExposure]:
    """What a livepatch closes, and no record that could be read speaks of."""
    have = {one.cve for one in asked.records.records}
    for cve, evidence in sorted(asked.known.livepatched.items()):
        if cve not in have and asked.cve in {"", cve}:
            yield CveExposure(
                cve=cve,
                title="",
                verdict=Verdict.CLOSED_BY_LIVEPATCH,
                severity="",
                score=0.0,
                vector="",
                rationale="",
                exploited_since=asked.exploited.get(cve, ""),
                files=(),
                objects=(),
                evidence=(evidence,),
            )


def _rank(one: CveExposure) -> tuple[object, ...]:
    """Open first, what containers reach before what they do not, known exploits and high scores before others."""
    return (
        _VERDICTS.index(one.verdict),
        not one.exploited_since,
        _REACHES.index(one.worst),
        -one.score,
        one.cve,
    )


def _who(rationale: str) -> str:
    """The lines of a rationale that say who can get to the code."""
    return "\n".join(line for line in rationale.splitlines() if line.startswith(_WHO))


def _unseen(facts: Facts) -> Iterator[str]:
    """What the facts lack that would have changed something here."""
    told = defaultdict(list)
    for one in facts.unseen:
        told[one.why].append(one.what)
    for why, whats in told.items():
        most = 3
        more = f" and {len(whats) - most} more" if len(whats) > most else ""
        yield f"not seen: {', '.join(whats[:most])}{more} ({why})"


def counts(cves: Iterable[CveExposure]) -> dict[Verdict, int]:
    """How many CVEs have each verdict; every verdict is there."""
    found = dict.fromkeys(Verdict, 0)
    for one in cves:
        found[one.verdict] += 1
    return found
