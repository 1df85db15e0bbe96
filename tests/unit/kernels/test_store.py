"""Kits: fetched, loaded, shared, and whole whatever happens in between."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kmend.kernels import bring, places, store
from kmend.kit.errors import InputError, MachineError, SourceError, TrustError
from makers.archive import BUILD_ID, COMPILER

OLD = "6.1.0-47-cloud-amd64"
NEW = "6.1.0-56-cloud-amd64"


def _packages(archive):
    return [path for path, _ in archive.requests if path.endswith(".deb")]


def test_a_fetched_kit_has_every_piece(two_kernels):
    """All paths exist, and the build id is the one in vmlinux."""
    kit = store.fetch(OLD)
    assert kit.kernel.build_id == BUILD_ID
    assert (kit.kernel.release, kit.kernel.version, kit.compiler) == (OLD, "6.1.170-3", COMPILER)
    for path in (kit.image, kit.modules, kit.vmlinux, kit.debug_modules, kit.config, kit.headers, kit.symvers):
        assert path.exists(), path
    assert (kit.modules / "modules.dep").is_file()
    assert (kit.source / "Makefile").read_text() == "# 6.1.170-3\n"
    assert (kit.headers.parent / "linux-headers-6.1.0-47-common").is_dir()


def test_nothing_else_is_left(two_kernels):
    """Downloads and half-made folders are gone after a fetch."""
    store.fetch(OLD)
    assert not list(places.downloads_folder().iterdir())
    assert [path.name for path in places.kits_folder().iterdir()] == [OLD]
    assert sorted(path.name for path in places.source_folder("6.1.170-3").iterdir()) == [
        "changelog.gz",
        "linux-source-6.1",
    ]


def test_fetching_again_asks_no_mirror(two_kernels):
    """A kit that is whole is taken as it is."""
    first = store.fetch(OLD)
    two_kernels.requests.clear()
    assert store.fetch(OLD) == first
    assert two_kernels.requests == []


def test_flavours_of_one_version_share_the_source(archive, published):
    """The source package is downloaded once, and the tree is the same."""
    archive.add_kernel(OLD, "6.1.170-3")
    archive.add_kernel("6.1.0-47-amd64", "6.1.170-3", pieces=("image", "dbg", "headers"))
    published()
    first, second = store.fetch(OLD), store.fetch("6.1.0-47-amd64")
    assert first.source == second.source
    assert first.folder != second.folder
    assert sum("linux-source" in path for path in _packages(archive)) == 1


def test_the_source_alone_can_be_had(archive, published):
    """A version without any other package still has its source tree and changelog."""
    archive.add_kernel("6.1.0-56-amd64", "6.1.192-2", pieces=("source",))
    published()
    tree = store.source("6.1", "6.1.192-2")
    assert (tree / "Makefile").read_text() == "# 6.1.192-2\n"
    assert store.changelog("6.1.192-2").is_file()


def test_the_source_that_is_here_is_used_for_the_kit(two_kernels):
    """A kit does not fetch a source tree that is there already."""
    tree = store.source("6.1", "6.1.170-3")
    assert store.fetch(OLD).source == tree
    assert sum("linux-source" in path for path in _packages(two_kernels)) == 1


@pytest.mark.parametrize("when", [1, 2])
def test_an_interruption_while_unpacking_leaves_no_half_kit(two_kernels, monkeypatch, when):
    """``load`` refuses until a second fetch has gone on, without downloading again."""
    real, calls = bring.unpack, []

    def interrupted(jobs, *, progress):
        calls.append(jobs)
        if len(calls) == when:
            raise KeyboardInterrupt
        real(jobs, progress=progress)

    monkeypatch.setattr(bring, "unpack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.fetch(OLD)
    with pytest.raises(InputError, match="no kit"):
        store.load(OLD)
    assert store.releases() == ()
    two_kernels.requests.clear()
    kit = store.fetch(OLD)
    assert kit.vmlinux.is_file()
    assert _packages(two_kernels) == []


def test_what_was_unpacked_is_not_unpacked_again(two_kernels, monkeypatch):
    """A fetch that was interrupted at its very end starts no unpacking program again."""
    real, commands = bring.unpack, []

    def counted(jobs, *, progress):
        commands.extend(job.command for job in jobs if not job.done.exists())
        real(jobs, progress=progress)

    with monkeypatch.context() as changed:
        changed.setattr(bring, "_finish_source", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.fetch(OLD)
    monkeypatch.setattr(bring, "unpack", counted)
    assert store.fetch(OLD).vmlinux.is_file()
    assert commands == []


def _interrupt(*_):
    raise KeyboardInterrupt


def test_a_cut_download_goes_on_where_it_was(two_kernels):
    """The part that has arrived is kept, and only the rest is asked for."""
    two_kernels.cut_after = 300_000
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        store.fetch(OLD)
    assert "kept" in caught.value.hint
    two_kernels.cut_after = None
    two_kernels.requests.clear()
    store.fetch(OLD)
    assert "bytes=300000-" in [asked for path, asked in two_kernels.requests if "-dbg_" in path], (
        two_kernels.requests
    )


def test_a_killed_run_goes_on_where_it_was(two_kernels):
    """After kill -9 no program is left, no kit is there, and the next fetch resumes."""
    two_kernels.pause = 0.3
    code = f"from kmend.kernels import store; store.fetch({OLD!r})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as child:
        _until(lambda: any(path.stat().st_size > 100_000 for path in places.downloads_folder().rglob("*-dbg_*")))
        os.kill(child.pid, signal.SIGKILL)
    _until(lambda: not _running_below(places.downloads_folder()))
    assert store.releases() == ()
    two_kernels.pause = 0
    two_kernels.requests.clear()
    assert store.fetch(OLD).vmlinux.is_file()
    assert any(asked and "-dbg_" in path for path, asked in two_kernels.requests), two_kernels.requests


def _until(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen within 10 s")


def _running_below(folder):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            place = (process / "cwd").readlink()
        except OSError:
            continue
        if place.is_relative_to(folder):
            found.append(process.name)
    return found


def test_an_altered_package_is_refused_and_dropped(two_kernels):
    """What does not have the archive's hash is never unpacked, and fetched anew the next time."""
    deb = two_kernels.deb("linux-image-6.1.0-47-cloud-amd64_")
    whole = deb.read_bytes()
    deb.write_bytes(whole.replace(b"bzImage", b"bzEvil!"))
    with pytest.raises(TrustError):
        store.fetch(OLD)
    assert store.releases() == ()
    deb.write_bytes(whole)
    assert store.fetch(OLD).image.read_bytes() == b"bzImage"


