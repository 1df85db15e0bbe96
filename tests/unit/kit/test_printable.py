"""Words with numbers."""

from kmend.kit.printable import counted


def test_one_is_not_many():
    """All others, and none, are."""
    assert [counted(number, "host") for number in (0, 1, 2)] == ["0 hosts", "1 host", "2 hosts"]
