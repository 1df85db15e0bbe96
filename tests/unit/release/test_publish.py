"""What may be published, and that a kill at any moment leaves the old state or the new one."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest

from kmend.kit.errors import BusyError, InputError, TrustError
from kmend.kit.progress import Silent
from kmend.model import wire
from kmend.model.exposure import KernelFiles
from kmend.model.lab import LabStep
from kmend.release import publish
from kmend.release.module_signature import load_module_signer
from kmend.release.publish import Built, reasons_against
from kmend.release.repository import writing
from kmend.release.status import release_status
from kmend.trust.repository import fetch, open_repository
from makers.nouns import KERNEL, OTHER_KERNEL, make_built, make_livepatch, make_report, module_bytes
from makers.repository import SimulatedRepository, flip_bit

FAILED = LabStep(name="probe-after", passed=False, seconds=1.0, detail="still vulnerable")


@pytest.fixture
def made(tmp_path, empty_template):
    """An empty repository."""
    return SimulatedRepository(tmp_path, template=empty_template)


def served(made, channel="edge", kernel=KERNEL, cache="seen"):
    """What a host would get."""
    return fetch(str(made.repo), channel=channel, kernel=kernel, pinned_root=made.root, cache=made.folder / cache)


def built(**changes):
    """What the builder and the lab left, in memory."""
    livepatch = make_livepatch(3)
    parts = {
        "livepatch": livepatch,
        "report": make_report(livepatch),
        "report_text": b"",
        "module": module_bytes(3),
    }
    return Built(**(parts | changes))


def test_nothing_speaks_against_a_passing_livepatch():
    """Module, manifest and report belong together and the lab passed it."""
    assert reasons_against(built()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"module": module_bytes(4)}, "not the module that livepatch.json describes"),
        ({"report": make_report(make_livepatch(3), passed=False)}, "did not pass it: load: kernel panic"),
        ({"report": make_report(make_livepatch(3), steps=(FAILED,))}, "not its steps probe-after"),
        ({"report": make_report(make_livepatch(3), sha256="1" * 64)}, "another module file"),
        ({"report": make_report(make_livepatch(2, module=module_bytes(3)))}, "about livepatch 2, not 3"),
        ({"report": make_report(make_livepatch(3, kernel=OTHER_KERNEL))}, "another kernel"),
    ],
)
def test_what_speaks_against_publishing(change, words):
    """Each way in which module, manifest and lab report can fail to belong together is named."""
    (reason,) = reasons_against(built(**change))
    assert words in reason


@pytest.mark.parametrize("name", ["livepatch.ko", "livepatch.json", "labreport.json"])
def test_a_missing_file(made, name):
    """The message names the file and the command that makes it."""
    folder = made.folder / "built"
    make_built(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=name):
        publish.publish(folder, repo=made.repo, keys=made.keys, channel="edge", now=made.now, progress=Silent())
    assert served(made) is None


def test_a_failed_lab_publishes_nothing(made):
    """Without a passing report the repository stays as it was."""
    folder = made.folder / "built"
    make_built(folder, passed=False)
    before = made.path("timestamp").read_bytes()
    with pytest.raises(InputError, match="did not pass"):
        publish.publish(folder, repo=made.repo, keys=made.keys, channel="edge", now=made.now, progress=Silent())
    assert made.path("timestamp").read_bytes() == before


def test_numbers_only_rise(made):
    """The same number again, or a lower one, is refused for this kernel; another kernel counts for itself."""
    made.publish(2)
    for number in (1, 2):
        with pytest.raises(InputError, match="already offers livepatch 2"):
            made.publish(number)
    made.publish(1, kernel=OTHER_KERNEL)
    assert served(made).livepatch.number == 2
    assert served(made, kernel=OTHER_KERNEL).livepatch.number == 1


def test_promote_takes_the_same_bytes(made):
    """Stable serves what edge serves, only when it is promoted, and only upward."""
    made.publish(1)
    made.publish(2)
    assert served(made, "stable") is None
    options = {"source": "edge", "to": "stable", "repo": made.repo, "keys": made.keys, "now": made.now}
    publish.promote(KERNEL.release, **options, progress=Silent(), number=1)
    assert served(made, "stable").livepatch.number == 1
    publish.promote(KERNEL.build_id, **options, progress=Silent())
    assert served(made, "stable").content == served(made, "edge").content
    with pytest.raises(InputError, match="already offers"):
        publish.promote(KERNEL.release, **options, progress=Silent(), number=1)
    with pytest.raises(InputError, match="no livepatch"):
        publish.promote("5.10.0-1-amd64", **options, progress=Silent())


def test_an_unknown_channel(made):
    """A channel without a key cannot be published to."""
    with pytest.raises(InputError, match="no channel 'nightly'"):
        made.publish(1, channel="nightly")


def test_publishing_on_top_of_a_tampered_repository(made):
    """What somebody else wrote is not signed again."""
    made.publish(1)
    made.resign("edge", key="stranger")
    with pytest.raises(TrustError):
        made.publish(2)


def test_promoting_a_tampered_module(made):
    """The module is compared with its signed hash before it is signed for another channel."""
    made.publish(1)
    flip_bit(made.module_path())
    with pytest.raises(InputError, match="not the file that was signed"):
        publish.promote(
            KERNEL.release,
            source="edge",
            to="stable",
            repo=made.repo,
            keys=made.keys,
            now=made.now,
            progress=Silent(),
        )


def test_two_releases_do_not_race(made):
    """While one release writes, another one is refused."""
    with writing(made.repo), pytest.raises(BusyError):
        made.publish(1)


def test_refresh_renews_only_what_is_due(made):
    """Freshly signed: nothing. After five days: the timestamp. After 80: everything below root."""
    assert made.refresh() == set()
    assert made.refresh(days=5) == {"timestamp", "snapshot"}
    assert made.refresh(days=80) == {"timestamp", "snapshot", "targets", "edge", "stable"}


def test_status_tells_what_is_offered_and_what_expires(made):
    """Each channel and kernel is listed; half-over lifetimes are marked."""
    made.publish(1)
    status = release_status(made.repo, made.keys, now=made.now)
    (offer,) = status.offers
    assert (offer.channel, offer.build_id, offer.number) == ("edge", KERNEL.build_id, 1)
    assert not any(role.due for role in status.roles)
    later = release_status(made.repo, made.keys, now=made.now + timedelta(days=6))
    assert {role.role for role in later.roles if role.due} == {"timestamp"}
    assert json.loads(json.dumps(wire.plain(later)))


KILLED_AT = """
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
import kmend.kit.files, kmend.release.repository
from kmend.release import publish
from kmend.kit.progress import Silent

