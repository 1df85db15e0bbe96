"""Reports for other programs and for people: valid, complete, and harmless whatever a container is called."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import click
import pytest

from kmend.audit.judge import audit, only_containers
from kmend.audit.registry import CHECKS, select
from kmend.audit.since import difference
from kmend.audit.views.junit import junit
from kmend.audit.views.markdown import markdown
from kmend.audit.views.page import page
from kmend.audit.views.sarif import sarif
from kmend.audit.waivers import Waiver
from kmend.cli.audit import table
from kmend.model import wire
from kmend.model.facts import Facts
from kmend.model.finding import AuditReport, Outcome
from makers.audited import NOW, case_of, container, right_host, with_container, with_engine

EVIL = "a\x1b]0;owned\x07\x1b[2J<script>alert(1)</script>\"'&]]>|`x`\n# heading\u202e\x00\ufffe[l](javascript:x)"
VIEWS = {"sarif": sarif, "junit": junit, "markdown": markdown, "page": page, "json": wire.dump}


def report_on(facts: Facts, **more: Any) -> AuditReport:
    """An audit with every check."""
    return audit(case_of(facts), CHECKS, version="1.2.3", now=NOW, **more)


def wrong_host(**changes: Any) -> Facts:
    """A host with failures of each severity, and doubts."""
    facts = with_container(right_host(**changes), privileged=True, read_only=False, syscalls=None, memory_limit=0)
    return with_engine(facts, given={"icc": None})


def evil_host() -> Facts:
    """A host on which everything that others may name is named to harm."""
    facts = with_container(wrong_host(host=EVIL), name=EVIL, apparmor=f"unconfined{EVIL}", restart=f"always{EVIL}")
    facts = replace(
        facts, images=(replace(facts.images[0], names=(EVIL,), user="", history=(f"ADD http://{EVIL}",)),)
    )
    return with_engine(facts, given={"insecure-registries": EVIL.replace(" ", "")})


def test_the_report_comes_back_from_its_json():
    """Nothing is lost on the way."""
    report = report_on(wrong_host())
    assert wire.load(AuditReport, wire.dump(report), what="report") == report


def test_passes_are_put_together_and_failures_are_not():
    """A thousand containers that are right are one finding."""
    facts = wrong_host()
    others = tuple(container(id=f"{number:064x}", name=f"/c{number}") for number in range(50))
    report = report_on(replace(facts, containers=(*facts.containers, *others)))
    found = [one for one in report.findings if one.check == "container-privileged"]
    assert [(one.outcome, one.count) for one in found] == [(Outcome.FAIL, 1), (Outcome.PASS, 50)]
    assert found[1].subject == "50 containers"


def test_scores_leave_doubts_out():
    """And say how many there are."""
    scores = {one.area: one for one in report_on(right_host()).scores}
    assert scores["all"].percent == 100
    assert scores["all"].failed == 0
    assert scores["images"].unknown == 1  # no advisories were given


def test_one_bad_container_of_many_costs_little():
    """A check counts by the share of its subjects."""
    facts = wrong_host()
    others = tuple(container(id=f"{number:064x}") for number in range(99))
    alone, among = report_on(facts), report_on(replace(facts, containers=(*facts.containers, *others)))
    share = [next(one.percent for one in report.scores if one.area == "containers") for report in (alone, among)]
    assert share[0] is not None
    assert share[1] is not None
    assert share[0] < share[1] == 99


def test_one_container_can_be_chosen():
    """By name, or by the begin of its id; the host's own checks stay."""
    facts = replace(right_host(), containers=(container(), container(id="e" * 64, name="/other")))
    for name in ("other", "eeee"):
        case = only_containers(case_of(facts), [name])
        assert case is not None
        assert [one.name for one in case.containers] == ["/other"]
    assert only_containers(case_of(facts), ["nobody"]) is None


def test_a_difference_has_what_is_new_and_what_is_gone():
    """By check and subject."""
    before, now = (
        report_on(with_container(right_host(), privileged=True)),
        report_on(with_container(right_host(), read_only=False)),
    )
    found = difference(before, now)
    assert [one.check for one in found.new] == ["container-read-only"]
    assert [one.check for one in found.gone] == ["container-privileged"]
    assert found.stayed == 0


def test_a_difference_leaves_out_checks_that_were_not_made_before():
    """A wider profile is no news of the host."""
    facts = with_container(right_host(), privileged=True, read_only=False)
    narrow = audit(case_of(facts), select(wanted=["container-read-only"]), version="1", now=NOW)
    assert difference(narrow, report_on(facts)).new == ()


