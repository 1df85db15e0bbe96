"""Which CVEs a package version closed, by advisories: OSV records, or the Debian security tracker's JSON.

A changelog is written when the package is made; that an old change closed a CVE is often found out later. The two
kinds of files know that:

- OSV (https://ossf.github.io/osv-schema/): one record, or a folder or .zip of records, as osv.dev exports them;
- the Debian security tracker's data/json: package → CVE → release → ``fixed_version``.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kmend.kit.errors import InputError, SourceError
from kmend.linux.releases import is_of, of_osv, of_tracker
from kmend.linux.versions import series_of
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


class Standing(NamedTuple):
    """What advisories say of one version of a package."""

    closed: Mapping[str, str]
    """CVE → version that closed it."""
    still_open: Mapping[str, str]
    """CVE → the later version that closes it; empty for none yet."""


class _Said(NamedTuple):
    """What one advisory says of one CVE in one of the packages, of one release."""

    cve: str
    release: str
    """ID and VERSION_ID of os-release(5)."""
    fixed: str
    """Empty for none yet; ``0``: never affected."""
    title: str


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
    for one in _all(path, _PACKAGES):
        own = _is_of_series(one.fixed, series)
        if own and compare(one.fixed, older) > 0 and compare(one.fixed, newer) <= 0:
            found.setdefault(one.cve, Closed(one.cve, one.fixed, one.title))
    return tuple(found[cve] for cve in sorted(found))


def standing(
    path: Path, *, packages: Collection[str], distribution: str, version: str, compare: Callable[[str, str], int]
) -> Standing:
    """What a file of advisories says of a version of the kernel's package.

    Args:
        path: A file or folder of either kind.
        packages: What the package is called, and its source.
        distribution: ``ubuntu 22.04``; what is said of other releases does not count.
        version: Of the package. A fix in another series says nothing of it.
        compare: Which of two versions is the newer: above 0 the first, below 0 the other.

    Raises:
        InputError: It is neither, or not as the format says.
        SourceError: The archive is damaged.
    """
    series = series_of(_without_epoch(version))
    names = frozenset(one.lower() for one in packages)
    done: dict[str, str] = {}
    still_open: dict[str, str] = {}
    for one in _all(path, names):
        if not is_of(one.release, distribution):
            continue
        if not one.fixed:
            still_open.setdefault(one.cve, "")
        elif _is_of_series(one.fixed, series):
            there = compare(version, one.fixed) >= 0
            (done if there else still_open)[one.cve] = one.fixed
    return Standing(done, {cve: later for cve, later in still_open.items() if cve not in done})


def _is_of_series(version: str, series: str) -> bool:
    return _without_epoch(version).startswith((f"{series}.", f"{series}-"))


def _without_epoch(version: str) -> str:
    return version.rpartition(":")[2]


def _all(path: Path, names: frozenset[str]) -> Iterator[_Said]:
    if path.is_dir():
        files = sorted(path.rglob("*.json"))
        if not files:
            raise InputError(f"{path} holds no .json.", hint=_HINT)
        for file in files:
            yield from _of(_read(file), names, str(file))
    elif not path.is_file():
        raise InputError(f"There are no advisories at {path}.", hint=_HINT)
    elif zipfile.is_zipfile(path):
        yield from _of_zip(path, names)
    else:
        yield from _of(_read(path), names, str(path))


def _read(path: Path) -> bytes:
    if path.stat().st_size > _SIZE_LIMIT:
        raise InputError(f"{path} is larger than {_SIZE_LIMIT >> 20} MiB.")
    return path.read_bytes()


def _of_zip(path: Path, names: frozenset[str]) -> Iterator[_Said]:
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".json") and info.file_size <= _SIZE_LIMIT:
                    yield from _of(archive.read(info), names, f"{path}: {info.filename}")
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise SourceError(f"The archive {path} cannot be read: {error}", hint=_HINT) from None


def _of(content: bytes, names: frozenset[str], what: str) -> Iterator[_Said]:
    try:
        data = dict(json.loads(content))
        if "affected" in data or "schema_version" in data:
            yield from _of_osv(data, names)
        elif "linux" in names:
            yield from _of_tracker(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{what} cannot be used: {reason}.", hint=_HINT) from None


def _of_osv(record: dict[str, Any], names: frozenset[str]) -> Iterator[_Said]:
    called = (record["id"], *record.get("aliases", ()), *record.get("upstream", ()))
    cves = sorted({cve for name in called for cve in CVE_ID.findall(str(name))})
    title = str(record.get("summary") or "").strip()
    for part in record.get("affected", ()):
        package = part.get("package", {})
        if str(package.get("name", "")).lower() not in names:
            continue
        release = of_osv(str(package.get("ecosystem", "")))
        spans = [span for span in part.get("ranges", ()) if span["type"] != "GIT"]
        fixed = [str(event["fixed"]) for span in spans for event in span["events"] if "fixed" in event]
        for version in fixed or ([""] if spans else []):
            yield from (_Said(cve, release, version, title) for cve in cves)


def _of_tracker(packages: dict[str, Any]) -> Iterator[_Said]:
    if "linux" not in packages:
        raise ValueError("it is no OSV record, and as a tracker's file it has no package linux")
    for cve, one in packages["linux"].items():
        for codename, said in one.get("releases", {}).items():
            if CVE_ID.fullmatch(cve) and said.get("status") in {"resolved", "open"}:
                fixed = str(said["fixed_version"]) if said["status"] == "resolved" else ""
                yield _Said(cve, of_tracker(codename), fixed, "")
