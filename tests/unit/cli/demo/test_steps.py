"""The demo's stages before the host."""

import io

import pytest
from rich.console import Console
from tests.makers import demo

from kmend.build.derive import Choice, Misfit
from kmend.cli.demo import steps
from kmend.cli.demo.timeline import Timeline
from kmend.kit.errors import InputError
from kmend.model.kernel import OfferedKernel


def offer(version: str) -> OfferedKernel:
    """A kernel of the 6.1 series."""
    return OfferedKernel(
        release=f"6.1.0-{version[-1]}-cloud-amd64",
        version=version,
        series="6.1",
        flavour="cloud-amd64",
        packages=(),
        source=None,
        missing=(),
    )


OLD, NEW = offer("6.1.170-3"), offer("6.1.192-2")
KERNELS = steps.Kernels(old=OLD, new=NEW)
CHOICE = Choice(fixes=(demo.FIX,), misfits=(Misfit(name="CVE-2026-1", reason="it is there already"),))


@pytest.fixture
def timeline() -> Timeline:
    """One that nobody watches."""
    return Timeline(Console(file=io.StringIO()))


def derived(timeline, monkeypatch, choice, *, only=None):
    """The fixes of a choice."""
    monkeypatch.setattr(steps.derive, "choose", lambda *_, **__: choice)
    kit = type("Kit", (), {"source": None})
    return steps.derive_fixes(kit, None, KERNELS, catalogue=None, only=only, timeline=timeline)


def test_the_oldest_and_the_newest_are_taken(timeline, monkeypatch):
    """Whatever is offered now decides."""
    monkeypatch.setattr(steps.store, "oldest_and_newest", lambda *_: (OLD, NEW))
    found = steps.find_kernels(None, timeline)
    assert (found.old, found.new) == (OLD, NEW)
    assert found.origin == "Debian linux 6.1.170-3 to 6.1.192-2"


def test_the_newest_kernel_cannot_be_repaired(timeline, monkeypatch):
    """Nothing newer holds a fix for it; that is said."""
    monkeypatch.setattr(steps.store, "find", lambda _: NEW)
    monkeypatch.setattr(steps.store, "oldest_and_newest", lambda *_: (OLD, NEW))
    with pytest.raises(InputError, match="newest version"):
        steps.find_kernels(NEW.release, timeline)


def test_fixes_with_a_probe_are_taken_in_order(timeline, monkeypatch):
    """Without a probe nothing could be shown."""
    silent = type(demo.FIX)(name="x", cves=(), title="", diff="", origin="")
    assert derived(timeline, monkeypatch, Choice(fixes=(silent, demo.FIX), misfits=())) == (demo.FIX,)
    assert "CVE-2026-52928" in timeline.moments[-1].text


def test_it_is_said_why_none_fits(timeline, monkeypatch):
    """Each entry's reason is in the message, and for one that was asked for only its own."""
    with pytest.raises(InputError, match="CVE-2026-1: it is there already"):
        derived(timeline, monkeypatch, Choice(fixes=(), misfits=CHOICE.misfits))
    with pytest.raises(InputError, match="CVE-2026-1: it is there already"):
        derived(timeline, monkeypatch, CHOICE, only="CVE-2026-1")
    with pytest.raises(InputError, match="no fix nonsense"):
        derived(timeline, monkeypatch, CHOICE, only="nonsense")
