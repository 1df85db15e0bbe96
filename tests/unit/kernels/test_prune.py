"""Removing kits: exactly what was asked for, and never under a run that fetches."""

import pytest

from kmend.kernels import places, prune, store
from kmend.kit.errors import BusyError, InputError
from kmend.kit.files import lock

OLD = "6.1.0-47-cloud-amd64"
NEW = "6.1.0-56-cloud-amd64"


@pytest.fixture
def both(two_kernels):
    """Both kits are here."""
    store.fetch(OLD)
    store.fetch(NEW)


def _names(removals):
    return [(removal.kind.value, removal.name) for removal in removals]


def test_a_kit_goes_with_the_source_that_nobody_else_needs(both):
    """The other kit stays whole."""
    removals = prune.plan([OLD])
    assert _names(removals) == [("kit", OLD), ("source", "6.1.170-3")]
    assert prune.carry_out(removals) == sum(removal.size for removal in removals) > 0
    assert store.releases() == (NEW,)
    assert store.load(NEW)


def test_without_a_name_kits_stay(both):
    """Only sources without a kit and what interrupted runs left are removed."""
    (places.kits_folder() / ".x_1.partial" / "boot").mkdir(parents=True)
    (places.downloads_folder() / "6.1.1-1").mkdir(parents=True)
    (places.sources_folder() / "6.1.1-1" / "tree").mkdir(parents=True)
    removals = prune.plan()
    assert sorted(_names(removals)) == [
        ("leftover", ".x_1.partial"),
        ("leftover", "6.1.1-1"),
        ("source", "6.1.1-1"),
    ]
    prune.carry_out(removals)
    assert prune.plan() == ()
    assert store.releases() == (OLD, NEW)


def test_a_build_tree_goes_with_its_kit(both):
    """The tree of a kernel that stays is kept; one that belongs to no kit goes at any time."""
    kept = store.load(NEW).kernel.build_id
    for build_id in ("0" * 40, kept):
        (places.trees_folder() / build_id).mkdir(parents=True)
    assert _names(prune.plan()) == [("build tree", "0" * 40)]
    assert ("build tree", kept) in _names(prune.plan([OLD, NEW]))


def test_keep_keeps_the_newest(both):
    """The older kit goes."""
    assert _names(prune.plan(keep=1))[0] == ("kit", OLD)
    assert _names(prune.plan(keep=2)) == []


def test_a_damaged_kit_keeps_its_source(both):
    """It is needed when the kit is mended."""
    store.load(OLD).vmlinux.unlink()
    assert prune.plan() == ()


def test_an_unknown_kit_is_an_error(both):
    """A typing error removes nothing."""
    with pytest.raises(InputError, match=r"6\.1\.0-99"):
        prune.plan(["6.1.0-99-amd64"])


def test_nothing_goes_while_a_fetch_is_under_way(both):
    """Its unfinished work would look like a leftover."""
    removals = prune.plan([OLD])
    with lock(places.locks_folder() / "fetch-6.1.192-2.lock", what="x"), pytest.raises(BusyError):
        prune.carry_out(removals)
    assert store.load(OLD)
