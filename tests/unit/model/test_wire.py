"""The one JSON codec."""

import pytest

from kmend.kit.errors import InputError
from kmend.model import wire
from kmend.model.lab import ProbeRecord, ProbeResult

RECORD = ProbeRecord(
    name="one", before=ProbeResult.VULNERABLE, after=ProbeResult.FIXED, unloaded=ProbeResult.UNKNOWN
)


def test_what_was_written_is_read_back_the_same():
    """Enumerations come back as their members, not as text that looks alike."""
    again = wire.load(ProbeRecord, wire.dump(RECORD), what="a record")
    assert again == RECORD
    assert again.before is ProbeResult.VULNERABLE


def test_a_word_that_is_no_member_is_refused():
    """An enumeration takes its own values only."""
    text = wire.dump(RECORD).replace('"vulnerable"', '"perhaps"')
    with pytest.raises(InputError, match="ProbeResult"):
        wire.load(ProbeRecord, text, what="a record")


def test_one_line_says_the_same_in_less_space():
    """What no person reads has no line breaks, and is read back by the same function."""
    text = wire.line(RECORD)
    assert "\n" not in text
    assert len(text) < len(wire.dump(RECORD))
    assert wire.load(ProbeRecord, text, what="a record") == RECORD


def test_decoded_json_is_as_strict_as_text():
    """A noun is made of it, or the error says what it is not."""
    assert wire.take(ProbeRecord, wire.plain(RECORD), what="a record") == RECORD
    with pytest.raises(InputError, match="a record is not a ProbeRecord"):
        wire.take(ProbeRecord, {"name": 1}, what="a record")
    with pytest.raises(InputError, match="a record is not a ProbeRecord"):
        wire.load(ProbeRecord, "[" * 100_000, what="a record")
