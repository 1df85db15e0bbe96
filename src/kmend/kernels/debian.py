"""Debian as a provider of kernel kits (see kernels/provider.py for what that means).

A kit is made from five packages of one version: the image (signed, or ``-unsigned``), its ``-dbg``, the headers of
the flavour, the headers common to all flavours, and ``linux-source-SERIES``. Release names come in two forms:
``6.1.0-47-cloud-amd64`` and, for the newer series, ``6.12.107+deb12-cloud-amd64``.

Real-time flavours are compiled from a tree with further changes, which Debian offers in no binary package; they
are listed with that as the missing piece.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cmp_to_key
from pathlib import Path

from debian.debian_support import version_compare

from kmend.kernels import apt
from kmend.kernels.apt import download, file_of, lists_age, renew
from kmend.kernels.provider import Layout
from kmend.kit.errors import InputError, SourceError
from kmend.model.kernel import OfferedKernel, Package

__all__ = [
    "PIECES_HINT",
    "RENEW_HINT",
    "changelog",
    "compare",
    "download",
    "file_of",
    "layout",
    "lists_age",
    "offered",
    "renew",
    "source_archive",
    "source_package",
    "unpack_command",
]

RENEW_HINT = apt.UPDATE_HINT
PIECES_HINT = (
    "Debian keeps them in the component main of the release and of its security archive. Add both to the apt "
    "sources, then `apt-get update` (as root)."
)

_RELEASE = re.compile(r"(?P<abi>(?P<series>\d+\.\d+)\.\d+[^-]*(?:-\d[^-]*)?)-(?P<flavour>[a-z][a-z0-9-]*)")
_PIECE = re.compile(r"linux-(?:image|headers)-\d.*|linux-source-\d.*")
# A kernel tree takes eleven times the size of its package.
_SOURCE_GROWTH = 12

_Index = dict[tuple[str, str], Package]


def offered() -> tuple[OfferedKernel, ...]:
    """All kernels that the configured apt sources offer now, complete or not, oldest first.

    Raises:
        SourceError: apt knows no kernel at all.
    """
    index = _index(_PIECE)
    found: dict[str, set[str]] = defaultdict(set)
    for name, version in index:
        release = name.removeprefix("linux-image-").removesuffix("-unsigned")
        if name.startswith("linux-image-") and _is_release(release):
            found[release].add(version)
    if not found:
        raise SourceError("apt knows no kernel packages; its package lists are empty.", hint=apt.UPDATE_HINT)
    kernels = [_kernel(release, version, index=index) for release in found for version in found[release]]
    order = cmp_to_key(compare)
    return tuple(sorted(kernels, key=lambda kernel: (order(kernel.version), kernel.flavour, kernel.release)))


def compare(version: str, other: str) -> int:
    """Which version is the newer, as Debian counts (deb-version(7)): above 0 the first, below 0 the other."""
    return int(version_compare(version, other))


def source_package(series: str, version: str) -> Package:
    """The package with the source tree of one version.

    Raises:
        InputError: The configured apt sources do not offer it.
    """
    name = f"linux-source-{series}"
    index = _index(re.compile(re.escape(name)))
    if (name, version) not in index:
        versions = ", ".join(known for _, known in index) or "none"
        raise InputError(
            f"{name} is not offered in version {version} (offered: {versions}).", hint=apt.UPDATE_HINT
        )
    return index[name, version]


def unpack_command(folder: Path) -> tuple[str, ...]:
    """The program that unpacks a .deb, fed to its standard input."""
    return ("dpkg-deb", "--extract", "-", str(folder))


def source_archive(folder: Path) -> Path:
    """The tar archive in an unpacked linux-source package.

    Raises:
        SourceError: It holds none.
    """
    found = sorted((folder / "usr" / "src").glob("linux-source-*.tar.*"))
    if not found:
        raise SourceError(f"The source package unpacked in {folder} holds no usr/src/linux-source-*.tar archive.")
    return found[0]


def changelog(folder: Path) -> Path | None:
    """The changelog in an unpacked linux-source package."""
    return next(iter(sorted((folder / "usr/share/doc").glob("*/changelog*.gz"))), None)


def layout(release: str) -> Layout:
    """Where Debian's packages put the pieces."""
    headers = Path("usr/src") / f"linux-headers-{release}"
    debug = Path("usr/lib/debug")
    return Layout(
        image=Path("boot") / f"vmlinuz-{release}",
        modules=Path("lib/modules") / release,
        vmlinux=debug / "boot" / f"vmlinux-{release}",
        debug_modules=debug / "lib/modules" / release,
        config=Path("boot") / f"config-{release}",
        headers=headers,
        symvers=headers / "Module.symvers",
    )


def _index(wanted: re.Pattern[str]) -> _Index:
    """Packages by name and version."""
    index: _Index = {}
    for stanza in apt.stanzas("linux-", wanted):
        name, version, size = stanza["Package"], stanza["Version"], int(stanza["Size"])
        grown = size * _SOURCE_GROWTH if name.startswith("linux-source-") else 0
        unpacked = grown or int(stanza.get("Installed-Size", "0")) * 1024
        index[name, version] = Package(name=name, version=version, size=size, unpacked=unpacked)
    return index


def _is_release(text: str) -> bool:
    parts = _RELEASE.fullmatch(text)
    return parts is not None and not parts["flavour"].endswith(("-dbg", "-template"))


def _kernel(release: str, version: str, *, index: _Index) -> OfferedKernel:
    parts = _RELEASE.fullmatch(release)
    if parts is None:
        raise SourceError(f"{release} does not read as a Debian kernel release.")
    realtime = parts["flavour"].startswith("rt-")
    signed, source = f"linux-image-{release}", f"linux-source-{parts['series']}"
    names = (
        signed if (signed, version) in index else f"{signed}-unsigned",
        f"{signed}-dbg",
        f"linux-headers-{release}",
        f"linux-headers-{parts['abi']}-common{'-rt' if realtime else ''}",
    )
    missing = [name for name in (*names, source) if (name, version) not in index]
    if realtime:
        missing.append("source with the real-time changes")
    return OfferedKernel(
        release=release,
        version=version,
        series=parts["series"],
        flavour=parts["flavour"],
        packages=tuple(index[name, version] for name in names if (name, version) in index),
        source=None if realtime else index.get((source, version)),
        missing=tuple(missing),
    )
