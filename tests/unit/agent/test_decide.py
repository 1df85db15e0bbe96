"""The agent's decision: pure, and every refusal says why."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmend.agent.config import Switch, SwitchedOff
from kmend.agent.decide import Verdict, decide
from kmend.agent.settings import Settings
from kmend.agent.state import mark_of, quarantine
from kmend.agent.windows import parse_window, within
from kmend.linux.livepatch import LoadedLivepatch
from kmend.model.host import AgentPhase, AgentState, ChannelEntry
from makers.nouns import KERNEL, make_livepatch

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)  # a Tuesday
FRESH = AgentState(phase=AgentPhase.IDLE, boot_id="b", livepatch=None, quarantined=(), changed=NOW)


def entry(number=3, *, hours=48.0):
    """What the channel holds, published some hours ago."""
    livepatch = make_livepatch(number)
    published = NOW - timedelta(hours=hours)
    return ChannelEntry(livepatch=livepatch, module_target="t", module_sha256="0" * 64, published=published)


def loaded(*names):
    """Livepatches in the kernel."""
    return tuple(LoadedLivepatch(name=name, enabled=True, in_transition=False) for name in names)


def ask(offered, *names, settings=None, **options):
    """The decision about an entry, with these livepatches loaded."""
    options = {"state": FRESH, "switched_off": None, "now": NOW} | options
    return decide(KERNEL, offered, loaded=loaded(*names), settings=settings or Settings(), **options)


def test_without_settings_it_is_available():
    """Nothing speaks against it."""
    assert ask(entry()).verdict == Verdict.AVAILABLE
    assert ask(entry(), "kmend_2").verdict == Verdict.AVAILABLE


REFUSALS = {
    "number": (Settings(blocklist=("3",)), Verdict.BLOCKLISTED, "blocklist names 3"),
    "cve": (Settings(blocklist=("9", "CVE-2026-72379")), Verdict.BLOCKLISTED, "blocklist names CVE-2026-72379"),
    "fix": (Settings(blocklist=("unix-siocatmark",)), Verdict.BLOCKLISTED, "blocklist names unix-siocatmark"),
    "pinned": (Settings(pin_number=2), Verdict.PINNED, "pin_number asks for livepatch 2, not for 3"),
    "date": (Settings(pin_date=NOW - timedelta(days=3)), Verdict.PINNED, "after pin_date (2026-11-22 12:00 UTC)"),
    "delay": (Settings(delay_hours=49), Verdict.DELAYED, "from 2026-11-24 13:00 UTC on (delay_hours)"),
    "window": (
        Settings(windows=(parse_window("Sat 02:00-05:00"),)),
        Verdict.OUTSIDE_WINDOW,
        "waits for a window: Sat 02:00-05:00 (UTC)",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_the_owner_refuses(name):
    """Each setting has its verdict and names itself."""
    settings, verdict, words = REFUSALS[name]
    decision = ask(entry(), settings=settings)
    assert decision.verdict == verdict
    assert words in decision.because


@pytest.mark.parametrize(
    "settings",
    [
        Settings(blocklist=("4", "CVE-2026-1")),
        Settings(pin_number=3),
        Settings(pin_date=NOW - timedelta(days=1)),
        Settings(delay_hours=48),
        Settings(windows=(parse_window("Tue 11:00-13:00"),)),
        Settings(windows=(parse_window("Sat 02:00-05:00"), parse_window("Tue 11:00-13:00"))),
    ],
)
def test_the_owner_agrees(settings):
    """Settings that this livepatch fulfils do not hold it back."""
    assert ask(entry(), settings=settings).verdict == Verdict.AVAILABLE


def test_an_entry_without_a_date_is_too_young():
    """When it was published is not guessed."""
    offered = replace(entry(), published=None)
    assert ask(offered).verdict == Verdict.AVAILABLE
    decision = ask(offered, settings=Settings(delay_hours=1))
    assert decision.verdict == Verdict.DELAYED
    assert "does not say when" in decision.because


def test_the_page_has_every_verdict():
    """One row each, and no other."""
    page = (Path(__file__).parents[3] / "docs/reference/agent.md").read_text()
    table = page.split("| verdict | meaning |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == {str(one) for one in Verdict}


def test_a_pin_brings_a_host_back():
    """A pinned number replaces a newer one; without the pin a newer one stays."""
    assert ask(entry(3), "kmend_4").verdict == Verdict.UP_TO_DATE
    assert ask(entry(3), "kmend_4", settings=Settings(pin_number=3)).verdict == Verdict.AVAILABLE
    assert ask(entry(3), "kmend_3", settings=Settings(pin_number=3)).verdict == Verdict.UP_TO_DATE


def test_a_pinned_number_that_is_not_there():
    """The reason names the pin."""
    decision = ask(None, settings=Settings(pin_number=9))
    assert decision.verdict == Verdict.NOTHING_OFFERED
    assert "no livepatch 9 (pin_number)" in decision.because


def test_the_switch_and_the_quarantine_come_first():
    """What protects the host is named before what the owner wishes."""
    settings = Settings(blocklist=("3",))
    switch = SwitchedOff(switch=Switch.NO_APPLY, because="the kernel command line says kmend=no-apply")
    decision = ask(entry(), settings=settings, switched_off=switch)
    assert (decision.verdict, decision.because) == (Verdict.SWITCHED_OFF, switch.because)
    assert ask(entry(), "kmend_3", switched_off=switch).verdict == Verdict.UP_TO_DATE
    off = replace(switch, switch=Switch.OFF)
    assert ask(entry(), "kmend_3", switched_off=off).verdict == Verdict.SWITCHED_OFF
    assert ask(None, switched_off=off).verdict == Verdict.SWITCHED_OFF
    held = quarantine(FRESH, mark_of(make_livepatch(3)), reason="it oopsed", now=NOW)
    assert ask(entry(), settings=settings, state=held).verdict == Verdict.HELD_BACK
    assert ask(entry(), settings=settings, state=held, despite_quarantine=True).verdict == Verdict.BLOCKLISTED


@given(
    number=st.integers(1, 5),
    pin=st.one_of(st.none(), st.integers(1, 5)),
    blocklist=st.lists(st.integers(1, 5).map(str), max_size=3),
    delay=st.integers(0, 60),
    age=st.integers(0, 60),
    running=st.one_of(st.none(), st.integers(1, 5)),
)
def test_never_what_the_owner_does_not_want(*, number, pin, blocklist, delay, age, running):
    """Whatever is loaded and set: available is only what every setting allows, and every answer has a reason."""
    settings = Settings(pin_number=pin, blocklist=tuple(blocklist), delay_hours=delay)
    names = () if running is None else (f"kmend_{running}",)
    decision = ask(entry(number, hours=age), *names, settings=settings)
    assert decision.because
    if decision.verdict == Verdict.AVAILABLE:
        assert str(number) not in blocklist
        assert pin in {None, number}
        assert age >= delay
        assert running != number


@pytest.mark.parametrize(
    ("text", "moment", "inside"),
    [
        ("Tue 11:00-12:00", "2026-11-24T11:00", True),
        ("Tue 11:00-12:00", "2026-11-24T12:00", False),
        ("Tue 11:00-12:00", "2026-11-25T11:30", False),
        ("Tue 22:00-04:00", "2026-11-24T23:59", True),
        ("Tue 22:00-04:00", "2026-11-25T03:59", True),
        ("Tue 22:00-04:00", "2026-11-24T03:00", False),
        ("Tue 22:00-04:00", "2026-11-25T04:00", False),
        ("Sun 22:00-04:00", "2026-11-23T01:00", True),
        ("Mon,Wed 00:00-00:00", "2026-11-25T17:00", True),
        ("daily 22:00-04:00", "2026-11-24T02:00", True),
        ("daily 22:00-04:00", "2026-11-24T12:00", False),
    ],
)
def test_windows(text, moment, inside):
    """The begin belongs to a window, the end does not; a night belongs to the day that it begins on."""
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert within((parse_window(text),), at, UTC) is inside


def test_windows_are_in_their_time_zone():
    """Two in the morning in Berlin is one o'clock UTC in winter, midnight in summer."""
    window = (parse_window("daily 02:00-02:30"),)
    zone = ZoneInfo("Europe/Berlin")
    assert within(window, datetime(2026, 11, 24, 1, 0, tzinfo=UTC), zone)
    assert within(window, datetime(2026, 7, 24, 0, 0, tzinfo=UTC), zone)
    assert not within(window, datetime(2026, 7, 24, 1, 0, tzinfo=UTC), zone)
