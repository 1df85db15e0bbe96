"""What distributions say of their packages: the Debian security tracker's JSON, or OSV records.

- the tracker's data/json: package → CVE → ``releases`` → release → ``status``, ``fixed_version``;
- OSV (https://ossf.github.io/osv-schema/): one record, a list, a folder or a .zip of records.
"""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kmend.audit.check import Advisory
from kmend.kit.errors import InputError
from kmend.linux.releases import of_osv, of_tracker
from kmend.model.fix import CVE_ID

_LIMIT = 512 << 20
_HINT = "Give the Debian security tracker's data/json, or OSV records (a .json, a folder or a .zip of them)."


def read(path: Path) -> Mapping[str, tuple[Advisory, ...]]:
    """The advisories of a file or folder, by package.

    Raises:
        InputError: It cannot be read, or is none of the formats.
    """
    found: dict[str, list[Advisory]] = defaultdict(list)
    try:
        for text in _texts(path):
            for advisory in _parse(json.loads(text)):
                found[advisory.package].append(advisory)
    except (OSError, ValueError, zipfile.BadZipFile, RecursionError) as error:
        raise InputError(f"The advisories {path} cannot be read: {error}", hint=_HINT) from None
    if not found:
        raise InputError(f"{path} holds no advisory.", hint=_HINT)
    return {package: tuple(all_of) for package, all_of in found.items()}


def _texts(path: Path) -> Iterator[bytes]:
    if path.is_dir():
        for file in sorted(path.glob("**/*.json")):
            yield file.read_bytes()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".json")]
            if sum(entry.file_size for entry in entries) > _LIMIT:
                raise ValueError("it unpacks to more than 512 MiB")
            for entry in entries:
                yield archive.read(entry)
    else:
        yield path.read_bytes()


def _parse(content: Any) -> Iterator[Advisory]:
    """Whatever is not as the formats say is left out: a file of others may hold more than we know."""
    records = content if isinstance(content, list) else [content]
    for record in records:
        if not isinstance(record, dict):
            continue
        if isinstance(record.get("affected"), list):
            yield from _of_osv(record)
        else:
            yield from _of_tracker(record)


def _of_tracker(packages: dict[str, Any]) -> Iterator[Advisory]:
    for package, cves in packages.items():
        for cve, said in cves.items() if isinstance(cves, dict) else ():
            releases = said.get("releases") if isinstance(said, dict) else None
            for release, state in releases.items() if isinstance(releases, dict) else ():
                # "undetermined" says nothing, so it is left out.
                if (
                    isinstance(state, dict)
                    and state.get("status") in {"open", "resolved"}
                    and CVE_ID.fullmatch(cve)
                ):
                    fixed = str(state.get("fixed_version") or "") if state.get("status") == "resolved" else ""
                    yield Advisory(cve, package, of_tracker(release), fixed)


def _of_osv(record: dict[str, Any]) -> Iterator[Advisory]:
    names = [record.get("id"), *_list(record, "upstream"), *_list(record, "aliases"), *_list(record, "related")]
    cves = {found for name in names for found in CVE_ID.findall(str(name))}
    for affected in _list(record, "affected"):
        package = affected.get("package") if isinstance(affected, dict) else None
        if not isinstance(package, dict):
            continue
        release = of_osv(str(package.get("ecosystem", "")))
        for cve in sorted(cves):
            yield Advisory(cve, str(package.get("name", "")), release, _fixed(affected))


def _fixed(affected: dict[str, Any]) -> str:
    """The version that closes the last range; empty when a range stays open."""
    events = [
        event
        for one in _list(affected, "ranges")
        if isinstance(one, dict) and one.get("type") != "GIT"
        for event in _list(one, "events")
        if isinstance(event, dict)
    ]
    fixed = [str(event["fixed"]) for event in events if "fixed" in event]
    return fixed[-1] if fixed else ""


def _list(record: dict[str, Any], name: str) -> list[Any]:
    found = record.get(name)
    return found if isinstance(found, list) else []
