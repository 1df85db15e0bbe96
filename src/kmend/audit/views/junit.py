"""An audit as JUnit XML (as Jenkins' xUnit plugin reads it): a suite for each area, a case for each finding."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from kmend.audit.views.common import rules_of
from kmend.kit.printable import printable
from kmend.model.finding import Area, AuditReport, Finding, Outcome, Rule

# What XML 1.0 has no way to write.
_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LONGEST = 2_000


def junit(report: AuditReport) -> str:
    """The report as XML text. What could not be told, what was waived and what does not apply is skipped."""
    rules = rules_of(report)
    top = Element("testsuites", name="kmend audit")
    totals = {"tests": 0, "failures": 0}
    for area in Area:
        found = [one for one in report.findings if rules[one.check].area is area]
        if found:
            counts = _suite(top, area, found, rules=rules.values(), report=report)
            totals = {name: totals[name] + counts[name] for name in totals}
    top.attrib.update({name: str(number) for name, number in totals.items()}, errors="0")
    indent(top)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(top, encoding="unicode") + "\n"


def _suite(
    top: Element, area: Area, found: Iterable[Finding], *, rules: Iterable[Rule], report: AuditReport
) -> dict[str, int]:
    titles = {one.id: one.title for one in rules}
    suite = SubElement(top, "testsuite", name=area.value)
    failures = skipped = tests = 0
    for one in found:
        case = SubElement(
            suite, "testcase", name=_text(f"{titles[one.check]}: {one.subject}"), classname=one.check
        )
        tests += 1
        if one.outcome is Outcome.FAIL and not one.waived:
            failures += 1
            failure = SubElement(case, "failure", message=_text(one.evidence), type=one.severity.value)
            failure.text = _text(one.remedy)
        elif one.outcome is not Outcome.PASS:
            skipped += 1
            SubElement(case, "skipped", message=_text(f"waived: {one.waived}" if one.waived else _why(one)))
    suite.attrib.update(
        tests=str(tests),
        failures=str(failures),
        errors="0",
        skipped=str(skipped),
        hostname=_text(report.host) or "host",
        timestamp=f"{report.collected:%Y-%m-%dT%H:%M:%S}",
        time="0",
    )
    return {"tests": tests, "failures": failures}


def _why(one: Finding) -> str:
    return f"{one.outcome.value}: {one.evidence}"


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", printable(text, most=_LONGEST))
