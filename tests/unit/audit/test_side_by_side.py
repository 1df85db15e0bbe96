"""The reference's table of differences, and how two reports are compared."""

import json
import re

from kmend.audit.registry import CHECKS
from kmend.model.finding import Outcome
from makers.side_by_side import HOSTS, JUDGED, REFERENCE, documented, our_verdicts, their_verdicts


def test_each_documented_difference_is_one_and_names_a_check():
    """No row says that both agree, and each number has a check."""
    numbers = {one.rule.cis for one in CHECKS}
    rows = documented()
    assert rows
    for (host, number), row in rows.items():
        assert number in numbers
        assert host in HOSTS
        assert JUDGED[row.theirs] is not row.ours
        assert row.why


def test_one_failing_subject_makes_a_number_fail_and_none_makes_it_not_applicable():
    """The worst outcome of all checks with a number is what counts; numbers of Kubernetes do not."""
    rules = [{"id": "a", "cis": "4.1"}, {"id": "b", "cis": "4.1"}, {"id": "c", "cis": "7.1"}]
    rules += [{"id": "d", "cis": "kubernetes:4.1.1"}, {"id": "e", "cis": ""}]
    findings = [{"check": "a", "outcome": "pass"}, {"check": "b", "outcome": "fail"}]
    findings += [{"check": "c", "outcome": "not-applicable"}, {"check": "e", "outcome": "fail"}]
    told = our_verdicts(json.dumps({"rules": rules, "findings": findings}))
    assert told == {"4.1": Outcome.FAIL, "7.1": Outcome.NOT_APPLICABLE}


def test_the_scripts_log_is_read_with_sections_and_without():
    """Chosen checks stand beside the sections."""
    section = {"id": "7", "desc": "Swarm", "results": [{"id": "7.1", "desc": "x", "result": "PASS"}]}
    alone = {"id": "5.1", "desc": "y", "result": "WARN", "details": "z", "items": ["a"]}
    log = json.dumps({"dockerbenchsecurity": "1.6.0", "start": 1, "tests": [section, alone], "checks": 2})
    assert their_verdicts(log.encode()) == {"7.1": "PASS", "5.1": "WARN"}


def test_the_counts_in_the_reference_are_those_of_its_table():
    """How many numbers differ is said in words too."""
    said = re.search(r"(\d+) differences in (\d+) numbers", REFERENCE.read_text())
    rows = documented()
    assert said
    assert (int(said[1]), int(said[2])) == (len(rows), len({number for _, number in rows}))
