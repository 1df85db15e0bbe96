"""What became of every CVE."""

from dataclasses import replace

from kmend.cli.update.report import counts, page, report, table
from kmend.cli.update.together import put_together
from kmend.cli.update.work import work_off
from kmend.kit.progress import Silent
from kmend.model import wire
from kmend.model.update import CveState, Outcome, UpdateReport
from makers.update import Workshop, make_fixes, make_plan


def test_every_cve_of_the_plan_has_a_row(tmp_path):
    """Proven, refused by the builder, not tried, not built, refused by the plan, unknown; in JSON and HTML."""
    fixes = make_fixes("good", "no", "later")
    others = {"CVE-1": CveState.NOT_BUILT, "CVE-2": CveState.REFUSED, "CVE-3": CveState.UNKNOWN}
    shop = Workshop({"no": "refused"}).shop(tmp_path)
    results = work_off(fixes, shop, limit=2, progress=Silent())
    together = put_together(fixes[:1], shop, taken={}, progress=Silent())
    made = report(make_plan(fixes, others), results, together=together, lab="quick")
    assert {row.cve: (row.outcome, row.code) for row in made.cves} == {
        "CVE-2026-1000": (Outcome.PROVEN, ""),
        "CVE-2026-1001": (Outcome.REFUSED, "compile-failed"),
        "CVE-2026-1002": (Outcome.PENDING, ""),
        "CVE-1": (Outcome.NOT_BUILT, "code-not-built"),
        "CVE-2": (Outcome.REFUSED, "code-refused"),
        "CVE-3": (Outcome.UNKNOWN, "code-unknown"),
    }
    assert [row.cve for row in made.cves if row.together] == ["CVE-2026-1000"]
    assert (Outcome.REFUSED, 2, (("compile-failed", 1), ("code-refused", 1))) in counts(made)
    assert wire.load(UpdateReport, wire.dump(made), what="report") == made
    text = table(made)
    assert "4 CVEs whose code the kernel contains, 1 of them (25%) built and proven" in text
    rows = [line for line in text.splitlines() if line.startswith("| CVE-")]
    assert len(rows) == 4
    assert all(line.count(" | ") == 3 for line in rows)
    html = page(made)
    assert all(row.cve in html for row in made.cves)
    assert "&lt;b&gt;" in html


def test_what_to_know_before_applying_it_stands_in_the_row(tmp_path):
    """Code and place of each caution in the manifest."""
    (fix,) = fixes = make_fixes("good")
    (result,) = work_off(fixes, Workshop().shop(tmp_path), progress=Silent())
    result = replace(result, cautions=("may-stall (kernel/a.o: worker)",))
    (row,) = report(make_plan(fixes), [result], together=None, lab="quick").cves
    assert (row.outcome, row.code, fix.name) == (Outcome.PROVEN, "", row.fix)
    assert row.reason == "Caution: may-stall (kernel/a.o: worker)."
    assert row.reason in page(report(make_plan(fixes), [result], together=None, lab="quick"))
