"""Installed packages: dpkg's status files and apk's database, of a host or of an image's layers."""

from __future__ import annotations

import re
import sys

from kmend.linux.facts.look import Look
from kmend.model.facts import Package

STATUS = "var/lib/dpkg/status"
STATUS_FOLDER = "var/lib/dpkg/status.d"
"""Images without dpkg (distroless) have one file a package here."""
APK = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
RPM = (
    "var/lib/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages",
    "var/lib/rpm/Packages.db",
)
LIMIT = 32 << 20
_FIELD = re.compile(rb"^(Package|Status|Version|Source): (.*)$", re.MULTILINE)
_SOURCE = re.compile(r"(\S+)(?: \((.*)\))?")
_INSTALLED = b" installed"


def packages(look: Look) -> tuple[Package, ...] | None:
    """All packages of a host; None, with a note, where no database is known."""
    content = look.read(STATUS, limit=LIMIT)
    if content is not None:
        return dpkg(content)
    for path in APK:
        content = look.read(path, limit=LIMIT)
        if content is not None:
            return apk(content)
    kind = "an rpm database, which is not read" if any(look.stat(path) for path in RPM) else "no package database"
    look.miss("packages", f"there is {kind}")
    return None


def dpkg(content: bytes, *, complete: bool = True) -> tuple[Package, ...]:
    """The installed ones of a dpkg status file; deb822(5).

    Args:
        content: The file.
        complete: Only those with a status that says so; False for status.d, which has no such line.
    """
    found = []
    for paragraph in content.split(b"\n\n"):
        fields = dict(_FIELD.findall(paragraph))
        if b"Package" in fields and b"Version" in fields:
            if complete and not fields.get(b"Status", b"").endswith(_INSTALLED):
                continue
            name, version = _word(fields[b"Package"]), _word(fields[b"Version"])
            source = _SOURCE.match(_word(fields.get(b"Source", b"")))
            found.append(
                Package(
                    name=name,
                    version=version,
                    source=source[1] if source else name,
                    source_version=(source[2] if source else "") or version,
                    origin="deb",
                )
            )
    return tuple(found)


def apk(content: bytes) -> tuple[Package, ...]:
    """The installed ones of Alpine's database: a paragraph each; P is the name, V the version, o the origin."""
    found = []
    for paragraph in content.decode(errors="replace").split("\n\n"):
        fields = {line[0]: line[2:] for line in paragraph.splitlines() if line[1:2] == ":"}
        if "P" in fields and "V" in fields:
            name, version = sys.intern(fields["P"]), sys.intern(fields["V"])
            source = fields.get("o", name)
            found.append(Package(name=name, version=version, source=source, source_version=version, origin="apk"))
    return tuple(found)


def _word(value: bytes) -> str:
    """Text that is kept once, however many images hold it."""
    return sys.intern(value.decode(errors="replace").strip())
