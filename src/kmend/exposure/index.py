"""All published records at once, quickly: what exposure asks of them is kept in the cache, in one small file.

Reading 14,626 records means reading 130 MB of JSON. What is kept is made anew whenever a file of a clone, or the
archive, is no longer the one that it was made from.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kmend.exposure.records import Affected, CveRecord, Span, each, parse
from kmend.kit.cache import cache_root
from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic
from kmend.kit.progress import Progress
from kmend.model.exposure import Unread

_RECIPE = 1
_KEPT = 4
_HINT = "Give a clone of the kernel CNA's repository (vulns.git), or an archive of it."


class Records(NamedTuple):
    """What could be read of a set of records."""

    records: tuple[CveRecord, ...]
    """Sorted by CVE id, without ``text`` and ``repairs``."""
    unread: tuple[Unread, ...]
    """Those that do not follow the format."""
    state: str
    """Changes whenever a record does: 16 hex digits."""


def read_all(path: Path, *, progress: Progress) -> Records:
    """Every published record; one that is damaged is named and does no harm to the others.

    Raises:
        InputError: The path holds no records.
        SourceError: The archive is damaged.
    """
    state = _state(path)
    place = cache_root() / "records" / f"index-{state}.json"
    with _no_collection():
        known = _kept(place, state)
        if known is not None:
            return known
        progress.step("Reading the CVE records")
        found = _read(path, state)
    if not found.records and not found.unread:
        raise InputError(f"{path} holds no published CVE record.", hint=_HINT)
    write_atomic(place, _dump(found))
    _forget_old(place.parent)
    return found


@contextmanager
def _no_collection() -> Iterator[None]:
    """No search for cycles meanwhile: half a million new objects and none to be found, at five times the price."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _read(path: Path, state: str) -> Records:
    records, unread = [], []
    for cve, content in each(path):
        try:
            records.append(parse(content, cve=cve))
        except InputError as error:
            unread.append(Unread(cve=cve, why=error.message))
    records.sort(key=lambda one: one.cve)
    return Records(records=tuple(records), unread=tuple(sorted(unread, key=lambda one: one.cve)), state=state)


def _state(path: Path) -> str:
    """A name for the content: names, sizes and times of all files that matter."""
    digest = hashlib.sha256(f"{_RECIPE}\n{path.resolve()}".encode())
    for line in _listing(path):
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _listing(path: Path) -> Iterator[str]:
    if path.is_dir():
        published = path / "cve" / "published"
        years = sorted(published.iterdir()) if published.is_dir() else []
        for year in years:
            with os.scandir(year) as entries:
                stats = sorted((one.name, one.stat()) for one in entries if one.name.endswith(".json"))
            yield from (f"{year.name}/{name} {one.st_size} {one.st_mtime_ns}\n" for name, one in stats)
    elif path.exists():
        one = path.stat()
        yield f"{one.st_size} {one.st_mtime_ns}"


def _kept(place: Path, state: str) -> Records | None:
    """What was kept; None when there is nothing, or not what this version writes."""
    try:
        data = json.loads(place.read_bytes())
        if data["recipe"] != _RECIPE:
            return None
        os.utime(place)
        return Records(
            records=tuple(_record(one) for one in data["records"]),
            unread=tuple(Unread(cve=str(cve), why=str(why)) for cve, why in data["unread"]),
            state=state,
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _record(fields: list[Any]) -> CveRecord:
    cve, title, files, severity, score, vector, rationale, affected = fields
    return CveRecord(
        cve=cve,
        title=title,
        text="",
        files=tuple(files),
        severity=severity,
        score=score,
        vector=vector,
        rationale=rationale,
        affected=tuple(
            Affected(otherwise=otherwise, spans=tuple(Span(*span) for span in spans))
            for otherwise, spans in affected
        ),
    )


def _dump(found: Records) -> str:
    rows: Iterable[tuple[object, ...]] = (
        (
            one.cve,
            one.title,
            one.files,
            one.severity,
            one.score,
            one.vector,
            one.rationale,
            one.affected,
        )
        for one in found.records
    )
    unread = [(one.cve, one.why) for one in found.unread]
    return json.dumps({"recipe": _RECIPE, "records": list(rows), "unread": unread}, separators=(",", ":"))


def _forget_old(folder: Path) -> None:
    """Keep the few indexes that were used last."""
    kept = sorted(folder.glob("index-*.json"), key=lambda one: one.stat().st_mtime_ns, reverse=True)
    for old in kept[_KEPT:]:
        old.unlink(missing_ok=True)
