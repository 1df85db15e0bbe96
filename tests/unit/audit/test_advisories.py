"""Reading what distributions say."""

import json
import zipfile
from pathlib import Path

import pytest

from kmend.audit import advisories
from kmend.audit.check import Advisory
from kmend.kit.errors import InputError

TRACKER = {
    "runc": {
        "CVE-2024-21626": {
            "releases": {
                "bookworm": {"status": "resolved", "fixed_version": "1.1.5+ds1-1+deb12u1"},
                "trixie": {"status": "open"},
                "sid": {"status": "undetermined"},
            }
        },
        "TEMP-0001": {"releases": {"bookworm": {"status": "open"}}},
    }
}
OSV = {
    "id": "DSA-5615-1",
    "upstream": ["CVE-2024-21626"],
    "affected": [
        {
            "package": {"ecosystem": "Debian:12", "name": "runc"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1.5+ds1-1+deb12u1"}]}],
        }
    ],
}
FIXED = Advisory("CVE-2024-21626", "runc", "debian 12", "1.1.5+ds1-1+deb12u1")


def test_the_trackers_file(tmp_path: Path):
    """Resolved and open; undetermined says nothing, and what is no CVE is left out."""
    file = tmp_path / "tracker.json"
    file.write_text(json.dumps(TRACKER))
    assert advisories.read(file) == {"runc": (FIXED, Advisory("CVE-2024-21626", "runc", "debian 13", ""))}


@pytest.mark.parametrize("form", ["file", "folder", "zip", "list"])
def test_osv_records(tmp_path: Path, form: str):
    """A record, a folder of them, an archive, a list."""
    path = tmp_path / "all"
    if form == "folder":
        path.mkdir()
        (path / "a.json").write_text(json.dumps(OSV))
    elif form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.json", json.dumps(OSV))
    else:
        path.write_text(json.dumps([OSV] if form == "list" else OSV))
    assert advisories.read(path) == {"runc": (FIXED,)}


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", "{}", "[" * 100_000, '{"a": 1}', '[{"affected": [1, {"package": 2}]}]']
)
def test_what_is_no_advisory_is_an_error(tmp_path: Path, text: str):
    """Never a traceback, never silently nothing."""
    file = tmp_path / "odd.json"
    file.write_text(text)
    with pytest.raises(InputError):
        advisories.read(file)
