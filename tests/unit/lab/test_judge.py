"""What counts as a failure."""

from dataclasses import replace

import pytest

from kmend.lab import judge
from kmend.model.lab import ContainerRecord, ProbeResult

FIXED, VULNERABLE, UNKNOWN = ProbeResult.FIXED, ProbeResult.VULNERABLE, ProbeResult.UNKNOWN
GOOD = ContainerRecord(
    name="web",
    started_at="a",
    started_at_after="a",
    restarts=0,
    heartbeats=100,
    longest_gap_ms=180.0,
    connection_kept=True,
)


@pytest.mark.parametrize(
    ("before", "after", "unloaded", "fails"),
    [
        ({"p": VULNERABLE}, {"p": FIXED}, {"p": VULNERABLE}, ""),
        ({}, {}, {}, ""),
        ({"p": UNKNOWN}, {"p": UNKNOWN}, {"p": UNKNOWN}, ""),
        ({"p": FIXED}, {"p": FIXED}, {"p": FIXED}, "before"),
        ({"p": VULNERABLE}, {"p": VULNERABLE}, {"p": VULNERABLE}, "after"),
        ({"p": VULNERABLE}, {"p": UNKNOWN}, {"p": VULNERABLE}, "after"),
        ({"p": VULNERABLE}, {}, {"p": VULNERABLE}, "after"),
        ({"p": UNKNOWN}, {"p": VULNERABLE}, {"p": UNKNOWN}, "after"),
        ({"p": VULNERABLE}, {"p": FIXED}, {"p": FIXED}, "unloaded"),
        ({"p": VULNERABLE}, {"p": FIXED}, {}, "unloaded"),
        (
            {"p": VULNERABLE, "q": VULNERABLE},
            {"p": FIXED, "q": VULNERABLE},
            {"p": VULNERABLE, "q": VULNERABLE},
            "after",
        ),
    ],
)
def test_probes(before, after, unloaded, fails):
    """Vulnerable, fixed, vulnerable is what proves; no probe, or an unsure one, passes."""
    told = {
        "before": judge.probes_before(before),
        "after": judge.probes_after(before, after),
        "unloaded": judge.probes_unloaded(before, unloaded),
    }
    assert {name for name, why in told.items() if why} == ({fails} if fails else set())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"restarts": 1}, "restarted"),
        ({"started_at_after": "b"}, "restarted"),
        ({"heartbeats": 0}, "no heartbeat"),
        ({"connection_kept": False}, "lost its connection"),
        ({"longest_gap_ms": 6000.0}, "paused for 6000 ms"),
    ],
)
def test_containers(change, why):
    """A restart, a lost connection, silence or a long pause of one container fails the scenario."""
    said = judge.containers([GOOD, replace(GOOD, **change)], accelerator="tcg")
    assert why in said
    assert bool(said) == bool(why)


def test_gap_limit_depends_on_the_accelerator():
    """Software emulation may stutter, hardware may not."""
    slow = replace(GOOD, longest_gap_ms=2000.0)
    assert not judge.containers([slow], accelerator="tcg")
    assert judge.containers([slow], accelerator="kvm")
