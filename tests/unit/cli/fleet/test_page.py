"""The commands of docs/howto/fleet-server.md."""

import re
import shlex
from pathlib import Path

import pytest

from makers.commands import parse

PAGE = (Path(__file__).parents[4] / "docs/howto/fleet-server.md").read_text().replace("\\\n", " ")
COMMANDS = re.findall(r"^[$#] (kmend [^\n]*)", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_one_that_kmend_understands(line):
    """Verbs, options and arguments of each command exist."""
    parse(shlex.split(line))


def test_the_main_job_is_there():
    """From the start of the server to a rollback."""
    verbs = {tuple(line.split()[1:4]) for line in COMMANDS}
    assert verbs >= {
        ("fleet", "token", "create"),
        ("fleet", "rollout", "create"),
        ("fleet", "rollout", "rollback"),
    }
