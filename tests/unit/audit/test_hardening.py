"""kernel-hardening-checker, as an optional external program."""

import json
from pathlib import Path

import pytest

from kmend.audit import hardening
from kmend.audit.check import Demand
from kmend.audit.registry import CHECKS
from kmend.kit.errors import InputError, ProgramError
from kmend.model.finding import Outcome
from makers.audited import case_of, right_host, with_kernel

NEW = {
    "option_name": "CONFIG_X",
    "type": "kconfig",
    "desired_val": "y",
    "decision": "kspp",
    "reason": "self_protection",
    "check_result": 'FAIL: "is not set"',
    "check_result_bool": False,
}
OLD = ["CONFIG_X", "kconfig", "y", "kspp", "self_protection", 'FAIL: "is not set"']
SAID = (Demand("CONFIG_X", "kconfig", "y", "self_protection", holds=False, result='FAIL: "is not set"'),)
PROGRAM = """#!/bin/sh
test "$1 $2" = "-m json" && grep -q CONFIG_LIVEPATCH=y "$4" && grep -q root=/dev/vda1 "$6" || exit 3
grep -q 'kernel.kptr_restrict = 2' "$8" || exit 4
echo '%s'
"""


@pytest.mark.parametrize("line", [NEW, OLD])
def test_both_forms_are_read(line: object):
    """Objects now, lists before."""
    assert hardening.read(json.dumps([line])) == SAID


@pytest.mark.parametrize("text", ["", "no json", "[1]", "[{}]", '[["a"]]'])
def test_what_is_not_understood_is_an_error(text: str):
    """With what to do."""
    with pytest.raises(InputError):
        hardening.read(text)


def test_it_reads_files_made_from_the_facts(tmp_path: Path):
    """Configuration, command line and sysctls of the host that is judged, not of this one."""
    program = tmp_path / "checker"
    program.write_text(PROGRAM % json.dumps([NEW]).replace("'", ""))
    program.chmod(0o755)
    assert hardening.ask(right_host(), str(program), folder=tmp_path) == SAID


def test_without_the_program_it_says_so(tmp_path: Path):
    """It is optional, but was asked for."""
    with pytest.raises(ProgramError):
        hardening.ask(right_host(), str(tmp_path / "none"), folder=tmp_path)


def test_without_a_configuration_it_cannot_be_asked(tmp_path: Path):
    """It reads nothing else first."""
    with pytest.raises(InputError):
        hardening.ask(with_kernel(right_host(), config=None), "true", folder=tmp_path)


@pytest.mark.parametrize("option", ["CONFIG_MODULES", "CONFIG_KPROBES", "kernel.modules_disabled"])
def test_what_would_stop_livepatching_is_no_failure(option: str):
    """It is shown as what does not apply here, and why."""
    rule = next(one for one in CHECKS if one.rule.id == "kernel-second-opinion")
    wanted = (Demand(option, "kconfig", "is not set", "cut_attack_surface", holds=False, result="FAIL"),)
    (verdict,) = rule.judge(case_of(right_host(), demands=wanted))
    assert verdict.outcome is Outcome.NOT_APPLICABLE
    assert "Livepatching would stop" in verdict.evidence
