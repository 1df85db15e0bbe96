"""What one distribution must deliver so that kmend can build for its kernels.

A provider is a module with the functions of :class:`Provider`. ``kernels/debian.py`` is one; another distribution
is one more such file, and a line in ``kernels/bring.py``. What each has to see to:

- **Discover at run time.** Mirrors drop old kernels whenever new ones arrive; nothing is pinned.
- **One exact version.** Image, headers, debug symbols and source must stem from one and the same build. Where the
  source that can be had is not exactly what was compiled, the kernel is reported with what is missing.
- **The distribution's own signature checks.** A provider never switches them off and brings no check of its own.
- **No root, nothing installed.** Packages are downloaded and unpacked into the folders given, and that is all.
- **Resumable.** A download that was cut goes on where it was; what has arrived whole is not fetched again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kmend.kit.progress import Progress
from kmend.model.kernel import OfferedKernel, Package


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the pieces of an unpacked kit lie, relative to its folder; see Kit for what each is."""

    image: Path
    modules: Path
    vmlinux: Path
    debug_modules: Path
    config: Path
    headers: Path
    symvers: Path


class Provider(Protocol):
    """The functions of a provider module."""

    def offered(self) -> tuple[OfferedKernel, ...]:
        """All kernels that the configured sources offer now, complete or not, oldest first within a series.

        Raises:
            SourceError: The package lists are empty.
        """

    def lists_age(self) -> float | None:
        """Seconds since the package lists were brought up to date; None where it cannot be told."""

    def source_package(self, series: str, version: str) -> Package:
        """The package with the source tree of any version offered, whether a full kit of it can be had or not.

        Raises:
            InputError: That version is not offered.
        """

    def download(self, packages: tuple[Package, ...], folder: Path, *, progress: Progress) -> None:
        """Bring package files into a folder, verified; :meth:`file_of` tells their names there.

        Raises:
            SourceError: A mirror does not answer, or no longer has a package. What has arrived is kept.
            TrustError: A signature or hash does not hold.
        """

    def file_of(self, package: Package, folder: Path) -> Path:
        """Where :meth:`download` has put a package.

        Raises:
            SourceError: It is not there.
        """

    def unpack_command(self, folder: Path) -> tuple[str, ...]:
        """The program that unpacks a package file, fed to its standard input, into ``folder``."""

    def source_archive(self, folder: Path) -> Path:
        """The tar archive with the source tree in an unpacked source package."""

    def layout(self, release: str) -> Layout:
        """Where the pieces lie in an unpacked kit."""
