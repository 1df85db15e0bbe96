"""What somebody accepted, and until when."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from kmend.audit import waivers
from kmend.audit.judge import audit
from kmend.audit.registry import select
from kmend.kit.errors import InputError
from kmend.model.finding import AuditReport, Outcome
from makers.audited import NOW, case_of, right_host, with_container

TEXT = """
[[waiver]]
check = "container-priv*"
subject = "container web*"
reason = "It needs the disks."
expires = 2026-12-31
"""


def write(tmp_path: Path, text: str) -> Path:
    """A file with this text."""
    file = tmp_path / "waivers.toml"
    file.write_text(text)
    return file


def report(accepted: tuple[waivers.Waiver, ...], now: datetime = NOW) -> AuditReport:
    """An audit of a host with a privileged container."""
    facts = with_container(right_host(), privileged=True)
    return audit(case_of(facts), select(wanted=["container-privileged"]), version="1", waivers=accepted, now=now)


def test_a_waived_failure_counts_as_neither(tmp_path: Path):
    """It is shown with its reason and end."""
    found = report(waivers.read(write(tmp_path, TEXT)))
    (finding,) = found.findings
    assert finding.outcome is Outcome.FAIL
    assert finding.waived == "It needs the disks. (until 2026-12-31)"
    assert [(one.failed, one.waived, one.percent) for one in found.scores] == [(0, 1, None)] * 2


def test_on_its_last_day_it_holds_and_on_the_next_it_does_not(tmp_path: Path):
    """And the report says so."""
    accepted = waivers.read(write(tmp_path, TEXT))
    assert report(accepted, datetime(2026, 12, 31, 23, 59, tzinfo=UTC)).findings[0].waived
    late = report(accepted, datetime(2027, 1, 1, tzinfo=UTC))
    assert not late.findings[0].waived
    assert any("ran out on 2026-12-31" in note for note in late.notes)


def test_a_waiver_that_covers_nothing_is_said(tmp_path: Path):
    """So that old ones do not pile up."""
    found = report(waivers.read(write(tmp_path, TEXT.replace("web*", "other"))))
    assert not found.findings[0].waived
    assert any("covers nothing" in note for note in found.notes)


@pytest.mark.parametrize(
    "text",
    [
        "", "no toml [", "a = 1", "[waiver]\ncheck = 'a'", TEXT.replace("reason", "why"),
        TEXT.replace('"It needs the disks."', '" "'), TEXT.replace("2026-12-31", '"soon"'),
        TEXT.replace("expires = 2026-12-31", ""), TEXT.replace('"container web*"', "5"), "waiver = [1]",
    ],
)  # fmt: skip
def test_a_waiver_without_reason_or_end_is_an_error(tmp_path: Path, text: str):
    """Nobody accepts something for ever, or for nothing."""
    with pytest.raises(InputError):
        waivers.read(write(tmp_path, text))
