"""CVEs that advisories name."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from kmend.exposure.advisories import Closed, closed
from kmend.kernels.debian import compare
from kmend.kit.errors import InputError, SourceError


def osv(identity: str, fixed: str, *, name: str = "linux", kind: str = "ECOSYSTEM", **more: Any) -> dict[str, Any]:
    """A record as osv.dev exports it."""
    events = [{"introduced": "0"}, {"fixed": fixed}]
    affected = [
        {"package": {"ecosystem": "Debian:12", "name": name}, "ranges": [{"type": kind, "events": events}]}
    ]
    return {"schema_version": "1.7.0", "id": identity, "affected": affected, **more}


def tracker(**fixed: str) -> dict[str, Any]:
    """The tracker's file with CVEs of the package linux (their hyphens as underscores)."""
    return {
        "linux": {
            cve.replace("_", "-"): {
                "releases": {
                    "bookworm": {"status": "resolved", "fixed_version": version},
                    "trixie": {"status": "resolved", "fixed_version": "6.12.9-1"},
                    "sid": {"status": "open"},
                }
            }
            for cve, version in fixed.items()
        }
    }


def found(path: Path) -> tuple[Closed, ...]:
    """Between 6.1.176-1 and 6.1.187-1."""
    return closed(path, older="6.1.176-1", newer="6.1.187-1", series="6.1", compare=compare)


def put(path: Path, data: Any) -> Path:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def test_the_trackers_file_says_what_was_fixed_between_two_versions(tmp_path: Path) -> None:
    """The older version's own, later ones and those of other series do not count."""
    data = tracker(
        CVE_2026_1001="6.1.187-1", CVE_2026_1002="6.1.176-1", CVE_2026_1003="6.1.190-1", CVE_2026_1004="6.1.180-1"
    )
    path = put(tmp_path / "json", data)
    assert found(path) == (Closed("CVE-2026-1001", "6.1.187-1", ""), Closed("CVE-2026-1004", "6.1.180-1", ""))


def test_osv_records_come_alone_in_a_folder_or_in_a_zip(tmp_path: Path) -> None:
    """CVE ids stand in the id, in aliases or in upstream."""
    one = osv("DEBIAN-CVE-2026-1001", "6.1.180-1", summary="a hole")
    two = osv("DSA-1", "6.1.180-1", upstream=["CVE-2026-1002", "CVE-2026-1003"])
    other = osv("DEBIAN-CVE-2026-1004", "6.1.180-1", name="linux-firmware")
    commits = osv("CVE-2026-1005", "6.1.180", kind="GIT")
    upstream = osv("CVE-2026-1006", "6.1.187", name="Kernel", kind="SEMVER")
    records = {"a": one, "b/c": two, "d": other, "e": commits, "f": upstream}
    for name, record in records.items():
        put(tmp_path / "all" / f"{name}.json", record)
    assert found(tmp_path / "all" / "a.json") == (Closed("CVE-2026-1001", "6.1.180-1", "a hole"),)
    wanted = ["CVE-2026-1001", "CVE-2026-1002", "CVE-2026-1003", "CVE-2026-1006"]
    assert [one.cve for one in found(tmp_path / "all")] == wanted
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name, record in records.items():
            archive.writestr(f"{name}.json", json.dumps(record))
    assert [one.cve for one in found(tmp_path / "all.zip")] == wanted


@pytest.mark.parametrize(
    "content",
    ["", "[1]", "7", "null", '{"bash": {}}', '{"linux": 7}', '{"linux": {"CVE-2026-1001": []}}',
     '{"affected": [{"package": {"name": "linux"}, "ranges": [{}]}], "id": "x"}', '{"affected": [7], "id": "x"}',
     '{"linux": {"CVE-2026-1001": {"releases": {"bookworm": {"status": "resolved"}}}}}', "[" * 100_000],
)  # fmt: skip
def test_what_is_neither_is_refused_with_advice(tmp_path: Path, content: str) -> None:
    """The error names the file."""
    path = tmp_path / "odd.json"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        found(path)
    assert "odd.json" in caught.value.message
    assert "OSV" in caught.value.hint


def test_what_is_not_there_or_cut_short_is_named(tmp_path: Path) -> None:
    """A missing file, an empty folder, a damaged archive."""
    with pytest.raises(InputError, match="no advisories"):
        found(tmp_path / "none")
    with pytest.raises(InputError, match="holds no"):
        found(tmp_path)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("a.json", json.dumps(osv("CVE-2026-1001", "6.1.180-1")) + " " * 5000)
    data = bytearray((tmp_path / "all.zip").read_bytes())
    data[60:70] = b"x" * 10
    (tmp_path / "all.zip").write_bytes(data)
    with pytest.raises((SourceError, InputError), match=r"all\.zip"):
        found(tmp_path / "all.zip")
