"""Two auditors, one host: their verdicts by CIS number, and where the reference says that they differ."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from kmend.model.finding import Outcome

REFERENCE = Path(__file__).parents[2] / "docs/reference/audit.md"
HOSTS = ("wrong", "swarm", "right", "traps")
JUDGED = {"PASS": Outcome.PASS, "WARN": Outcome.FAIL}
_HEAD = "| number | host | docker-bench-security | kmend audit | why |"
# The worst that a check came to for any subject is what it says of the host.
_WORST_FIRST = (Outcome.FAIL, Outcome.UNKNOWN, Outcome.PASS)


class Difference(NamedTuple):
    """What the reference says of one number on one host."""

    theirs: str
    ours: Outcome
    why: str


def documented() -> dict[tuple[str, str], Difference]:
    """(Host, number) → the difference, from the table of the reference page."""
    lines = REFERENCE.read_text().partition(_HEAD)[2].lstrip("\n").partition("\n\n")[0].splitlines()[1:]
    found: dict[tuple[str, str], Difference] = {}
    for line in lines:
        numbers, hosts, theirs, ours, why = (one.strip() for one in line.strip("|").split("|"))
        for key in ((host, number) for host in hosts.split(", ") for number in numbers.split(", ")):
            assert key not in found, f"{key} is in the table twice"
            found[key] = Difference(theirs, Outcome(ours), why)
    return found


def their_verdicts(log: bytes) -> dict[str, str]:
    """Number → PASS, WARN, INFO or NOTE, from the JSON log of docker-bench-security."""
    found: dict[str, str] = {}
    waiting = [json.loads(log, strict=False)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif "result" in one:
            found[one["id"]] = one["result"]
        else:
            waiting += [value for value in one.values() if isinstance(value, list)]
    return found


def our_verdicts(report: str) -> dict[str, Outcome]:
    """Number → what `kmend audit --json` came to: a check that fails for one subject fails."""
    told = json.loads(report)
    numbers = {rule["id"]: rule["cis"] for rule in told["rules"] if re.fullmatch(r"[\d.]+", rule.get("cis", ""))}
    outcomes: dict[str, set[Outcome]] = {number: set() for number in numbers.values()}
    for one in told["findings"]:
        if one["check"] in numbers:
            outcomes[numbers[one["check"]]].add(Outcome(one["outcome"]))
    return {
        number: next((worst for worst in _WORST_FIRST if worst in seen), Outcome.NOT_APPLICABLE)
        for number, seen in outcomes.items()
    }
