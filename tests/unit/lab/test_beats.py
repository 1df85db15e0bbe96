"""What containers write about themselves."""

from kmend.lab import beats
from kmend.lab.probes import together
from kmend.model.lab import ProbeResult

FIXED, VULNERABLE, UNKNOWN = ProbeResult.FIXED, ProbeResult.VULNERABLE, ProbeResult.UNKNOWN
LOG = """\
s 1000 55
h 1000
h 1050
c 1060
p 1070 one 1
h 1100
p 1320 one 1
h 1400
x 1410
p 1570 one 0
h 1450
p 1820 one 9
h 15"""


def test_parse():
    """Starts, beats, connection and probe runs are read; the line still being written is not."""
    log = beats.parse(LOG)
    assert (log.starts, log.beats, log.connected, log.broken) == (
        1,
        (1000, 1050, 1100, 1400, 1450),
        (1060,),
        (1410,),
    )
    assert [(run.at, run.result) for run in log.probes] == [
        (1070, VULNERABLE),
        (1320, VULNERABLE),
        (1570, FIXED),
        (1820, UNKNOWN),
    ]


def test_longest_gap():
    """The longest pause between two beats, from a moment on."""
    log = beats.parse(LOG)
    assert log.longest_gap_ms() == 300.0
    assert log.since(1400).longest_gap_ms() == 50.0
    assert beats.parse("").longest_gap_ms() == 0.0


def test_first_after():
    """A verdict counts only from a run that began after the moment, so the first that ended after it does not."""
    log = beats.parse(LOG)
    assert log.first_after(1300) == {"one": FIXED}
    assert log.first_after(1570) == {}


def test_rounds():
    """Several probes become one verdict once each has spoken."""
    log = beats.parse("p 1 a 1\np 2 b 0\np 3 a 0\np 4 b 0\n")
    assert beats.rounds(log.probes, ["a", "b"]) == ((2, VULNERABLE), (3, FIXED), (4, FIXED))


def test_together():
    """One vulnerable probe is enough; no probe at all is unknown."""
    assert together([FIXED, VULNERABLE]) is VULNERABLE
    assert together([FIXED, UNKNOWN]) is FIXED
    assert together([]) is UNKNOWN
