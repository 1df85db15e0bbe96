"""Installed packages: dpkg's status files, apk's and rpm's databases, of a host or of an image's layers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import NamedTuple

from kmend.linux.facts.look import Look
from kmend.linux.facts.rpm import LIMIT as RPM_LIMIT
from kmend.linux.facts.rpm import PATHS as RPM
from kmend.linux.facts.rpm import rpm
from kmend.model.facts import Package

STATUS = "var/lib/dpkg/status"
STATUS_FOLDER = "var/lib/dpkg/status.d"
"""Images without dpkg (distroless) have one file a package here."""
APK = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
LIMIT = 32 << 20
NONE_KNOWN = "there is no package database that is known"
_FIELD = re.compile(rb"^(Package|Status|Version|Source): (.*)$", re.MULTILINE)
_SOURCE = re.compile(r"(\S+)(?: \((.*)\))?")
_INSTALLED = b" installed"


def packages(look: Look) -> tuple[Package, ...] | None:
    """All packages of a host; None, with a note, where no database is known, or none can be read."""
    for path, reader in READERS.items():
        content = look.read(path, limit=reader.limit)
        if content is None:
            continue
        try:
            return reader.parse(content)
        except ValueError as error:
            look.miss("packages", f"{path} cannot be read: {error}")
            return None
    look.miss("packages", NONE_KNOWN)
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


class Reader(NamedTuple):
    """How one kind of database is read."""

    parse: Callable[[bytes], tuple[Package, ...]]
    """Raises ValueError where it is none."""
    limit: int = LIMIT


READERS = {STATUS: Reader(dpkg), **dict.fromkeys(APK, Reader(apk)), **dict.fromkeys(RPM, Reader(rpm, RPM_LIMIT))}
"""Place → how it is read; the first that is there counts."""
