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
