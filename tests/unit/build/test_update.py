"""From a changelog, records and two trees to a plan with fixes."""

import pytest

from kmend.build import fixes as fix_folders
from kmend.build.closure import Update
from kmend.build.sources import Sources
from kmend.build.update import fix_name, grouped, plan_update
from kmend.exposure import records
from kmend.kit.progress import Silent
from kmend.linux.changelog import ChangelogItem
from kmend.model import wire
from kmend.model.update import CveState, UpdatePlan
from makers.cve_records import make_units, record, write_records, write_tree
from makers.nouns import KERNEL

FILES = {"fs/a.c": "vmlinux", "fs/b.c": "vmlinux", "fs/c.c": "vmlinux", "net/d.c": "d", "net/e.c": "e"}
RECORDS = (
    record("CVE-2026-1001", "fs/a.c", severity="high", score=7.8),
    record("CVE-2026-1002", "fs/a.c", "fs/b.c"),
    record("CVE-2026-1003", "net/d.c"),
    record("CVE-2026-1004", "net/e.c", "include/linux/x.h"),
    record("CVE-2026-1005", "net/e.c"),
    record("CVE-2026-1006", "drivers/none.c"),
    record("CVE-2026-1009", "fs/c.c"),
)
SUBJECTS = {"CVE-2026-1007": "something", "CVE-2026-1008": "[arm64,armhf] another thing"}


@pytest.fixture
def made(tmp_path):
    """The plan, its fixes and the trees for the records above and two CVEs without a record."""
    names = [*FILES, "include/linux/x.h", "drivers/none.c"]
    old = write_tree(tmp_path / "old", dict.fromkeys(names, False))
    new = write_tree(tmp_path / "new", dict.fromkeys(names, True))
    (new / "fs/c.c").write_bytes(b"\xff\xfe\n")
    known = records.read(write_records(tmp_path / "vulns", *RECORDS))
    items = [
        ChangelogItem(version="6.1.192-2", subject=SUBJECTS.get(cve, "s"), cves=(cve,))
        for cve in [*known, *SUBJECTS]
    ]
    sources = Sources(old=old, new=new, old_version="6.1.170-3", new_version="6.1.192-2")
    units = make_units(FILES)
    update = Update.between(units, sources, progress=Silent())
    return *plan_update(KERNEL, items, records=known, units=units, update=update, progress=Silent()), old, new


def test_every_cve_has_a_row_that_says_what_becomes_of_it(made):
    """Fix, refused, not built and unknown; nothing is left out."""
    plan = made[0]
    assert {row.cve: (row.state, row.code) for row in plan.cves} == {
        "CVE-2026-1001": (CveState.FIX, ""),
        "CVE-2026-1002": (CveState.FIX, ""),
        "CVE-2026-1003": (CveState.FIX, ""),
        "CVE-2026-1004": (CveState.FIX, ""),
        "CVE-2026-1005": (CveState.FIX, ""),
        "CVE-2026-1006": (CveState.NOT_BUILT, "not-built"),
        "CVE-2026-1007": (CveState.UNKNOWN, "no-record"),
        "CVE-2026-1008": (CveState.NOT_BUILT, "other-architecture"),
        "CVE-2026-1009": (CveState.REFUSED, "not-derivable"),
    }
    assert all(row.reason for row in plan.cves if row.state is not CveState.FIX)
    assert wire.load(UpdatePlan, wire.dump(plan), what="plan") == plan


def test_cves_of_one_file_share_a_fix_that_names_them(made):
    """The shared fix carries both CVEs and says so; one CVE alone gives its name to its fix."""
    plan, fixes, *_ = made
    assert [(one.name, one.cves) for one in plan.fixes] == [
        ("fs-a-and-1-files-2-cves", ("CVE-2026-1001", "CVE-2026-1002")),
        ("CVE-2026-1003", ("CVE-2026-1003",)),
        ("include-linux-x-and-1-files-2-cves", ("CVE-2026-1004", "CVE-2026-1005")),
    ]
    assert "share these files" in fixes[0].reasoning
    assert "6.1.170-3 to 6.1.192-2 (stable commits: b1b0b9efe641" in fixes[0].origin


def test_the_fixes_lead_from_the_old_files_to_the_new_ones(made, tmp_path):
    """Saved, loaded and applied, the files are those of the newer source."""
    _, fixes, old, new = made
    for fix in fixes:
        fix_folders.save(fix, tmp_path / "fixes" / fix.name)
    loaded = tuple(fix_folders.load(tmp_path / "fixes" / fix.name) for fix in fixes)
    texts = fix_folders.changed(loaded, source=old)
    files = ("fs/a.c", "fs/b.c", "include/linux/x.h", "net/d.c", "net/e.c")
    assert texts == {path: (new / path).read_text() for path in files}


def test_groups_join_over_several_files():
    """What shares a file directly or by way of a third is one group; the order given stays."""
    files = {"1": ("a",), "2": ("b",), "3": ("c",), "4": ("b", "a")}
    assert grouped(files) == ((("1", "2", "4"), ("a", "b")), (("3",), ("c",)))


def test_names_of_fixes_are_names_of_folders():
    """Long paths and odd letters still give a name that a fix may have."""
    name = fix_name(("CVE-2026-1", "CVE-2026-2"), ("drivers/" + "x" * 200 + "/,odd.c",))
    assert len(name) < 100
    assert fix_folders._NAME.fullmatch(name)
