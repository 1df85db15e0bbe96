"""Which CVEs a package version closed, by advisories: OSV records, or the Debian security tracker's JSON.

A changelog is written when the package is made; that an old change closed a CVE is often found out later. The two
kinds of files know that:

- OSV (https://ossf.github.io/osv-schema/): one record, or a folder or .zip of records, as osv.dev exports them;
- the Debian security tracker's data/json: package → CVE → release → ``fixed_version``.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kmend.kit.errors import InputError, SourceError
from kmend.model.fix import CVE_ID

_PACKAGES = frozenset(("linux", "kernel"))
_SIZE_LIMIT = 512 << 20
_HINT = "Give OSV records (a .json, a folder or a .zip of them), or the Debian security tracker's data/json."


class Closed(NamedTuple):
    """That a version of the kernel's package closed a CVE."""

    cve: str
    version: str
    title: str
    """What the advisory says in one line; may be empty."""


def closed(
    path: Path, *, older: str, newer: str, series: str, compare: Callable[[str, str], int]
) -> tuple[Closed, ...]:
    """The CVEs that a file of advisories says were closed after one version, up to and with another; sorted.

    Args:
        path: A file or folder of either kind.
        older: Version of the kernel that runs.
        newer: Version that closes them.
        series: E.g. ``6.1``; versions of other series are of other releases.
        compare: Which of two versions is the newer: above 0 the first, below 0 the other.

    Raises:
        InputError: It is neither, or not as the format says.
        SourceError: The archive is damaged.
    """
    found: dict[str, Closed] = {}
    for one in _all(path):
        own = one.version.startswith((f"{series}.", f"{series}-"))
        if own and compare(one.version, older) > 0 and compare(one.version, newer) <= 0:
            found.setdefault(one.cve, one)
    return tuple(found[cve] for cve in sorted(found))


def _all(path: Path) -> Iterator[Closed]:
    if path.is_dir():
        files = sorted(path.rglob("*.json"))
        if not files:
            raise InputError(f"{path} holds no .json.", hint=_HINT)
        for file in files:
            yield from _of(_read(file), str(file))
    elif not path.is_file():
        raise InputError(f"There are no advisories at {path}.", hint=_HINT)
    elif zipfile.is_zipfile(path):
        yield from _of_zip(path)
    else:
        yield from _of(_read(path), str(path))


def _read(path: Path) -> bytes:
    if path.stat().st_size > _SIZE_LIMIT:
        raise InputError(f"{path} is larger than {_SIZE_LIMIT >> 20} MiB.")
    return path.read_bytes()


def _of_zip(path: Path) -> Iterator[Closed]:
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".json") and info.file_size <= _SIZE_LIMIT:
                    yield from _of(archive.read(info), f"{path}: {info.filename}")
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise SourceError(f"The archive {path} cannot be read: {error}", hint=_HINT) from None


def _of(content: bytes, what: str) -> Iterator[Closed]:
    try:
        data = dict(json.loads(content))
        yield from _of_osv(data) if "affected" in data or "schema_version" in data else _of_tracker(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{what} cannot be used: {reason}.", hint=_HINT) from None


def _of_osv(record: dict[str, Any]) -> Iterator[Closed]:
    names = (record["id"], *record.get("aliases", ()), *record.get("upstream", ()))
    cves = sorted({cve for name in names for cve in CVE_ID.findall(str(name))})
    title = str(record.get("summary") or "").strip()
    for part in record.get("affected", ()):
        package = part.get("package", {})
        if str(package.get("name", "")).lower() not in _PACKAGES:
            continue
        events = [event for span in part.get("ranges", ()) if span["type"] != "GIT" for event in span["events"]]
        for version in (str(event["fixed"]) for event in events if "fixed" in event):
            yield from (Closed(cve, version, title) for cve in cves)


def _of_tracker(packages: dict[str, Any]) -> Iterator[Closed]:
    if "linux" not in packages:
        raise ValueError("it is no OSV record, and as a tracker's file it has no package linux")
    for cve, one in packages["linux"].items():
        for release in one.get("releases", {}).values():
            if CVE_ID.fullmatch(cve) and release.get("status") == "resolved":
                yield Closed(cve, str(release["fixed_version"]), "")
