"""``kmend update plan`` and ``kmend update build``, with a stand-in for kit, builder and lab."""

import gzip
import json
from types import SimpleNamespace

import pytest

from kmend.cli import main
from kmend.cli.update import steps
from kmend.kit.errors import MachineError
from makers.cve_records import make_units, record, write_records, write_tree
from makers.nouns import KERNEL, OTHER_KERNEL
from makers.update import Workshop

CHANGELOG = """\
linux (6.1.192-2) bookworm-security; urgency=high

  * New upstream stable update:
    - fs: fix a (CVE-2026-1000)
    - net: fix b (CVE-2026-1001)
    - none: fix c (CVE-2026-1002, CVE-2026-1003)

 -- A Person <a@example.org>  Sat, 07 Nov 2026 11:17:40 +0100

linux (6.1.170-3) bookworm; urgency=medium

  * older

 -- A Person <a@example.org>  Fri, 08 May 2026 11:17:40 +0100
"""


@pytest.fixture
def kmend(tmp_path, monkeypatch):
    """Runs the command line in a folder with two trees and records; gives the exit code."""
    files = ("fs/a.c", "net/b.c", "none/c.c")
    old = write_tree(tmp_path / "old", dict.fromkeys(files, False))
    new = write_tree(tmp_path / "new", dict.fromkeys(files, True))
    (tmp_path / "changelog.gz").write_bytes(gzip.compress(CHANGELOG.encode()))
    write_records(tmp_path / "vulns", *(record(f"CVE-2026-100{at}", file) for at, file in enumerate(files)))
    kit = SimpleNamespace(kernel=KERNEL, source=old)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(steps.store, "load", lambda release: kit)
    monkeypatch.setattr(steps.store, "source", lambda series, version, progress: new)
    monkeypatch.setattr(steps.store, "changelog", lambda version: tmp_path / "changelog.gz")
    units = make_units({"fs/a.c": "vmlinux", "net/b.c": "b"})
    monkeypatch.setattr(steps, "units", lambda kit, progress: units)

    def run(*words, shop=None, kernel=KERNEL):
        kit.kernel = kernel
        if shop:
            monkeypatch.setattr(steps, "real_shop", lambda kit, made, out, lab, number: shop.shop(out, lab=lab))
        monkeypatch.setattr("sys.argv", ["kmend", "update", *words, "--kernel", KERNEL.release])
        return main.run_command(main.kmend)

    return run


PLAN = ("plan", "--to", "6.1.192-2", "--cve-records", "vulns")


def test_plan_then_build_gives_one_row_for_each_cve(kmend, tmp_path, capsys):
    """From changelog and records to report.json and report.html, and one livepatch of what held."""
    assert kmend(*PLAN) == 0
    assert "2  fix" in capsys.readouterr().out
    assert kmend("build", shop=Workshop({"CVE-2026-1001": "refused"})) == 0
    out = tmp_path / "build" / "update"
    rows = {row["cve"]: row["outcome"] for row in json.loads((out / "report.json").read_text())["cves"]}
    assert list(rows.values()) == ["proven", "refused", "not-built", "unknown"]
    assert (out / "together" / "livepatch.json").is_file()
    assert "CVE-2026-1003" in (out / "report.html").read_text()
    assert "1  built and proven" in capsys.readouterr().out


def test_a_failure_is_exit_code_1(kmend):
    """A livepatch that did not hold is not hidden by the others."""
    kmend(*PLAN)
    assert kmend("build", "--lab", "quick", shop=Workshop({"CVE-2026-1001": "lab"})) == 1


def test_the_report_is_written_when_the_work_ends_early(kmend, tmp_path, capsys):
    """What was done before the machine failed is in it, the rest is pending."""
    kmend(*PLAN)
    assert kmend("build", shop=Workshop({"CVE-2026-1001": MachineError("no QEMU")})) == 1
    assert "no QEMU" in capsys.readouterr().err
    rows = json.loads((tmp_path / "build/update/report.json").read_text())["cves"]
    assert [row["outcome"] for row in rows] == ["built", "pending", "not-built", "unknown"]


def test_plan_and_kernel_must_agree(kmend, capsys):
    """A plan for another kernel, or none, is an error with a hint."""
    assert kmend("build", shop=Workshop()) == 1
    assert "kmend update plan" in capsys.readouterr().err
    kmend(*PLAN)
    assert kmend("build", shop=Workshop(), kernel=OTHER_KERNEL) == 1
    assert "not for" in capsys.readouterr().err


def test_without_records_nothing_is_guessed(kmend, capsys):
    """Every CVE is unknown then, and the command says why."""
    assert kmend("plan", "--to", "6.1.192-2") == 0
    out = capsys.readouterr().out
    assert "4  no-record" in out
    assert "No CVE records were given" in out
