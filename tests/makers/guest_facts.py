"""The facts of a running guest, collected there by the agent's own program."""

import subprocess
import sys
from pathlib import Path

from kmend.model import wire
from kmend.model.facts import Facts

AGENT = "/srv/agent.pyz"
FACTS = "/srv/facts.json"
COLLECT = f"""
import resource, sys, time
sys.path.insert(0, "{AGENT}")
from datetime import UTC, datetime
from kmend.agent.facts import host_facts
from kmend.model import wire
begin = time.monotonic()
found = host_facts(now=datetime.now(tz=UTC))
print(f"facts in {{time.monotonic() - begin:.2f}} s, {{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}} KiB")
open("{FACTS}", "w").write(wire.dump(found))
"""


def make_agent(folder: Path) -> bytes:
    """The agent as one file, which a guest's Python runs alone."""
    made = folder / "agent.pyz"
    command = [sys.executable, Path(__file__).parents[2] / "packaging/make-agent-pyz", made]
    subprocess.run(command, check=True, capture_output=True)
    return made.read_bytes()


def facts_of_guest(guest) -> Facts:
    """What the agent that was put to ``AGENT`` sees now; how long it took and its memory are told."""
    sys.stdout.write(guest.must(["python3", "-I", "-S", "-c", COLLECT], timeout=600))
    return wire.load(Facts, guest.get(FACTS), what="facts")
