"""Installed kernel packages, as dpkg knows them, and the distribution's wish for a reboot. Reads only."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

from kmend.kit.errors import InputError
from kmend.linux import changelog
from kmend.linux.changelog import ChangelogItem
from kmend.model.kernel import Kernel

_IMAGE = re.compile(r"linux-image-(\d[^\s]*)")
_NAMES = {"x86_64": {"x86", "x86_64", "amd64"}, "aarch64": {"arm64"}}
_TAG = re.compile(r"\[([^\]]+)\] ")
_SENTINELS = ("run/reboot-required", "var/run/reboot-required")
_CHANGELOGS = ("changelog.gz", "changelog.Debian.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledKernel:
    """One installed kernel package."""

    release: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The distribution asks for a reboot (/run/reboot-required)."""

    packages: tuple[str, ...]
    """Who asked; empty when it does not say."""


def installed_kernels(root: Path = Path("/")) -> tuple[InstalledKernel, ...] | None:
    """The kernel packages that are installed and lie in /boot; None where there is no dpkg."""
    try:
        text = (root / "var/lib/dpkg/status").read_text(errors="replace")
    except OSError:
        return None
    found = (_installed(paragraph) for paragraph in text.split("\n\n"))
    return tuple(one for one in found if one and (root / f"boot/vmlinuz-{one.release}").exists())


def _installed(paragraph: str) -> InstalledKernel | None:
    fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if re.match(r"[A-Z][\w-]*: ", line))
    image = _IMAGE.fullmatch(fields.get("Package", ""))
    if image is None or fields.get("Status") != "install ok installed" or "Version" not in fields:
        return None
    return InstalledKernel(release=image[1], version=fields["Version"])


def cves_since(running: Kernel, installed: InstalledKernel, root: Path = Path("/")) -> tuple[str, ...] | None:
    """The CVEs that an installed kernel closes and the running one does not, by its changelog; None: it is older.

    What is marked for other architectures only is left out.

    Raises:
        InputError: The changelog cannot be read, or does not know one of the two versions.
    """
    items = changelog.read(_changelog(installed, root))
    versions = list(dict.fromkeys(item.version for item in items))
    if running.version not in versions and not _older(running, installed, root):
        raise InputError(f"the changelog of linux-image-{installed.release} does not know {running.version}")
    if running.version not in versions:
        return None
    done = changelog.between(items, running.version, installed.version)
    return changelog.cves_closed(item for item in done if _for_this_machine(item))


def _older(running: Kernel, installed: InstalledKernel, root: Path) -> bool:
    """Whether the running kernel's own changelog knows the installed version: then that one is older."""
    try:
        own = changelog.read(_changelog(InstalledKernel(release=running.release, version=running.version), root))
    except InputError:
        return False
    versions = {item.version for item in own}
    return installed.version in versions and running.version in versions


def _changelog(installed: InstalledKernel, root: Path) -> Path:
    folder = root / f"usr/share/doc/linux-image-{installed.release}"
    return next((folder / name for name in _CHANGELOGS if (folder / name).exists()), folder / _CHANGELOGS[0])


def _for_this_machine(item: ChangelogItem) -> bool:
    tag = _TAG.match(item.subject)
    return tag is None or bool(_NAMES.get(platform.machine(), set()) & set(re.split(r"[,\s]+", tag[1])))


def reboot_wish(root: Path = Path("/")) -> Wish | None:
    """The distribution's wish for a reboot; None when there is none. Its files are never touched."""
    for name in _SENTINELS:
        if (root / name).exists():
            return Wish(packages=_lines(root / f"{name}.pkgs"))
    return None


def _lines(path: Path) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(path.read_text(errors="replace").split()))
    except OSError:
        return ()
