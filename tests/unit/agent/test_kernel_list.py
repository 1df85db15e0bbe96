"""The signed list of the kernel's files, and what a look makes of it: mitigations go when their CVE is closed."""

import shutil

import pytest

from kmend.agent.kernel_list import kernel_list
from kmend.agent.settings import Settings, UpdatePolicy
from kmend.cli.agent.look import _look
from kmend.exposure import dropins
from kmend.exposure.dropins import Mitigation
from kmend.kit.progress import Silent
from kmend.model import wire
from kmend.model.exposure import KernelFiles
from kmend.release import publish
from makers.exposures import cve, write_cna
from makers.nouns import KERNEL, NOW, OTHER_KERNEL, make_built

FILES = KernelFiles(kernel=KERNEL, objects={"net/tipc/socket.c": ("tipc",)}, sources={"net/tipc": ("socket.c",)})


@pytest.fixture
def signed(made, tmp_path):
    """The repository has a livepatch, and the list with it."""
    file = tmp_path / "files.json"
    file.write_text(wire.dump(FILES))
    make_built(tmp_path / "built", 2)
    options = {"repo": made.repo, "keys": made.keys, "now": made.now, "progress": Silent()}
    publish.publish(tmp_path / "built", channel="edge", kernel_files=file, **options)
    return made


def test_the_list_is_fetched_and_kept(machine, signed):
    """It outlives the repository, but not its kernel."""
    host = machine.host()
    file = kernel_list(host)
    assert wire.load(KernelFiles, file.read_bytes(), what="list") == FILES
    shutil.move(signed.repo, signed.repo.with_name("away"))
    assert kernel_list(host) == file
    file.write_text(wire.dump(KernelFiles(kernel=OTHER_KERNEL, objects={}, sources={})))
    assert kernel_list(host) is None


def test_without_a_signed_list_there_is_none(machine):
    """Not an empty one, by which every CVE would be in code that the kernel does not contain."""
    assert kernel_list(machine.host()) is None


def test_a_list_that_was_changed_is_not_taken(machine, signed):
    """The signature is over its hash."""
    (stored,) = signed.repo.rglob("*.kernel-files.json")
    stored.write_text(stored.read_text().replace("tipc", "nope"))
    assert kernel_list(machine.host()) is None


def test_who_may_not_ask_takes_what_was_kept(machine, signed):
    """By settings, or switched off."""
    assert signed
    assert kernel_list(machine.host(settings=Settings(update_policy=UpdatePolicy.LOCAL))) is None
    machine.host().paths.switch.touch()
    assert kernel_list(machine.host()) is None
    machine.host().paths.switch.unlink()
    assert kernel_list(machine.host()) is not None


def test_a_look_takes_out_the_mitigations_of_closed_cves(machine, signed, tmp_path):
    """Those of CVEs that are open, or that nobody knows, stay; the look says what it took out."""
    assert signed
    records = write_cna(tmp_path / "vulns", cve(1000), cve(1001))
    record = records / "cve/published/2026/CVE-2026-1001.json"
    record.write_text(record.read_text().replace("6.1.178", "6.1.100"))
    for name in ("CVE-2026-1000", "CVE-2026-1001", "CVE-2026-1002"):
        one = Mitigation(
            cve=name, title="t", file=dropins.MODPROBE.format(cve=name), blocks=("tipc",), created=NOW
        )
        dropins.write(machine.root, one)
    host = machine.host(settings=Settings(cve_records=str(records), look_audit=False))
    look = _look(host)
    assert look.errors == ()
    assert look.lifted == ("CVE-2026-1001",)
    assert [one.cve for one in dropins.held(machine.root)] == ["CVE-2026-1000", "CVE-2026-1002"]
    assert not any("--kernel-files" in one for one in look.exposure.missing)
