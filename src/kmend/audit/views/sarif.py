"""An audit as SARIF 2.1.0 (OASIS), for code scanning pages and the like.

A failure is a result of kind ``fail``; what could not be told is ``review``; what passed is ``pass``. A waived
failure carries its waiver as an accepted suppression.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kmend.audit.views.common import notes_on, reference, rules_of
from kmend.kit.printable import printable
from kmend.model.finding import AuditReport, Finding, Outcome, Rule, Severity

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {
    Severity.LOW: "note",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "error",
    Severity.CRITICAL: "error",
}
# As code scanning pages read it: above 9 critical, above 7 high, above 4 medium.
_NUMBERS = {Severity.LOW: "2.0", Severity.MEDIUM: "5.5", Severity.HIGH: "8.0", Severity.CRITICAL: "9.5"}
_KINDS = {
    Outcome.FAIL: "fail",
    Outcome.PASS: "pass",
    Outcome.UNKNOWN: "review",
    Outcome.NOT_APPLICABLE: "notApplicable",
}
_LONGEST = 2_000


def sarif(report: AuditReport) -> str:
    """The report as a SARIF log with one run."""
    places = {one.id: number for number, one in enumerate(report.rules)}
    rules = rules_of(report)
    run = {
        "tool": {
            "driver": {
                "name": "kmend audit",
                "semanticVersion": report.version,
                "rules": [_rule(one) for one in report.rules],
            }
        },
        "automationDetails": {"id": f"kmend-audit/{printable(report.host) or 'host'}/"},
        "invocations": [{"executionSuccessful": True, "endTimeUtc": f"{report.collected:%Y-%m-%dT%H:%M:%SZ}"}],
        "results": [_result(one, rules[one.check], places[one.check], report) for one in report.findings],
        "columnKind": "unicodeCodePoints",
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(rule: Rule) -> dict[str, Any]:
    tags = [tag for tag in ("security", rule.area.value, reference(rule)) if tag]
    return {
        "id": rule.id,
        "shortDescription": {"text": f"{rule.title}."},
        "fullDescription": {"text": f"{rule.title}. Source: {rule.source}."},
        "help": {"text": " ".join([rule.remedy, *notes_on(rule)])},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"tags": tags, "security-severity": _NUMBERS[rule.severity]},
    }


def _result(one: Finding, rule: Rule, place: int, report: AuditReport) -> dict[str, Any]:
    subject = printable(one.subject)
    text = f"{rule.title}: {subject}: {printable(one.evidence, most=_LONGEST)}"
    result: dict[str, Any] = {
        "ruleId": one.check,
        "ruleIndex": place,
        "kind": _KINDS[one.outcome],
        # The standard: what did not fail has no level.
        "level": _LEVELS[one.severity] if one.outcome is Outcome.FAIL else "none",
        "message": {"text": text},
        "locations": [
            {
                "logicalLocations": [
                    {
                        "name": subject,
                        "fullyQualifiedName": f"{printable(report.host)}/{subject}",
                        "kind": "resource",
                    }
                ]
            }
        ],
        "partialFingerprints": {"kmendAudit/v1": _fingerprint(one, report)},
    }
    if one.waived:
        result["suppressions"] = [
            {"kind": "external", "status": "accepted", "justification": printable(one.waived, most=_LONGEST)}
        ]
    return result


def _fingerprint(one: Finding, report: AuditReport) -> str:
    """The same for the same check on the same subject of the same host, whatever the evidence says."""
    text = "\0".join((report.machine_id or report.host, one.check, one.subject))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]
