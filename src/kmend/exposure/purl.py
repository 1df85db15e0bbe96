"""Names under which scanners know the kernel's package (package URL, purl)."""

from __future__ import annotations

from urllib.parse import quote

from kmend.model.exposure import Exposure

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def purl(exposure: Exposure) -> str:
    """The package URL of the kernel that runs: of its package, or of the kernel itself when it has none.

    The release that was written for is kept out of it where nothing says which distribution it is.
    """
    name, _, release = exposure.distribution.partition(" ")
    version = exposure.kernel.version or exposure.kernel.release
    if not (exposure.package and name):
        return f"pkg:generic/linux@{quote(version, safe='')}"
    machine = _ARCHITECTURES.get(exposure.architecture, exposure.architecture)
    ask = "&".join(part for part in (f"arch={quote(machine)}" if machine else "", _distro(name, release)) if part)
    where = f"pkg:deb/{quote(name)}/{quote(exposure.package, safe='')}@{quote(version, safe='')}"
    return f"{where}?{ask}" if ask else where


def _distro(name: str, release: str) -> str:
    return f"distro={quote(name)}-{quote(release)}" if release else ""
