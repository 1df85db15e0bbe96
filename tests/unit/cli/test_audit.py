"""``kmend audit`` and ``kmend audit modules`` from the command line."""

import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kmend.audit import use
from kmend.audit.registry import CHECKS, PROFILES
from kmend.cli.audit.modules import learn
from kmend.cli.audit.verb import audit
from kmend.cli.main import run_command
from kmend.kit.errors import InputError
from kmend.model import wire
from kmend.model.facts import Facts
from kmend.model.finding import AuditReport
from makers.audited import NOW, right_host, with_container

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/audit.md").read_text()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Facts of a host with a privileged container."""
    return save(with_container(right_host(), privileged=True), tmp_path / "facts.json")


def save(facts: Facts, file: Path) -> Path:
    """The facts in a file."""
    file.write_text(wire.dump(facts))
    return file


def run(*words: object, code: int | None = 0) -> Result:
    """What the verb says; it must end with this code."""
    done = CliRunner().invoke(audit, [str(word) for word in words], standalone_mode=False)
    if done.exception:
        raise done.exception
    assert done.return_value == code
    return done


def test_the_table_says_what_to_do(saved: Path):
    """Score, finding, evidence, remedy."""
    said = run("--facts", saved).output
    assert "CRITICAL No container is privileged [CIS Docker 5.5]" in said
    assert "container web (cccccccccccc): It is privileged." in said
    assert "→ Start it without `--privileged`" in said
    assert re.search(r"^containers +\d+ %", said, re.MULTILINE)


@pytest.mark.parametrize(("severity", "code"), [("critical", 10), ("high", 10), ("medium", 10), ("low", 10)])
def test_what_failed_ends_with_ten(saved: Path, severity: str, code: int):
    """A critical failure is at or above each severity."""
    run("--facts", saved, "--fail-on", severity, code=code)


def test_below_the_severity_it_ends_with_zero(tmp_path: Path):
    """A low failure is none for --fail-on medium; doubts never count."""
    file = save(with_container(right_host(), read_only=False, has_health_check=None), tmp_path / "f.json")
    run("--facts", file, "--fail-on", "medium", code=0)
    run("--facts", file, "--fail-on", "low", code=10)


def test_a_waiver_takes_a_failure_out_of_the_exit_code(saved: Path, tmp_path: Path):
    """And the report shows it."""
    file = tmp_path / "waivers.toml"
    file.write_text('[[waiver]]\ncheck = "container-privileged"\nreason = "backup"\nexpires = 9999-12-31\n')
    assert "backup (until 9999-12-31)" in run("--facts", saved, "--waivers", file, "--fail-on", "low").output


@pytest.mark.parametrize("view", ["json", "sarif", "junit", "markdown", "html", "text"])
def test_each_format_goes_to_a_file(saved: Path, tmp_path: Path, view: str):
    """The same as on standard output; nothing else is printed."""
    out = tmp_path / "report"
    assert run("--facts", saved, "--format", view, "-o", out).output == ""
    assert "container-privileged" in out.read_text()
    assert "\x1b" not in out.read_text()
    assert run("--facts", saved, "--format", view).output == out.read_text()


def test_the_difference_to_the_last_run(saved: Path, tmp_path: Path):
    """What is new, and what is gone."""
    before = tmp_path / "before.json"
    run("--facts", saved, "--json", "-o", before)
    now = save(with_container(right_host(), read_only=False), tmp_path / "now.json")
    said = run("--facts", now, "--since", before).output
    assert "+ container-read-only" in said
    assert "- container-privileged" in said
    report = json.loads(run("--facts", now, "--since", before, "--json").output)
    assert [one["check"] for one in report["difference"]["gone"]] == ["container-privileged"]


def test_checks_and_containers_can_be_chosen(saved: Path):
    """One check, a pattern, a CIS number, an area; one container."""
    for wanted, number in (("container-privileged", 1), ("container-cap-*", 10), ("5.5", 1), ("swarm", 10)):
        report = wire.load(AuditReport, run("--facts", saved, "--check", wanted, "--json").output, what="it")
        assert len(report.rules) == number
    assert "container web" in run("--facts", saved, "--container", "web").output


