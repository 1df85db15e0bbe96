"""The Debian guest of the lab: what it needs before it is made."""

import pytest

from kmend.kit.errors import MachineError
from kmend.lab import guests


def test_making_the_guest_needs_root_and_says_so_early(tmp_path, monkeypatch):
    """Without root the demo ends before any work; a guest that is in the cache needs none."""
    monkeypatch.setattr(guests.os, "geteuid", lambda: 1000)
    with pytest.raises(MachineError, match="needs root"):
        guests.check_rights(tmp_path)
    disk = tmp_path / "guests" / guests.recipe_hash() / "disk.img"
    disk.parent.mkdir(parents=True)
    disk.touch()
    guests.check_rights(tmp_path)
