"""What ``kmend kernel`` prints, and the codes it ends with."""

import json
import os
import time

import pytest

from kmend.cli.main import kmend, run_command
from makers.archive import BUILD_ID, Archive

OLD = "6.1.0-47-cloud-amd64"
NEW = "6.1.0-56-cloud-amd64"


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Two kernels that can be had, one that lost its debug symbols."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archive = Archive(tmp_path / "archive")
    archive.add_kernel(OLD, "6.1.170-3")
    archive.add_kernel("6.1.0-48-cloud-amd64", "6.1.172-1", pieces=("image",))
    archive.add_kernel(NEW, "6.1.192-2")
    with archive.served() as address:
        monkeypatch.setenv("APT_CONFIG", str(archive.publish(address)))
        yield archive


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs kmend; returns exit code, standard output and standard error."""

    def run(*words):
        monkeypatch.setattr("sys.argv", ["kmend", *words])
        code = run_command(kmend)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_list_shows_complete_kernels_and_what_is_here(archive, run):
    """The incomplete one is not shown; the fetched one is marked."""
    assert run("kernel", "fetch", OLD)[0] == 0
    code, out, _ = run("kernel", "list")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert [(line[0], line[-1]) for line in lines[1:]] == [(OLD, "fetched"), (NEW, "available")]


def test_list_all_says_what_is_missing(archive, run):
    """The incomplete kernel names its missing packages, in JSON too."""
    _, out, _ = run("kernel", "list", "--all")
    assert "lacks linux-image-6.1.0-48-cloud-amd64-dbg" in out
    _, out, _ = run("kernel", "list", "--all", "--json")
    (row,) = [row for row in json.loads(out) if row["release"] == "6.1.0-48-cloud-amd64"]
    assert row["state"] == "incomplete"
    assert "linux-source-6.1" in row["missing"]


def test_list_narrows_by_series_and_flavour(archive, run):
    """A series or flavour that is not there gives an empty list, and no error."""
    assert json.loads(run("kernel", "list", "--series", "6.12", "--json")[1]) == []
    assert json.loads(run("kernel", "list", "--flavour", "amd64", "--json")[1]) == []
    assert len(json.loads(run("kernel", "list", "--series", "6.1", "--json")[1])) == 2


def test_a_kit_that_is_offered_no_more_stays_in_the_list(archive, run):
    """What was fetched can be used after it left the mirrors."""
    run("kernel", "fetch", OLD)
    archive.stanzas = [stanza for stanza in archive.stanzas if "6.1.170-3" not in stanza]
    archive.publish(_address())
    _, out, _ = run("kernel", "list")
    assert "fetched, no longer offered" in out


def _address():
    config = os.environ["APT_CONFIG"]
    with open(os.path.join(os.path.dirname(config), "etc/apt/sources.list")) as file:  # noqa: PTH118, PTH120, PTH123
        return file.read().split()[2]


def test_old_lists_are_mentioned(archive, run, tmp_path):
    """Lists that are weeks old get a note with the remedy."""
    lists = tmp_path / "archive/apt/var/lib/apt/lists"
    for path in (lists, lists / "partial"):
        os.utime(path, (time.time() - 20 * 86400,) * 2)
    _, _, err = run("kernel", "list")
    assert "20 days old" in err
    assert "apt-get update" in err


def test_sources_without_debug_packages_are_explained(archive, run):
    """When no kernel is complete, the error says which packages the sources lack."""
    archive.stanzas = [stanza for stanza in archive.stanzas if "-dbg\n" not in stanza.partition("Version")[0]]
    archive.publish(_address())
    code, _, err = run("kernel", "list")
    assert code == 1
    assert "-dbg" in err
    assert "hint:" in err


def test_fetch_prints_the_kit_as_json(archive, run):
    """Scripts get the paths; progress goes to standard error."""
    code, out, err = run("kernel", "fetch", OLD, "--json")
    assert code == 0
    assert json.loads(out)["kernel"] == {"release": OLD, "version": "6.1.170-3", "build_id": BUILD_ID}
    assert "Downloading" in err


def test_show_tells_pieces_build_id_and_compiler(archive, run):
    """Everything about a kit on one page."""
    run("kernel", "fetch", OLD)
    _, out, _ = run("kernel", "show", OLD)
    assert BUILD_ID in out
    assert "vmlinux" in out
    assert "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0" in out
    shown = json.loads(run("kernel", "show", OLD, "--json")[1])
    assert shown["sizes"]["image"] == len("bzImage")


def test_show_of_a_kernel_that_is_not_here_says_how_to_get_it(archive, run):
    """The hint is the command to type."""
    code, _, err = run("kernel", "show", OLD)
    assert code == 1
    assert f"kmend kernel fetch {OLD}" in err


def test_prune_removes_only_after_a_yes(archive, run):
    """Without a terminal to ask on and without --yes, nothing goes."""
    run("kernel", "fetch", OLD)
    code, _, err = run("kernel", "prune", OLD)
    assert code == 1
    assert "--yes" in err
    assert "Would free" in run("kernel", "prune", OLD, "--dry-run")[1]
    assert run("kernel", "show", OLD)[0] == 0
    code, out, _ = run("kernel", "prune", OLD, "--yes", "--json")
    assert code == 0
    assert json.loads(out)["freed"] > 0
    assert run("kernel", "show", OLD)[0] == 1
    assert "nothing to remove" in run("kernel", "prune")[1]
