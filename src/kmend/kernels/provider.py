"""What one distribution must deliver so that kmend can build for its kernels.

A provider is a module with everything that :class:`Provider` names. Its file is called as the distribution calls
itself in /etc/os-release: ``ID=debian`` is served by ``kernels/debian.py``. Another distribution is one more such
file and nothing else (docs/howto/kernel-provider.md). What each has to see to:

- **Discover at run time.** Mirrors drop old kernels whenever new ones arrive; nothing is pinned.
- **One exact version.** Image, headers, debug symbols and source must stem from one and the same build. Where the
  source that can be had is not exactly what was compiled, the kernel is reported with what is missing.
- **The distribution's own signature checks.** A provider never switches them off and brings no check of its own.
- **No root, nothing installed.** Packages are downloaded and unpacked into the folders given, and that is all.
- **Resumable.** A download that was cut goes on where it was; what has arrived whole is not fetched again.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, cast

from kmend.kit.errors import BugError, MachineError
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
    """What a provider module holds."""

    RENEW_HINT: str
    """Tells a person how to bring the package lists up to date."""
    PIECES_HINT: str
    """Tells a person which sources have the debug symbols, headers and source trees."""

    def offered(self) -> tuple[OfferedKernel, ...]:
        """All kernels that the configured sources offer now, complete or not, oldest first within a series.

        Raises:
            SourceError: The package lists are empty.
        """

    def lists_age(self) -> float | None:
        """Seconds since the package lists were brought up to date; None where it cannot be told."""

    def renew(self) -> None:
        """Bring the package lists up to date; the distribution may ask for root.

        Raises:
            MachineError: This user may not.
            SourceError: A mirror does not answer; the old lists are still there.
            TrustError: A signature of the lists does not hold.
        """

    def compare(self, version: str, other: str) -> int:
        """Which of two package versions is the newer: above 0 the first, below 0 the other, 0 neither."""

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

    def changelog(self, folder: Path) -> Path | None:
        """The changelog in an unpacked source package, in a form that ``linux/changelog.py`` reads.

        A distribution with another form writes one in ``folder``. It is moved from there.
        """

    def layout(self, release: str) -> Layout:
        """Where the pieces lie in an unpacked kit."""


_MEMBERS = frozenset(name for name in (*vars(Provider), *Provider.__annotations__) if not name.startswith("_"))


@cache
def provider() -> Provider:
    """The provider of this machine's distribution, or of one that it descends from.

    Raises:
        MachineError: There is none.
    """
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    for name in distributions(system):
        if importlib.util.find_spec(f"kmend.kernels.{name}"):
            return load_provider(name)
    named = system.get("PRETTY_NAME", "it does not say which it is")
    raise MachineError(
        f"There are no kernel kits for this distribution: {named}.",
        hint="docs/howto/kernel-provider.md says how to add one.",
    )


def distributions(system: Mapping[str, str]) -> tuple[str, ...]:
    """Module names to look for, the best first: ID and ID_LIKE of os-release(5)."""
    names = [system.get("ID", ""), *system.get("ID_LIKE", "").split()]
    modules = (name.replace("-", "_").replace(".", "_") for name in names)
    return tuple(dict.fromkeys(name for name in modules if name.isidentifier()))


def load_provider(name: str) -> Provider:
    """The provider module of that name, with all that it must hold.

    Raises:
        BugError: Something is missing.
    """
    module = importlib.import_module(f"kmend.kernels.{name}")
    missing = sorted(_MEMBERS - vars(module).keys())
    if missing:
        raise BugError(
            f"{module.__file__} is no kernel provider: it lacks {', '.join(missing)}.",
            hint="docs/howto/kernel-provider.md says what each is.",
        )
    return cast("Provider", module)
