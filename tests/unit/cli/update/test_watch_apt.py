"""The watcher and a local archive that gains versions: real apt, real provider, real plan, real signatures."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from kmend.cli import main
from kmend.cli.update import steps
from kmend.release.status import published
from makers.archive import BUILD_ID, CHANGELOG, Archive
from makers.cve_records import BODY, make_units, record, write_records
from makers.repository import SimulatedRepository
from makers.update import Workshop

OLD = "6.1.0-47-cloud-amd64"
CVES = ("CVE-2026-1000", "CVE-2026-1001", "CVE-2026-1002")
FILES = ("fs/a.c", "net/b.c", "mm/c.c")
VERSIONS = ("6.1.170-3", "6.1.192-2", "6.1.195-1")
RELEASES = (OLD, "6.1.0-56-cloud-amd64", "6.1.0-57-cloud-amd64")


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive on loopback with the oldest version; nothing is in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archive = Archive(tmp_path / "archive")
    gain(archive, 0)
    with archive.served() as address:
        monkeypatch.setenv("APT_CONFIG", str(archive.publish(address)))
        yield archive


def gain(archive, at):
    """The mirror has one more version, which closes one more CVE; no apt has read it yet."""
    tree = {
        file: BODY.format(name=file[-3], fixed=" + 1" if closes < at else "") for closes, file in enumerate(FILES)
    }
    entries = [
        CHANGELOG.replace("CVE-2026-10001", CVES[number - 1]).format(version=VERSIONS[number])
        for number in range(at, 0, -1)
    ]
    oldest = CHANGELOG.replace(" (CVE-2026-10001)", "").format(version=VERSIONS[0])
    archive.add_kernel(RELEASES[at], VERSIONS[at], tree=tree, changelog="\n".join([*entries, oldest]))
    archive.write_index()


@pytest.fixture
def config(tmp_path, empty_template):
    """What the watcher is told: one kernel in care, its repository and records."""
    signed = SimulatedRepository(tmp_path / "signed", template=empty_template)
    write_records(tmp_path / "vulns", *(record(cve, file) for cve, file in zip(CVES, FILES, strict=True)))
    path = tmp_path / "watch.toml"
    path.write_text(
        f'kernels = ["{OLD}"]\nout = "work"\ncve_records = "vulns"\n'
        f'repo = "{signed.repo}"\nkeys = "{signed.keys}"\n'
    )
    return path


def rows(config):
    """The rows of watch.json."""
    return json.loads((config.parent / "work/watch.json").read_text())["kernels"]


def test_each_version_that_the_archive_gains_is_published(archive, config, monkeypatch):
    """From apt's lists to a signed livepatch in edge, twice, and nothing in between."""
    shop = Workshop()
    units = make_units(dict.fromkeys(FILES, "vmlinux"))
    monkeypatch.setattr(steps, "units", lambda kit, progress: units)
    monkeypatch.setattr(
        steps,
        "real_shop",
        lambda kit, made, out, *, lab, number: shop.shop(out, lab=lab, number=number, kernel=kit.kernel),
    )
    monkeypatch.setattr("sys.argv", ["kmend", "update", "watch", "--once", "--config", str(config)])
    signed = config.parent / "signed"

    def outcome():
        assert main.run_command(main.kmend) == 0
        held = published(signed / "repo", signed / "keys", build_id=BUILD_ID)
        return rows(config)[0]["outcome"], [(entry.livepatch.number, entry.livepatch.cves) for _, entry in held]

    assert outcome() == ("current", [])
    gain(archive, 1)
    first = (1, CVES[:1])
    assert outcome() == ("published", [first])
    assert outcome() == ("published", [first])
    gain(archive, 2)
    assert outcome() == ("published", [first, (2, CVES[:2])])
    assert shop.built == [CVES[:1], CVES[:1], CVES[1:2], CVES[:2]]


def test_the_running_watcher_ends_when_it_is_asked_to(archive, config):
    """It looked once, sleeps, and ends with exit code 0 without a traceback."""
    words = [sys.executable, "-m", "kmend", "update", "watch", "--config", str(config)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ}) as process:
        _until((config.parent / "work/watch.json").exists, process)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said.decode()
    assert b"Ended" in said
    assert rows(config)[0]["outcome"] == "current"


def _until(condition, process):
    limit = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < limit
        time.sleep(0.05)
