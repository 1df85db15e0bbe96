"""Kernel and Kit."""

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
    """The folder ``lib/modules/RELEASE`` with the modules as the host loads them, and modules.dep."""
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
