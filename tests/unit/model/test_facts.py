"""Facts: their reference names every field."""

import dataclasses
import re
from pathlib import Path

from kmend.model import facts

TEXT = (Path(__file__).parents[3] / "docs/reference/facts.md").read_text()


def test_reference_names_every_field():
    """A field that nobody explains is a field that nobody uses rightly."""
    named = set(re.findall(r"`(\w+)`", TEXT))
    nouns = [one for one in vars(facts).values() if isinstance(one, type) and one.__module__ == facts.__name__]
    fields = {field.name for noun in nouns if dataclasses.is_dataclass(noun) for field in dataclasses.fields(noun)}
    assert len(fields) > 100
    assert fields - named == set()


def test_reference_names_every_kind_of_engine():
    """Each of them stands in the table of engines; NONE is what only a cgroup gives away."""
    assert all(f"`{kind}`" in TEXT for kind in facts.EngineKind if kind is not facts.EngineKind.NONE)