count = 0
real = kmend.release.repository.write_atomic

def write(path, content, **options):
    global count
    count += 1
    if count == int(sys.argv[4]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(".half").write_bytes(b"half a file")
        print("waiting", flush=True)
        time.sleep(60)
    real(path, content, **options)

kmend.release.repository.write_atomic = write
publish.publish(Path(sys.argv[1]), repo=Path(sys.argv[2]), keys=Path(sys.argv[3]), channel="edge",
                now=datetime.now(timezone.utc), progress=Silent())
print("done", flush=True)
"""


@pytest.mark.parametrize("write", [1, 4, 5, 6, 7])
def test_killed_while_publishing(made, write):
    """Before the last write hosts see the old state; after a kill the next publish goes through."""
    made.publish(1)
    folder = made.folder / "next"
    make_built(folder, 2)
    words = [sys.executable, "-c", KILLED_AT, folder, made.repo, made.keys, str(write)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        said = child.stdout.readline().strip()
        os.kill(child.pid, signal.SIGKILL)
    assert said == "waiting"
    assert served(made).livepatch.number == 1
    made.publish(2)
    assert served(made).livepatch.number == 2
    assert not list(made.repo.glob(".kmend-*"))


def test_signing_is_deterministic(made):
    """The same module signed twice gives the same bytes."""
    signer = load_module_signer(made.keys)
    assert signer.sign(module_bytes(1)) == signer.sign(module_bytes(1))


def test_what_does_not_read_back_is_not_published(made, monkeypatch):
    """When a host could not read the new state, hosts keep seeing the old one."""
    made.publish(1)
    before = made.path("timestamp").read_bytes()

    def unreadable(*args, **options):
        raise TrustError("cannot be read back")

    monkeypatch.setattr("kmend.release.publish.open_repository", unreadable)
    with pytest.raises(TrustError):
        made.publish(2)
    monkeypatch.undo()
    assert made.path("timestamp").read_bytes() == before
    assert served(made).livepatch.number == 1
    assert not list(made.repo.glob(".kmend-*"))


def test_a_change_of_keys_cut_short(made):
    """Between the new timestamp and the new root hosts read on, and the next refresh completes it."""
    made.publish(1)
    made.rotate("timestamp")
    made.refresh()
    (made.repo / "metadata/2.root.json").unlink()
    assert served(made).livepatch.number == 1
    assert made.refresh()
    assert served(made).livepatch.number == 1
    assert (made.repo / "metadata/2.root.json").exists()


def test_the_kernel_s_files_go_along(made):
    """Signed with the channel, carried by a promotion, read by hosts of that kernel; another kernel is refused."""
    files = made.folder / "files.json"
    list_of = KernelFiles(kernel=KERNEL, objects={"a.c": ("vmlinux",)}, sources={".": ("a.c",)})
    files.write_text(wire.dump(list_of))
    make_built(made.folder / "built", 1)
    options = {"repo": made.repo, "keys": made.keys, "now": made.now, "progress": Silent()}
    publish.publish(made.folder / "built", channel="edge", kernel_files=files, **options)
    publish.promote(KERNEL.release, source="edge", to="stable", **options)
    for channel in ("edge", "stable"):
        view = open_repository(
            str(made.repo), channel=channel, pinned_root=made.root, cache=made.folder / f"see-{channel}"
        )
        assert view.kernel_files(KERNEL) == files.read_bytes()
        assert view.kernel_files(OTHER_KERNEL) is None
        assert view.fetch(KERNEL).livepatch.number == 1
    files.write_text(wire.dump(replace(list_of, kernel=OTHER_KERNEL)))
    make_built(made.folder / "next", 2)
    with pytest.raises(InputError, match="of another kernel"):
        publish.publish(made.folder / "next", channel="edge", kernel_files=files, **options)
