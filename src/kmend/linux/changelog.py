"""The changelog of Debian's kernel packages: which CVEs a version closed.

Each line of work is an item that begins with ``*``, ``-`` or ``+``, holds the subject of the upstream commit, may
run over several lines, and ends with the CVEs that it closes in parentheses::

    linux (6.1.192-1) bookworm-security; urgency=high

      * New upstream stable update:
        https://www.kernel.org/pub/linux/kernel/v6.x/ChangeLog-6.1.191
        - io_uring/io-wq: don't hide a link from cancellations (CVE-2026-99255)
        - [arm64] apparmor: fix out-of-bounds write when null terminating a
          label vec (CVE-2026-89761)
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kmend.kit.errors import InputError
from kmend.model.fix import CVE_ID

_HEADER = re.compile(r"(?P<source>[a-z0-9][a-z0-9+.-]*) \((?P<version>[^)\s]+)\)")
_ITEM = re.compile(r"\s+[*+-] (?P<text>.*)")
# An empty line, a person's name, the address of an upstream changelog, the line with author and date.
_ENDS_ITEM = re.compile(r"\s*$|\s+\[ |\s+https?://|\S| --")
_SIGNED = re.compile(r"Sign kernel from \S+ (?P<version>\S+)")
_REFERENCES = re.compile(r"\s*\((?:XSA-\d+|CVE-\d{4}-\d{4,})(?:,\s*(?:XSA-\d+|CVE-\d{4}-\d{4,}))*\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangelogItem:
    """One line of work in a version."""

    version: str
    subject: str
    """The upstream commit's subject, most times; in brackets in front the architectures that it is limited to."""
    cves: tuple[str, ...]
    """In the order of the changelog; empty for most."""


def read(path: Path) -> tuple[ChangelogItem, ...]:
    """All items of a changelog, newest version first, in the order of the file.

    Args:
        path: ``changelog.Debian.gz`` of a source or header package or ``changelog.gz`` of an image, or the same
            uncompressed. The changelog of a newer package holds the older versions too.

    Raises:
        InputError: It cannot be read, or is no Debian changelog.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode(errors="replace")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"The changelog {path} cannot be read: {error}") from None
    items = tuple(parse(text.splitlines()))
    if not items:
        raise InputError(f"{path} is not a Debian changelog: it has no entries.")
    return items


def parse(lines: Iterable[str]) -> Iterator[ChangelogItem]:
    """The items of a changelog's lines."""
    version, words = "", ""
    for line in [*lines, ""]:
        header, item = _HEADER.match(line), _ITEM.match(line)
        if not (item or header or _ENDS_ITEM.match(line)):
            words += f" {line.strip()}" if words else ""
            continue
        if version and words:
            done = _item(version, words)
            version = done.version
            yield done
        words = item["text"] if item else ""
        version = header["version"] if header else version


def between(items: Sequence[ChangelogItem], older: str, newer: str) -> tuple[ChangelogItem, ...]:
    """What was done after version ``older``, up to and with version ``newer``.

    The order of the changelog decides, not that of the version numbers: a rebuild for an older release
    (``6.12.107-1~deb12u1``) is counted as older than what it was made from.

    Raises:
        InputError: The changelog does not know one of the versions, or ``newer`` is the older of the two.
    """
    versions = list(dict.fromkeys(item.version for item in items))
    for version in (older, newer):
        if version not in versions:
            raise InputError(f"The changelog does not know version {version}; its newest is {versions[0]}.")
    first, end = versions.index(newer), versions.index(older)
    if first > end:
        raise InputError(f"Version {newer} is older than {older}.", hint="Give the older version first.")
    wanted = set(versions[first:end])
    return tuple(item for item in items if item.version in wanted)


def cves_closed(items: Iterable[ChangelogItem]) -> tuple[str, ...]:
    """All CVE ids that items close, each once, sorted by year and number."""
    return tuple(sorted({cve for item in items for cve in item.cves}, key=_year_and_number))


def _item(version: str, words: str) -> ChangelogItem:
    # The image's own changelog says linux-signed-amd64 (6.1.170+3) and then of which version that is.
    signed = _SIGNED.match(words)
    return ChangelogItem(
        version=signed["version"] if signed else version,
        subject=_REFERENCES.sub("", words).strip(),
        cves=tuple(dict.fromkeys(CVE_ID.findall(words))),
    )


def _year_and_number(cve: str) -> tuple[int, int]:
    _, year, number = cve.split("-")
    return int(year), int(number)
