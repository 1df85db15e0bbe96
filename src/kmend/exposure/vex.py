"""VEX: an exposure in the words of scanners, so that they stop to report what is closed.

OpenVEX 0.2.0 (github.com/openvex/spec) and CycloneDX 1.6 (ECMA-424).
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import datetime
from typing import Any

from kmend import __version__
from kmend.exposure.purl import purl
from kmend.model import wire
from kmend.model.exposure import CveExposure, Exposure, Reach, Verdict

_OPENVEX = "https://openvex.dev/ns/v0.2.0"
_STATUS = {
    Verdict.OPEN: "affected",
    Verdict.UNKNOWN: "under_investigation",
    Verdict.CLOSED_BY_LIVEPATCH: "fixed",
    Verdict.CLOSED_BY_VERSION: "fixed",
    Verdict.NOT_BUILT: "not_affected",
    Verdict.NOT_AFFECTED: "not_affected",
}
_ANALYSIS = {
    Verdict.OPEN: "exploitable",
    Verdict.UNKNOWN: "in_triage",
    Verdict.CLOSED_BY_LIVEPATCH: "resolved",
    Verdict.CLOSED_BY_VERSION: "resolved",
    Verdict.NOT_BUILT: "not_affected",
    Verdict.NOT_AFFECTED: "not_affected",
}
_SEVERITIES = frozenset(("critical", "high", "medium", "low", "none"))
_NO_ACTION = "Update the kernel, or apply a livepatch as soon as there is one."


def openvex(exposure: Exposure, *, now: datetime) -> dict[str, Any]:
    """The exposure as an OpenVEX document: one statement per CVE."""
    actions = _actions(exposure)
    product = {"@id": purl(exposure), "identifiers": {"purl": purl(exposure)}}
    return {
        "@context": _OPENVEX,
        "@id": f"urn:uuid:{_identity(exposure)}",
        "author": "kmend",
        "role": "Document Creator",
        "timestamp": now.isoformat(),
        "version": 1,
        "tooling": f"kmend {__version__}",
        "statements": [_statement(one, product, actions, now) for one in exposure.cves],
    }


def _statement(
    one: CveExposure, product: dict[str, Any], actions: dict[str, str], now: datetime
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "vulnerability": {"name": one.cve},
        "products": [product],
        "status": _STATUS[one.verdict],
        "timestamp": now.isoformat(),
        "status_notes": _because(one),
    }
    if found["status"] == "not_affected":
        found["justification"] = "vulnerable_code_not_present"
        found["impact_statement"] = _because(one)
    if found["status"] == "affected":
        found["action_statement"] = actions.get(one.cve, _NO_ACTION)
    return found


def cyclonedx(exposure: Exposure, *, now: datetime) -> dict[str, Any]:
    """The exposure as a CycloneDX document: the kernel as its one component, and its vulnerabilities."""
    actions, name = _actions(exposure), exposure.package or "linux"
    reference = purl(exposure)
    component = {
        "type": "operating-system",
        "bom-ref": reference,
        "name": name,
        "version": exposure.kernel.version or exposure.kernel.release,
        "purl": reference,
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{_identity(exposure)}",
        "version": 1,
        "metadata": {
            "timestamp": now.isoformat(),
            "tools": {"components": [{"type": "application", "name": "kmend", "version": __version__}]},
        },
        "components": [component],
        "vulnerabilities": [_vulnerability(one, reference, actions) for one in exposure.cves],
    }


def _vulnerability(one: CveExposure, reference: str, actions: dict[str, str]) -> dict[str, Any]:
    analysis: dict[str, Any] = {"state": _ANALYSIS[one.verdict], "detail": _because(one)}
    if analysis["state"] == "not_affected":
        analysis["justification"] = "code_not_present"
    if one.verdict is Verdict.OPEN:
        analysis["response"] = ["update"]
    found: dict[str, Any] = {
        "id": one.cve,
        "source": {"name": "Linux kernel CNA"},
        "description": one.title,
        "analysis": analysis,
        "affects": [{"ref": reference}],
    }
    if one.vector:
        rating = {"score": one.score, "method": _method(one.vector), "vector": one.vector}
        if one.severity in _SEVERITIES:
            rating["severity"] = one.severity
        found["ratings"] = [rating]
    if one.verdict is Verdict.OPEN:
        found["recommendation"] = actions.get(one.cve, _NO_ACTION)
    return found


def _method(vector: str) -> str:
    return {"CVSS:3.0": "CVSSv3", "CVSS:3.1": "CVSSv31", "CVSS:4.0": "CVSSv4"}.get(vector[:8], "other")


def _identity(exposure: Exposure) -> uuid.UUID:
    """The same for the same findings, another one when anything changes."""
    return uuid.UUID(bytes=hashlib.sha256(wire.dump(exposure).encode()).digest()[:16], version=4)


def _actions(exposure: Exposure) -> dict[str, str]:
    """The first thing to do for each CVE."""
    found: dict[str, str] = {}
    for action in exposure.actions:
        for cve in action.cves:
            found.setdefault(cve, action.text)
    return found


def _because(one: CveExposure) -> str:
    """Verdict and evidence in one line, and for open ones who can reach it."""
    evidence = "; ".join(f"{piece.source}: {piece.value}" for piece in one.evidence)
    words = f"{one.verdict.replace('-', ' ')} ({evidence})" if evidence else one.verdict.replace("-", " ")
    if one.reach:
        words += f". Containers: {', '.join(_reached(one))}"
    return words


def _reached(one: CveExposure) -> list[str]:
    count = dict.fromkeys(Reach, 0)
    for group in one.reach:
        count[group.reach] += len(group.containers)
    return [f"{number} {reach.replace('-', ' ')}" for reach, number in count.items() if number]
