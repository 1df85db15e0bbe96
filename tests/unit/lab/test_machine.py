"""QEMU's command line: what the guest gets, and above all what it does not."""

import io
import tarfile
from pathlib import Path

import pytest

from kmend.lab.guests import recipe_hash, tar
from kmend.lab.machine import MachinePlan, boots, qemu_args
from kmend.linux.kernel import note_build_id


def plan(folder=Path("/scratch"), **more):
    """A plan with nothing in it that matters."""
    given = {"image": Path("/image"), "initrd": Path("/initrd"), "accelerator": "tcg", "folder": folder}
    return MachinePlan(**given | more)


def test_nothing_that_was_not_asked_for():
    """No default devices, no monitor, no display, no restart, the sandbox on; without network none at all."""
    line = " ".join(qemu_args(plan(), 5))
    for word in ("-nodefaults", "-no-user-config", "-no-reboot", "-display none", "-monitor none", "spawn=deny"):
        assert word in line
    assert "fd=5" in line
    assert "-netdev" not in line


def test_the_only_way_out():
    """With a forwarded port the network is still closed but for that port; commas in paths are escaped."""
    line = qemu_args(plan(network=True, forward=("/a,b/python", "relay.py", "99")), None)
    network = line[line.index("-netdev") + 1]
    assert network == (
        "user,id=net,restrict=on,ipv6=off,guestfwd=tcp:10.0.2.100:8080-cmd:/a,,b/python relay.py 99"
    )


def test_disks_are_thrown_away():
    """Changes to a writable disk go into a layer that is gone afterwards, unless they are to be kept."""
    disks = ((Path("/root.img"), "raw", True), (Path("/modules.img"), "raw", False))
    drives = [word for word in qemu_args(plan(disks=disks), None) if word.startswith("if=none")]
    assert "snapshot=on" in drives[0]
    assert "readonly=on" in drives[1]
    kept = [word for word in qemu_args(plan(disks=disks, keep_changes=True), None) if word.startswith("if=none")]
    assert "snapshot" not in kept[0]


@pytest.mark.parametrize("accelerator", ["kvm", "tcg"])
def test_accelerator(accelerator):
    """The accelerator is the one that was chosen, with no silent fallback."""
    args = qemu_args(plan(accelerator=accelerator), None)
    assert args[args.index("-accel") + 1].split(",")[0] == accelerator
    assert args.count("-accel") == 1


def test_a_vm_that_cannot_start(tmp_path):
    """A kernel image that is not there is a plain no, not a wait."""
    assert not boots(plan(tmp_path, image=tmp_path / "nosuch"), word="up", timeout=20)


def test_build_id_from_notes():
    """The GNU build id is found among other notes of /sys/kernel/notes."""
    xen = (4).to_bytes(4, "little") + (3).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"Xen\0" + b"6.1\0"
    gnu = (
        (4).to_bytes(4, "little")
        + (4).to_bytes(4, "little")
        + (3).to_bytes(4, "little")
        + b"GNU\0\xde\xad\xbe\xef"
    )
    assert note_build_id(xen + gnu + xen) == "deadbeef"
    assert note_build_id(xen) == ""
    assert note_build_id(b"") == ""


def test_recipe_hash_is_stable():
    """The guest's identity depends on its recipe only."""
    assert recipe_hash() == recipe_hash()
    assert len(bytes.fromhex(recipe_hash())) == 8


def test_tar_owner_and_modes():
    """The guest's extra files belong to root; programs can be run; parent folders and links are there."""
    with tarfile.open(
        fileobj=io.BytesIO(tar({"bin/beat": b"x", "etc/a/b": b"y"}, {"bin/sh": "busybox"}))
    ) as archive:
        members = {member.name: member for member in archive}
    assert members["bin/beat"].mode == 0o755
    assert members["etc/a/b"].mode == 0o644
    assert members["etc/a"].isdir()
    assert members["bin/sh"].linkname == "busybox"
    assert {member.uid for member in members.values()} == {0}
