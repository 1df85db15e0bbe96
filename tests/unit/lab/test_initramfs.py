"""The initramfs: its archive format, and modules in an order in which they load."""

import lzma
import subprocess

import pytest

from kmend.kit.errors import InputError
from kmend.lab.initramfs import cpio, link, module_content, module_order, program
from kmend.linux.modules import module_name

DEP = """\
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/net/foo-bar.ko.xz: kernel/drivers/virtio/virtio_ring.ko
"""


@pytest.fixture
def modules(tmp_path):
    """A modules folder with a modules.dep as depmod writes it."""
    (tmp_path / "modules.dep").write_text(DEP)
    return tmp_path


def test_cpio_is_what_cpio_reads(tmp_path):
    """GNU cpio unpacks the archive: files with their bytes and modes, links, and parent folders."""
    archive = cpio({"init": program(b"#!"), "a/b/c.ko": program(b"odd"), "bin/sh": link("busybox")})
    subprocess.run(["cpio", "-i", "--quiet", "-d"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "init").read_bytes() == b"#!"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a/b/c.ko").read_bytes() == b"odd"
    assert (tmp_path / "bin/sh").readlink().name == "busybox"


def test_cpio_is_deterministic():
    """The same files give the same bytes, in whatever order they come."""
    one, two = {"a": program(b"1"), "b": program(b"2")}, {"b": program(b"2"), "a": program(b"1")}
    assert cpio(one) == cpio(two)


def test_module_order(modules):
    """What a module needs comes before it, each once; what this kernel does not have is left out."""
    assert [module_name(file) for file in module_order(modules, ["virtio_pci", "nosuch", "foo-bar"])] == [
        "virtio_ring",
        "virtio",
        "virtio_pci",
        "foo_bar",
    ]


def test_module_order_without_modules_dep(tmp_path):
    """A kit without modules.dep is one clear error."""
    with pytest.raises(InputError, match=r"modules\.dep"):
        module_order(tmp_path, ["virtio"])


def test_module_content(tmp_path):
    """A compressed module goes in unpacked: not every kernel can unpack it."""
    (tmp_path / "a.ko.xz").write_bytes(lzma.compress(b"ELF"))
    (tmp_path / "b.ko").write_bytes(b"ELF")
    assert module_content(tmp_path / "a.ko.xz") == module_content(tmp_path / "b.ko") == b"ELF"