def test_sarif_is_what_the_standard_asks_for():
    """What SARIF 2.1.0 and its schema demand of what is used here."""
    waiver = Waiver(check="container-memory", subject="*", reason="small", expires=NOW.date())
    log = json.loads(sarif(report_on(wrong_host(), waivers=(waiver,))))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    rules = driver["rules"]
    assert driver["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", driver["semanticVersion"])
    assert len({one["id"] for one in rules}) == len(rules) == len(CHECKS)
    levels, kinds = {"none", "note", "warning", "error"}, {"pass", "fail", "review", "notApplicable"}
    for one in rules:
        assert one["shortDescription"]["text"]
        assert one["help"]["text"]
        assert one["defaultConfiguration"]["level"] in levels
        assert 0 <= float(one["properties"]["security-severity"]) <= 10
        assert len(set(one["properties"]["tags"])) == len(one["properties"]["tags"])
    for one in run["results"]:
        assert rules[one["ruleIndex"]]["id"] == one["ruleId"]
        assert one["level"] in levels
        assert one["kind"] in kinds
        assert (one["level"] == "none") == (one["kind"] != "fail")  # 3.27.10
        assert one["message"]["text"]
        assert one["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]
        assert all(re.fullmatch(r"[0-9a-f]{32}", text) for text in one["partialFingerprints"].values())
    assert {one["kind"] for one in run["results"]} == kinds
    suppressed = [one for one in run["results"] if "suppressions" in one]
    assert [one["ruleId"] for one in suppressed] == ["container-memory"]
    assert suppressed[0]["suppressions"][0]["kind"] == "external"
    assert suppressed[0]["suppressions"][0]["status"] == "accepted"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", run["invocations"][0]["endTimeUtc"])


def test_a_fingerprint_stays_while_the_evidence_changes():
    """So that code scanning sees one finding over time."""
    one = report_on(with_container(right_host(), restart="always"))
    other = report_on(with_container(right_host(), restart="on-failure:99"))
    prints = [
        next(
            found["partialFingerprints"]
            for found in json.loads(sarif(report))["runs"][0]["results"]
            if found["ruleId"] == "container-restart"
        )
        for report in (one, other)
    ]
    assert prints[0] == prints[1]


def test_junit_is_what_readers_ask_for():
    """Suites with right counts, cases in them, at most one outcome each."""
    top = ET.fromstring(junit(report_on(wrong_host())))  # noqa: S314 - made here
    assert top.tag == "testsuites"
    tests = failures = 0
    for suite in top:
        assert suite.tag == "testsuite"
        cases = list(suite)
        assert {"name", "tests", "failures", "errors", "skipped", "timestamp", "hostname", "time"} == set(
            suite.attrib
        )
        assert int(suite.attrib["tests"]) == len(cases)
        assert int(suite.attrib["failures"]) == sum(case.find("failure") is not None for case in cases)
        assert int(suite.attrib["skipped"]) == sum(case.find("skipped") is not None for case in cases)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
        for case in cases:
            assert {"name", "classname"} == set(case.attrib)
            assert len(case) <= 1
            assert all(set(one.attrib) <= {"message", "type"} for one in case)
        tests, failures = tests + len(cases), failures + int(suite.attrib["failures"])
    assert (int(top.attrib["tests"]), int(top.attrib["failures"])) == (tests, failures)
    assert failures


class _Tags(HTMLParser):
    """Which tags and attributes a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in {"href", "src"}]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_for_itself():
    """Nothing from elsewhere, no script, both colour schemes, every tag closed."""
    report = report_on(evil_host())
    text = page(
        replace(report, difference=difference(report_on(right_host()), report), notes=(EVIL,), unseen=(EVIL,))
    )
    seen = _Tags()
    seen.feed(text)
    assert seen.open == []
    assert "script" not in seen.tags
    assert not {name for name in seen.names if name.startswith("on")}
    assert all(address.startswith("#") for address in seen.addresses)
    assert "prefers-color-scheme: dark" in text
    assert "url(" not in text
    assert "@import" not in text


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_no_escape_sequence_reaches_a_file(name: str):
    """Whatever a container, an image, a registry or the host is called."""
    text = VIEWS[name](report_on(evil_host()))
    assert not [letter for letter in text if not letter.isprintable() and letter != "\n"]
    assert re.search(r"(?<!\\)<script", text) is None or name in {"json", "sarif"}  # there it is text in a string


def test_no_escape_sequence_reaches_the_terminal():
    """In the table, with everything shown, and in what changed."""
    report = report_on(evil_host())
    report = replace(report, difference=difference(report_on(right_host()), report), notes=(EVIL,))
    lines = [click.unstyle(line) for line in table.lines(report, everything=True)]
    assert all(line.isprintable() for line in lines)
    assert any("\\x1b" in line for line in lines)


def test_markdown_lets_no_markup_through():
    """Neither HTML nor links, headings or code of others."""
    text = markdown(report_on(evil_host()))
    assert "](javascript" not in text
    assert "\n# heading" not in text
    assert re.search(r"(?<!\\)<", text) is None


def test_the_table_groups_and_folds():
    """Five subjects, then how many more; all of them with --all."""
    facts = right_host()
    many = tuple(container(id=f"{number:064x}", name=f"/c{number}", privileged=True) for number in range(20))
    report = report_on(replace(facts, containers=many))
    short = "\n".join(table.lines(report))
    assert "and 15 more" in short
    assert "container c19" in "\n".join(table.lines(report, everything=True))
    assert short.index("CRITICAL") < short.rindex("Could not tell")
