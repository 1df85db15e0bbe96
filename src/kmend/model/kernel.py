"""Kernel, Kit, and what a distribution offers of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One exact kernel build.

    ``build_id`` is the GNU build id as lower-case hex (the identity, as in /sys/kernel/notes);
    ``release`` is what ``uname -r`` says (a label); ``version`` is the package version.
    """

    release: str
    version: str
    build_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """Everything needed to build for one Kernel, unpacked in ``folder`` and read-only for everybody."""

    kernel: Kernel
    folder: Path
    image: Path
    """Bootable image (bzImage)."""
    modules: Path
    """The folder ``lib/modules/RELEASE`` with the modules as the host loads them."""
    vmlinux: Path
    """Linked kernel with symbols and DWARF."""
    debug_modules: Path
    """The folder with every module unstripped, in the same layout as ``modules``."""
    source: Path
    """Source tree with the distribution's changes applied; never written to."""
    config: Path
    headers: Path
    """The distribution's arch-specific header folder (generated headers, Module.symvers)."""
    symvers: Path
    """Module.symvers: CRC of every exported symbol."""
    compiler: str
    """First line of what the kernel says of its compiler, e.g. ``gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package file that a distribution offers."""

    name: str
    version: str
    size: int
    """Bytes to download."""
    unpacked: int
    """Bytes on the disk once unpacked; an estimate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedKernel:
    """One kernel that a distribution offers now, and whether a full Kit of it can be had."""

    release: str
    version: str
    series: str
    """E.g. ``6.1``: kernels of one series differ by fixes only."""
    flavour: str
    """E.g. ``cloud-amd64``."""
    packages: tuple[Package, ...]
    """What a Kit is unpacked from, without the source."""
    source: Package | None
    """The package with the source tree; kernels of one version share it."""
    missing: tuple[str, ...]
    """Names of the packages that a Kit would need but that are not offered in this version."""

    @property
    def complete(self) -> bool:
        """Whether a full Kit can be had."""
        return not self.missing

    @property
    def size(self) -> int:
        """Bytes to download for a full Kit, the source included."""
        return sum(package.size for package in (*self.packages, self.source) if package is not None)
