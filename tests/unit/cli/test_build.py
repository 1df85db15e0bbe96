"""What `kmend build` says about a livepatch that it built."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kmend.cli.build import _show_built
from kmend.model.fix import Caution, CautionCode
from makers.nouns import make_livepatch

CAUTION = Caution(
    code=CautionCode.MAY_STALL, place="kernel/workqueue.o: worker_thread", reason="It never ends.", advice="Wait."
)


@pytest.mark.parametrize("as_json", [False, True])
def test_cautions_are_shown(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """Place, code, reason and advice for people; the same as data."""
    _show_built(replace(make_livepatch(), cautions=(CAUTION,)), Path("out"), seconds=1.0, as_json=as_json)
    said = capsys.readouterr().out
    assert all(text in said for text in (CAUTION.place, "may-stall", CAUTION.reason, CAUTION.advice))
    if as_json:
        assert [one["code"] for one in json.loads(said)["cautions"]] == ["may-stall"]


def test_without_cautions_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """No empty heading."""
    _show_built(make_livepatch(), Path("out"), seconds=1.0, as_json=False)
    assert "caution" not in capsys.readouterr().out
