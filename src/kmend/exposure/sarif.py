"""SARIF 2.1.0 (OASIS): the open CVEs of a host as results, for systems that collect findings."""

from __future__ import annotations

from typing import Any

from kmend import __version__
from kmend.exposure.purl import purl
from kmend.model.exposure import ContainerReach, CveExposure, Exposure, Reach, Verdict

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "none": "note"}
_SHOWN = (Verdict.OPEN, Verdict.UNKNOWN)


def sarif(exposure: Exposure) -> dict[str, Any]:
    """One run; a result for each CVE that is open, or of which nobody can tell.

    ``kind`` is ``fail`` for the open ones and ``open`` for the others, which have no level.
    """
    shown = [one for one in exposure.cves if one.verdict in _SHOWN]
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "kmend exposure",
                        "version": __version__,
                        "rules": [_rule(one) for one in shown],
                    }
                },
                "results": [_result(one, at, exposure) for at, one in enumerate(shown)],
                "properties": {"host": exposure.host, "kernel": exposure.kernel.release, "purl": purl(exposure)},
            }
        ],
    }


def _rule(one: CveExposure) -> dict[str, Any]:
    properties: dict[str, Any] = {"tags": ["security", "kernel"]}
    if one.vector:
        properties["security-severity"] = str(one.score)
    return {"id": one.cve, "shortDescription": {"text": one.title or one.cve}, "properties": properties}


def _result(one: CveExposure, at: int, exposure: Exposure) -> dict[str, Any]:
    is_open = one.verdict is Verdict.OPEN
    places: list[tuple[str, str]] = [(exposure.host or "host", "host")]
    places += [(name, "container") for name in _reaching(one)]
    return {
        "ruleId": one.cve,
        "ruleIndex": at,
        "kind": "fail" if is_open else "open",
        "level": _LEVELS.get(one.severity, "warning") if is_open else "none",
        "message": {"text": _text(one)},
        "locations": [
            {
                "logicalLocations": [
                    {"name": name, "fullyQualifiedName": f"{kind}/{name}", "kind": kind} for name, kind in places
                ]
            }
        ],
        "partialFingerprints": {"kmendCve/v1": f"{exposure.kernel.build_id}:{one.cve}"},
        "properties": {
            "exploitedSince": one.exploited_since,
            "reach": str(one.worst or ""),
            "objects": list(one.objects),
            "evidence": [f"{piece.source}: {piece.value}" for piece in one.evidence],
        },
    }


def _reaching(one: CveExposure) -> list[str]:
    return [name for group in one.reach if group.reach is Reach.REACHABLE for name in group.containers]


def _text(one: CveExposure) -> str:
    words = f"{one.cve} is {'open' if one.verdict is Verdict.OPEN else 'not known to be closed'}: {one.title}"
    return ". ".join((words, *(_group(group) for group in one.reach[:3])))


def _group(group: ContainerReach) -> str:
    most = 5
    names = ", ".join(group.containers[:most])
    more = f" and {len(group.containers) - most} more" if len(group.containers) > most else ""
    gate = f" ({group.gate})" if group.gate else ""
    return f"{names}{more}: {group.reach.replace('-', ' ')}{gate} by {group.way}"
