"""How livepatches, waves, labels and lengths of time are written."""

from datetime import timedelta

import pytest

from kmend.cli.fleet import words
from kmend.kit.errors import InputError
from kmend.model.rollout import Target, Wave
from makers.nouns import KERNEL, NOW, make_built


@pytest.mark.parametrize(
    ("text", "wave"),
    [
        ("1%", Wave(percent=1.0, soak=7)),
        ("0.5%:2h", Wave(percent=0.5, soak=7200)),
        ("role=canary", Wave(selector="role=canary", soak=7)),
        ("10% zone in (a,b):30m", Wave(percent=10.0, selector="zone in (a,b)", soak=1800)),
        ("100%:1d", Wave(percent=100.0, soak=86400)),
    ],
)
def test_waves(text, wave):
    """By percentage, by labels, by both; each may name its own soak."""
    assert words.wave(text, soak=7) == wave


@pytest.mark.parametrize("text", ["", ":1h", "1%:", "1%:long", "1%:-1h"])
def test_what_is_no_wave(text):
    """Refused, with how to write one."""
    with pytest.raises(InputError):
        words.wave(text, soak=7)


def test_a_livepatch_by_number_or_by_what_the_build_left(tmp_path):
    """The manifest names its kernel and number itself."""
    made = make_built(tmp_path / "built", 3)
    wanted = Target(build_id=KERNEL.build_id, number=made.number)
    assert words.target(f"{KERNEL.build_id}=3") == wanted
    assert words.target(str(tmp_path / "built")) == wanted
    assert words.target(str(tmp_path / "built/livepatch.json")) == wanted
    with pytest.raises(InputError, match="is no livepatch"):
        words.target(str(tmp_path / "nothing"))


def test_labels_and_times():
    """KEY=VALUE, the value may be empty; one unit is enough for a time."""
    assert words.labels(("zone=a", "gpu=")) == {"zone": "a", "gpu": ""}
    with pytest.raises(InputError, match="is no label"):
        words.labels(("zone",))
    for passed, text in ((5, "5 s ago"), (300, "5 min ago"), (7200, "2 h ago"), (864000, "10 d ago")):
        assert words.ago(NOW - timedelta(seconds=passed), NOW) == text
    assert words.ago(None, NOW) == "never"


def test_tables_line_up():
    """And end without blanks."""
    text = words.table(("A", "B"), [("long one", "x"), ("y", "z")], empty="none")
    assert text.splitlines() == ["A         B", "long one  x", "y         z"]
    assert words.table(("A",), [], empty="none") == "none"