def test_packages_that_apt_cannot_authenticate_are_refused(archive, published):
    """We do not tell apt to go on without a signature."""
    archive.add_kernel(OLD, "6.1.170-3")
    published(options="allow-insecure=yes")
    with pytest.raises(TrustError, match="authenticate"):
        store.fetch(OLD)
    assert not list(places.downloads_folder().rglob("*.deb"))


def test_a_package_that_left_the_archive_points_at_the_lists(two_kernels):
    """The lists are older than the mirror: say so."""
    two_kernels.deb("linux-image-6.1.0-47-cloud-amd64-dbg").unlink()
    with pytest.raises(SourceError, match="left the archive") as caught:
        store.fetch(OLD)
    assert "apt-get update" in caught.value.hint


def test_a_mirror_that_is_away_is_said_so(archive, tmp_path, monkeypatch):
    """A dead network is a clear error, not a failed program."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archive.add_kernel(OLD, "6.1.170-3")
    with archive.served() as address:
        monkeypatch.setenv("APT_CONFIG", str(archive.publish(address)))
    with pytest.raises(SourceError, match="cannot be reached"):
        store.fetch(OLD)


def test_a_full_disk_is_found_before_anything_is_downloaded(two_kernels, monkeypatch):
    """The free space is looked at first."""
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(MachineError, match="needs"):
        store.fetch(OLD)
    assert _packages(two_kernels) == []


def test_an_unknown_release_suggests_near_ones(two_kernels):
    """A typing error shows what was probably meant."""
    with pytest.raises(InputError) as caught:
        store.fetch("6.1.0-46-cloud-amd64")
    assert NEW in caught.value.hint


def test_a_version_that_is_not_offered_names_those_that_are(two_kernels):
    """Asking for a certain package version that is gone shows the others."""
    with pytest.raises(InputError) as caught:
        store.fetch(OLD, version="6.1.170-2")
    assert "6.1.170-3" in caught.value.hint


def test_an_incomplete_kernel_is_refused_with_what_is_missing(archive, published):
    """No attempt is made at half a kit."""
    archive.add_kernel(OLD, "6.1.170-3", pieces=("image", "headers", "common", "source"))
    published()
    with pytest.raises(InputError, match=f"linux-image-{re.escape(OLD)}-dbg"):
        store.fetch(OLD)


@pytest.mark.parametrize("release", ["../../etc", "", ".hidden", "a/b"])
def test_a_path_is_no_release(two_kernels, release):
    """A release name cannot lead out of the cache."""
    with pytest.raises(InputError, match="not a kernel release"):
        store.load(release)


@pytest.mark.parametrize("piece", ["image", "modules", "vmlinux", "debug_modules", "config", "headers", "symvers"])
def test_a_missing_piece_is_named_and_fetched_again(two_kernels, piece):
    """``load`` says what is gone, and ``fetch`` mends it."""
    path = getattr(store.fetch(OLD), piece)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match="missing") as caught:
        store.load(OLD)
    assert f"kmend kernel fetch {OLD}" in caught.value.hint
    assert getattr(store.fetch(OLD), piece).exists()


def test_a_missing_source_tree_is_fetched_alone(two_kernels):
    """The kit stays, only the source comes again."""
    kit = store.fetch(OLD)
    shutil.rmtree(kit.source)
    with pytest.raises(InputError, match="source tree"):
        store.load(OLD)
    two_kernels.requests.clear()
    store.fetch(OLD)
    assert len(_packages(two_kernels)) == 1


def test_a_truncated_piece_is_noticed(two_kernels):
    """A file that lost its end, as after a power cut, is not taken for whole."""
    kit = store.fetch(OLD)
    with kit.vmlinux.open("r+b") as file:
        file.truncate(10)
    with pytest.raises(InputError, match="damaged"):
        store.load(OLD)


def test_a_package_without_its_piece_is_an_error_of_the_source(archive, published):
    """A kit is never made from packages that do not hold what they should."""
    archive.add_kernel(OLD, "6.1.170-3", pieces=("image", "headers", "common", "source"))
    archive.add(f"linux-image-{OLD}-dbg", "6.1.170-3", {"usr/share/doc/empty": b""})
    published()
    with pytest.raises(SourceError, match="vmlinux"):
        store.fetch(OLD)
    assert store.releases() == ()


def test_oldest_and_newest_are_of_one_series(archive, published):
    """Incomplete kernels and other series and flavours do not count."""
    archive.add_kernel("6.1.0-46-cloud-amd64", "6.1.165-1", pieces=("image",))
    archive.add_kernel(OLD, "6.1.170-3")
    archive.add_kernel("6.1.0-48-amd64", "6.1.172-1")
    archive.add_kernel(NEW, "6.1.192-2")
    archive.add_kernel("6.12.107+deb12-cloud-amd64", "6.12.107-1~deb12u1")
    published()
    oldest, newest = store.oldest_and_newest()
    assert (oldest.release, newest.release) == (OLD, NEW)
    with pytest.raises(SourceError, match=r"6\.12"):
        store.oldest_and_newest("6.12")


def test_two_runs_share_one_download(two_kernels):
    """A second fetch of the same version waits for the first and uses what it brought."""
    two_kernels.pause = 0.1
    code = f"from kmend.kernels import store; store.fetch({OLD!r})"
    with subprocess.Popen([sys.executable, "-c", code]) as other:
        _until(lambda: list(places.downloads_folder().rglob("*.deb")))
        heard = _Heard()
        store.fetch(OLD, progress=heard)
        assert other.wait() == 0
    assert len(_packages(two_kernels)) == 5
    assert any("Waiting" in note for note in heard.notes)


class _Heard:
    def __init__(self):
        self.notes, self.steps = [], []

    def step(self, text):
        self.steps.append(text)

    def amount(self, done, total, *, unit=""):
        assert 0 <= done <= total

    def note(self, text):
        self.notes.append(text)


def test_the_newest_source_needs_no_full_kit(archive, published):
    """Of a series the newest version with a source counts; other series do not."""
    archive.add_kernel(OLD, "6.1.170-3")
    archive.add_kernel("6.1.0-48-cloud-amd64", "6.1.172-1", pieces=("image", "source"))
    archive.add_kernel(NEW, "6.1.192-2", pieces=("image",))
    archive.add_kernel("6.12.107+deb12-cloud-amd64", "6.12.107-1~deb12u1")
    published()
    assert store.newest_source("6.1") == "6.1.172-1"
    assert store.is_newer("6.1.172-1", "6.1.170-3")
    assert not store.is_newer("6.1.170-3", "6.1.170-3")
    with pytest.raises(SourceError, match=r"6\.9"):
        store.newest_source("6.9")
