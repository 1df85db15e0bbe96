"""The page about objections and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

from kmend.model.fix import CautionCode, ObjectionCode

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/objections.md").read_text()


def test_every_code_has_its_section() -> None:
    """One section for each code and no other, with an example and what to write instead."""
    sections = dict(re.findall(r"^## ([\w-]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    assert sections.keys() == {str(code) for code in ObjectionCode}
    for text in sections.values():
        assert "Example: " in text
        assert "Instead: " in text


def test_the_table_names_every_code() -> None:
    """In the order of the sections."""
    listed = re.findall(r"^\| \[([\w-]+)\]\(#([\w-]+)\)", PAGE, re.MULTILINE)
    assert all(name == link for name, link in listed)
    assert [name for name, _ in listed] == re.findall(r"^## (.+)$", PAGE, re.MULTILINE)


def test_every_code_is_used() -> None:
    """A code that the builder never gives would be a promise that nobody keeps."""
    text = "".join(path.read_text() for path in (ROOT / "src/kmend/build").glob("*.py"))
    assert {code.name for code in ObjectionCode} == set(re.findall(r"ObjectionCode\.([A-Z_]+)", text))


def test_the_page_about_cautions_has_every_code() -> None:
    """A row of the table and a section each."""
    page = (ROOT / "docs/reference/cautions.md").read_text()
    codes = [str(code) for code in CautionCode]
    assert re.findall(r"^\| \[([\w-]+)\]\(#\1\)", page, re.MULTILINE) == codes
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == codes
