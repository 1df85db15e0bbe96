"""Reading the kernel CNA's records from a folder or an archive."""

import shutil
import subprocess

import pytest

from kmend.exposure import records
from kmend.kit.errors import InputError, SourceError
from makers.cve_records import COMMIT, record, write_records

ONE = record("CVE-2026-1000", "fs/a.c", "fs/a.h", severity="high", score=7.8)
TWO = record("CVE-2025-2000", "net/b.c")


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with two records; the cache lies beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_records(tmp_path / "vulns", ONE, TWO)


def test_a_clone_gives_files_severity_and_repair(clone):
    """Each record has its files once, its CVSS and the commit of each series."""
    found = records.read(clone)
    assert set(found) == {"CVE-2026-1000", "CVE-2025-2000"}
    one = found["CVE-2026-1000"]
    assert (one.files, one.severity, one.score) == (("fs/a.c", "fs/a.h"), "high", 7.8)
    assert found["CVE-2025-2000"].severity == ""
    assert one.repair("6.1") == records.Repair(version="6.1.178", commit=COMMIT)
    assert one.repair("5.10") is None


@pytest.mark.parametrize(("kind", "suffix"), [("gztar", ".tar.gz"), ("zip", ".zip"), ("xztar", ".tar.xz")])
def test_archives_say_the_same_as_the_clone(clone, tmp_path, kind, suffix):
    """A .tar.gz, a .tar.xz and a .zip of the clone give the very records."""
    shutil.make_archive(str(tmp_path / "a"), kind, clone)
    assert records.read(tmp_path / f"a{suffix}") == records.read(clone)


def test_zstd_archives_are_read(clone, tmp_path):
    """A .tar.zst gives the very records, and nothing unpacked is left in the cache."""
    subprocess.run(["tar", "--zstd", "-cf", tmp_path / "a.tar.zst", "-C", clone, "."], check=True)
    assert records.read(tmp_path / "a.tar.zst") == records.read(clone)
    assert not [*(tmp_path / "cache").rglob("*.tar")]


def test_only_the_wanted_records_are_read(clone):
    """A damaged record that nobody asked for does no harm."""
    (clone / "cve/published/2025/CVE-2025-2000.json").write_text("{")
    assert set(records.read(clone, {"CVE-2026-1000"})) == {"CVE-2026-1000"}
    with pytest.raises(InputError, match="CVE-2025-2000"):
        records.read(clone)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dataType": "OTHER"}, "no CVE JSON 5 record"),
        ({"cveMetadata": {"cveId": "CVE-2026-1000", "state": "REJECTED"}}, "not the published record"),
        ({"containers": {"cna": {"affected": []}}}, "title"),
        ({"containers": {"cna": {"title": "t", "affected": [{"programFiles": ["../x.c"]}]}}}, "not allowed"),
        ({"containers": {"cna": {"title": "t", "affected": [{"programFiles": [1]}]}}}, "CVE-2026-1000"),
    ],
)
def test_a_record_of_another_form_is_named(tmp_path, change, reason):
    """What does not follow the format is an error that names the record."""
    with pytest.raises(InputError, match=reason):
        records.read(write_records(tmp_path, ONE | change))


def test_no_records_are_an_error(tmp_path):
    """A wrong path, another folder and a damaged archive are told apart from "no such CVE"."""
    with pytest.raises(InputError, match="no CVE records"):
        records.read(tmp_path / "none")
    with pytest.raises(InputError, match="no clone"):
        records.read(tmp_path)
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(SourceError, match="cannot be read"):
        records.read(tmp_path / "a.tar.gz")
