"""The reference lists every gate and every entry, as the code has them."""

from pathlib import Path

from kmend.exposure.dropins import MODPROBE, SYSCTL
from kmend.exposure.reach.entries import ENTRIES
from kmend.exposure.reach.entry import Entry
from kmend.exposure.reach.gates import GATES
from kmend.model.exposure import Reach, Verdict

TEXT = (Path(__file__).parents[3] / "docs/reference/exposure.md").read_text()


def entry_row(entry: Entry) -> str:
    """The line of an entry."""
    paths = ", ".join(f"`{path}`" for path in entry.paths)
    ways = "; ".join(way.name for way in entry.ways)
    return f"| {entry.name} | {paths} | {ways} | {entry.source} |"


def gate_row(name: str) -> str:
    """The line of a gate."""
    meaning, source = GATES[name]
    return f"| `{name}` | {meaning} | {source} |"


def section(title: str) -> list[str]:
    """The rows of a table in a section, without its head."""
    part = TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return [line for line in part.splitlines() if line.startswith("| ")][2:]


def test_gates():
    """Each one, and none that is gone."""
    assert section("Gates") == [gate_row(name) for name in GATES]


def test_entries():
    """Each one, in the order of the code."""
    assert section("Entries") == [entry_row(entry) for entry in ENTRIES]


def test_words():
    """Verdicts, reaches and files have the names that the code gives them."""
    for word in (*Verdict, *Reach):
        assert f"`{word}`" in TEXT
    for file in (MODPROBE, SYSCTL):
        assert f"/{file.format(cve='CVE-…')}" in TEXT