@pytest.mark.parametrize(
    "words",
    [("--check", "no-such"), ("--profile", "no-such"), ("--container", "nobody")],
)
def test_what_is_not_there_is_an_error(saved: Path, words: tuple[str, ...]):
    """With a hint what is."""
    with pytest.raises(InputError) as caught:
        run("--facts", saved, *words)
    assert caught.value.hint


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_each_profile_has_checks_and_is_explained(name: str):
    """And it stands on the page."""
    assert run("--profile", name, "--list").output.strip()
    assert f"`{name}`" in PAGE


def test_a_cis_profile_has_numbered_checks_alone():
    """Level 2 holds level 1."""
    levels = [
        {line.split()[1] for line in run("--profile", f"cis-docker-level{level}", "--list").output.splitlines()}
        for level in (1, 2)
    ]
    assert levels[0] < levels[1]
    numbers = {one.rule.id: one.rule.cis for one in CHECKS}
    assert all(numbers[name] for name in levels[1])


def test_the_list_as_json_holds_every_field():
    """For other programs."""
    listed = json.loads(run("--list", "--json").output)
    assert {one["id"] for one in listed} == {one.rule.id for one in CHECKS}
    assert {"actionable", "breaks", "livepatching", "source", "remedy"} <= set(listed[0])


def test_modules_are_listed_and_written(tmp_path: Path):
    """A dry run writes nothing; --write writes what modprobe reads."""
    facts = right_host()
    file = save(replace(facts, modules=replace(facts.modules, available=("overlay", "dccp"))), tmp_path / "f.json")
    assert "dccp" in run("modules", "--facts", file).output
    out = tmp_path / "needless.conf"
    run("modules", "--facts", file, "--write", out)
    assert "install dccp /bin/false" in out.read_text()
    assert stat.S_IMODE(out.stat().st_mode) == 0o644
    assert json.loads(run("modules", "--facts", file, "--json").output)["chosen"] == ["dccp"]
    assert (
        "may be asked for" in run("modules", "--facts", file, "--why", "bridge").output
        or "nothing" in run("modules", "--facts", file, "--why", "bridge").output
    )


def test_without_a_list_of_modules_it_is_an_error(tmp_path: Path):
    """Not an empty list."""
    facts = right_host()
    file = save(replace(facts, modules=replace(facts.modules, available=None)), tmp_path / "f.json")
    with pytest.raises(InputError):
        run("modules", "--facts", file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root notes what is in use")
def test_use_is_noted_on_the_host_itself_alone(tmp_path: Path):
    """Facts of others teach nothing about this host."""
    file = tmp_path / "audit" / "modules.json"
    assert learn(right_host(), live=False, file=file) is None
    assert not file.exists()
    known = learn(right_host(), live=True, file=file)
    assert known is not None
    assert use.load(file) == known
    assert known.last == dict.fromkeys(("overlay", "ext4", "livepatch_kmend_1"), NOW)


def test_an_older_report_of_a_newer_format_is_an_error(saved: Path, tmp_path: Path):
    """Rather than a wrong difference."""
    before = tmp_path / "before.json"
    run("--facts", saved, "--json", "-o", before)
    before.write_text(before.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(InputError):
        run("--facts", saved, "--since", before)


def test_a_wrong_file_is_one_clear_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """No traceback."""
    file = tmp_path / "odd.json"
    file.write_text("[]")
    assert _main(["--facts", str(file)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said


def _main(words: list[str]) -> int:
    command: Any = audit
    old = sys.argv
    sys.argv = ["audit", *words]
    try:
        return run_command(command)
    finally:
        sys.argv = old


def _made(kind: str) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "packaging/make-audit-reference", kind],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return done.stdout


def test_the_page_lists_every_check():
    """docs/reference/audit.md ends with what packaging/make-audit-reference prints now."""
    assert PAGE.endswith(_made("checks"))


def test_the_schema_is_in_step():
    """docs/reference/audit.schema.json is what packaging/make-audit-reference prints now."""
    assert (ROOT / "docs/reference/audit.schema.json").read_text() == _made("schema")


def test_the_page_has_every_option():
    """And no other."""
    listed = set(re.findall(r"^\| `(--[a-z-]+)", PAGE.split("## Outcomes")[0], re.MULTILINE)) | {"--json", "--out"}
    known = {name for one in audit.params for name in one.opts if name.startswith("--")}
    assert listed == known
