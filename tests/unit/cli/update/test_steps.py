"""What plan, build and watch have in common."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from kmend.cli.update import steps
from kmend.cli.update.retaking import Attempt
from kmend.kit.progress import Silent
from kmend.model import wire
from kmend.model.livepatch import Livepatch
from kmend.model.update import PartLeftOut, UpdatePlan
from makers.nouns import KERNEL
from makers.update import Workshop, make_fixes, make_plan


class _Half:
    """A retaker that leaves out what closes the second CVE."""

    def build(self, fix, builds, folder):
        """Built, in part."""
        part = PartLeftOut(file="fs/b.c", names=("b",), code="changed-layout", reason="no")
        return Attempt(made=builds((fix,), folder), fix=fix, left_out=(part,), closes=fix.cves[:1])


def test_a_livepatch_names_only_what_it_closes(tmp_path, monkeypatch):
    """A CVE whose part was left out is not in the manifest of the one livepatch."""
    (fix,) = make_fixes("a")
    both = replace(fix, cves=("CVE-2026-1001", "CVE-2026-1002"))
    plan = make_plan((both,))
    planned = replace(plan.fixes[0], cves=both.cves)
    rows = tuple(replace(plan.cves[0], cve=cve) for cve in both.cves)
    steps.save_plan(replace(plan, fixes=(planned,), cves=rows), (both,), tmp_path)
    shop = replace(Workshop().shop(tmp_path), retaker=_Half())
    monkeypatch.setattr(steps, "real_shop", lambda *_, **__: shop)
    kit = SimpleNamespace(kernel=KERNEL)
    steps.build_plan(kit, tmp_path / "plan.json", jobs=1, lab="quick", number=1, progress=Silent())
    made = wire.load(Livepatch, (tmp_path / "together/livepatch.json").read_bytes(), what="")
    assert made.cves == both.cves[:1]


def test_a_plan_is_there_only_with_all_its_fixes(tmp_path, monkeypatch):
    """Killed while a newer plan is written, the older one is gone rather than mixed with its fixes."""
    fixes = make_fixes("a", "b")
    steps.save_plan(make_plan(fixes), fixes, tmp_path)
    assert wire.load(UpdatePlan, (tmp_path / "plan.json").read_bytes(), what="") == make_plan(fixes)
    monkeypatch.setattr(steps.fix_folders, "save", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        steps.save_plan(make_plan(fixes), fixes, tmp_path)
    assert not (tmp_path / "plan.json").exists()
