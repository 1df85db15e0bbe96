"""The README's commands and links."""

import re
import shlex
from pathlib import Path

import pytest

from makers.commands import parse

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^[$#] (?:\./)?(kmend(?:-agent\.pyz)? [^#\n]*)", TEXT, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_one_that_kmend_understands(line, tmp_path, monkeypatch):
    """Verbs, options and arguments of each command in the README exist."""
    (tmp_path / "build/livepatch").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    parse(shlex.split(line))


def test_the_main_job_is_there_by_hand():
    """From the kernel to the host, each verb stands in the README."""
    verbs = {tuple(line.split()[1:3]) for line in COMMANDS if line.startswith("kmend ")}
    assert verbs >= {("kernel", "fetch"), ("fix", "derive"), ("lab", "run"), ("release", "publish")}
    assert len(COMMANDS) > 12


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]+)\)", TEXT))
def test_every_link_leads_somewhere(link):
    """No link to a page that is not there."""
    assert (ROOT / link).exists()
