"""Reading what distributions say."""

import json
import zipfile
from pathlib import Path

import pytest

from kmend.audit import advisories
from kmend.audit.check import Advisory
from kmend.audit.packages import open_holes
from kmend.kit.errors import InputError
from kmend.model.facts import Package

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
    ("ecosystem", "release"),
    [
        ("Debian:12", "debian 12"),
        ("Debian", "debian"),
        ("Ubuntu:22.04:LTS", "ubuntu 22.04"),
        ("Ubuntu:23.10", "ubuntu 23.10"),
        ("Ubuntu:Pro:18.04:LTS", "ubuntu Pro:18.04"),
        ("Alpine:v3.19", "alpine 3.19"),
        ("Rocky Linux:9", "rocky 9"),
        ("AlmaLinux:9", "almalinux 9"),
        ("openSUSE:Leap 15.5", "opensuse-leap 15.5"),
        ("openSUSE:Tumbleweed", "opensuse-tumbleweed"),
        ("SUSE:Linux Enterprise Server 15 SP5", "sles 15.5"),
        ("SUSE:Linux Enterprise Module for Public Cloud 15 SP4", "sles 15.4"),
        ("SUSE:Linux Enterprise Server 15", "sles 15.0"),
        ("SUSE:Linux Enterprise Server 15 SP3-LTSS", "suse Linux Enterprise Server 15 SP3-LTSS"),
        (
            "SUSE:Linux Enterprise Server LTSS Extended Security 12 SP5",
            "suse Linux Enterprise Server LTSS Extended Security 12 SP5",
        ),
        ("SUSE:Linux Enterprise Micro 5.5", "sle-micro 5.5"),
        ("Red Hat:enterprise_linux:9::baseos", "rhel 9"),
        ("Red Hat:enterprise_linux:8", "rhel 8"),
        ("Red Hat:rhel_eus:9.2::baseos", "red hat rhel_eus:9.2::baseos"),
        ("Azure Linux:3", "azurelinux 3"),
        ("Photon OS:5.0", "photon 5.0"),
        ("Wolfi", "wolfi"),
    ],
)
def test_osv_names_of_releases(tmp_path: Path, ecosystem: str, release: str):
    """As os-release(5) has them."""
    record = json.loads(json.dumps(OSV).replace("Debian:12", ecosystem))
    (tmp_path / "a.json").write_text(json.dumps(record))
    assert advisories.read(tmp_path / "a.json")["runc"][0].release == release


@pytest.mark.parametrize(
    ("distribution", "kind", "said", "version", "holes"),
    [
        ("alpine 3.19.1", "apk", ("alpine 3.19", "1.2.3-r1"), "1.2.3-r0", 1),
        ("alpine 3.19.1", "apk", ("alpine 3.19", "1.2.3-r1"), "1.2.3-r1", 0),
        ("alpine 3.19.1", "apk", ("alpine 3.19", "1.2.3-r1"), "1.2_rc1-r4", 1),
        ("alpine 3.19.1", "apk", ("alpine 3.1", "1.2.3-r1"), "1.2.3-r0", None),
        ("rocky 9.3", "rpm", ("rocky 9", "1:1.2-3.el9_3"), "1:1.2-3.el9", 1),
        ("rocky 9.3", "rpm", ("rocky 9", "0:1.2-3.el9_3"), "1.2-3.el9_3", 0),
        ("rhel 8.9", "rpm", ("rhel 8", "2-1.module+el8.9"), "1-1.module+el8.8", 1),
        ("rhel 8.9", "rpm", ("rhel 8", "2-1.module+el8.9"), "1-1.el8", 0),
        ("rhel 8.9", "rpm", ("rhel 8", "2-1.el8"), "1-1.module+el8.8", 0),
        ("opensuse-tumbleweed 20240801", "rpm", ("opensuse-tumbleweed", "2-1.1"), "1-1.1", 1),
        ("wolfi 20230201", "apk", ("wolfi", "2-r1"), "2-r0", 1),
        ("ubuntu 22.04", "deb", ("ubuntu 22.04", "1.1-0ubuntu1"), "1.1-0ubuntu0.1", 1),
        ("debian 12", "deb", ("debian 1", "2"), "1", None),
    ],
)
def test_packages_are_judged_by_the_rules_of_their_kind(distribution, kind, said, version, holes):
    """Of a release that the image's is one of; None where nothing is said of it."""
    package = Package(name="p", version=version, source="p", source_version=version, origin=kind)
    found = open_holes([package], distribution, {"p": (Advisory("CVE-2024-1", "p", *said),)})
    assert (found if found is None else len(found)) == holes


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", "{}", "[" * 100_000, '{"a": 1}', '[{"affected": [1, {"package": 2}]}]']
)
def test_what_is_no_advisory_is_an_error(tmp_path: Path, text: str):
    """Never a traceback, never silently nothing."""
    file = tmp_path / "odd.json"
    file.write_text(text)
    with pytest.raises(InputError):
        advisories.read(file)
