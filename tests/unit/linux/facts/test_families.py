"""Which address families a seccomp filter refuses."""

import pytest

from kmend.linux.facts.families import refused_families
from kmend.linux.facts.look import looking
from kmend.linux.facts.said import Said


def refused(tmp_path, default, *rules):
    """What is refused by a filter with these rules about socket."""
    made = {"defaultAction": default, "syscalls": [{"names": ["read", "socket"], **rule} for rule in rules]}
    with looking(tmp_path) as look:
        return refused_families(Said(made, look, "made"), allowing={"SCMP_ACT_ALLOW"})


def when(op, value, index=0):
    """One condition on an argument."""
    return {"index": index, "value": value, "op": op}


ALLOW, ERRNO = {"action": "SCMP_ACT_ALLOW"}, {"action": "SCMP_ACT_ERRNO"}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([ALLOW], ()),
        ([], tuple(range(46))),
        ([ALLOW | {"args": [when("SCMP_CMP_NE", 40)]}], (40,)),
        ([ALLOW | {"args": [when("SCMP_CMP_NE", 38), when("SCMP_CMP_NE", 40)]}], (38, 40)),
        (
            [
                ALLOW | {"args": [when("SCMP_CMP_LT", 38)]},
                ALLOW | {"args": [when("SCMP_CMP_EQ", 39)]},
                ALLOW | {"args": [when("SCMP_CMP_GT", 40)]},
            ],
            (38, 40),
        ),
        ([ALLOW | {"args": [when("SCMP_CMP_EQ", 1, index=1)]}], None),
        ([ALLOW | {"args": [when("SCMP_CMP_MASKED_EQ", 1)]}], None),
    ],
)
def test_filters_that_refuse_by_default(tmp_path, rules, expected):
    """Only what a rule lets through is let through."""
    assert refused(tmp_path, "SCMP_ACT_ERRNO", *rules) == expected


def test_filters_that_allow_by_default(tmp_path):
    """Only what a rule names is refused; a rule that allows what is allowed anyway changes nothing."""
    assert refused(tmp_path, "SCMP_ACT_ALLOW", ALLOW, ERRNO | {"args": [when("SCMP_CMP_EQ", 38)]}) == (38,)
