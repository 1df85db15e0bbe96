"""Labels and selectors."""

import pytest

from kmend.kit.errors import InputError
from kmend.model.labels import check_labels, parse_selector

LABELS = {"env": "prod", "zone": "a", "example.org/gpu": ""}


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ("env=prod", True),
        ("env==prod,zone=a", True),
        ("env=prod,zone=b", False),
        ("env!=prod", False),
        ("role!=db", True),
        ("zone in (a, b)", True),
        ("zone notin (a,b),env=prod", False),
        ("role notin (db)", True),
        ("role in (db)", False),
        ("example.org/gpu", True),
        ("!example.org/gpu", False),
        ("!role", True),
        ("example.org/gpu=", True),
    ],
)
def test_a_selector_chooses_as_kubernetes_would(text, fits):
    """Every kind of requirement, alone and together."""
    assert parse_selector(text).matches(LABELS) is fits


@pytest.mark.parametrize(
    "text", ["=", "a b", "env=a b", "zone in a", "zone in (a,(b)", ",", "a=b,", "ä=1", "a,\0"]
)
def test_what_is_no_selector_is_refused(text):
    """With the part that cannot be read, and how to write one."""
    with pytest.raises(InputError, match="cannot be read"):
        parse_selector(text)


def test_limits():
    """Neither selectors nor labels grow without end, and a label can always be written in a selector."""
    with pytest.raises(InputError, match="at most 32"):
        parse_selector(",".join(f"a{number}" for number in range(33)))
    with pytest.raises(InputError, match="at most 32"):
        check_labels({f"a{number}": "" for number in range(33)})
    with pytest.raises(InputError, match="cannot be a label"):
        check_labels({"env": "two words"})
    check_labels(LABELS)
