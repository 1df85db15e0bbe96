"""CVE records of the kernel's own CNA (git.kernel.org/pub/scm/linux/security/vulns.git, CVE JSON 5 format).

A record ``cve/published/YEAR/CVE-….json`` names the source files and, often, a CVSS score. The ``.dyad`` beside it
has one line for each stable series: ``VERSION:COMMIT:VERSION:COMMIT``, where it came in and where it was fixed.
"""

from __future__ import annotations

import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kmend.kit.cache import cache_root
from kmend.kit.errors import InputError, SourceError
from kmend.kit.files import scratch
from kmend.kit.run import run

_NAME = re.compile(r"(CVE-\d{4}-\d{4,})\.(json|dyad)")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_SIZE_LIMIT = 4 << 20
_VECTOR = re.compile(r"CVSS:[34]\.\d(?:/[A-Za-z]+:[A-Za-z]+)+")
_SEVERITIES = frozenset(("none", "low", "medium", "high", "critical"))
_HIGHEST_SCORE = 10
_HINT = "Give a clone of the kernel CNA's repository (vulns.git), or a .tar.zst, .tar.gz, .tar.xz or .zip of it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """In which version of a stable series a hole was closed, by which commit."""

    version: str
    """E.g. ``6.1.178``."""
    commit: str


class Span(NamedTuple):
    """Versions from ``start`` on, and whether they have the hole; without an end it is that one version."""

    start: str
    below: str
    """The first version that is not meant; empty when ``up_to`` says the last one, or for a single version."""
    up_to: str
    """``6.1.*``, ``*``"""
    affected: bool


class Affected(NamedTuple):
    """What a record says of released versions (``versions`` of CVE JSON 5, without those that are commits)."""

    otherwise: bool
    """Whether versions in no span have the hole."""
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CveRecord:
    """What a kernel engineer needs of one published record."""

    cve: str
    title: str
    """Subject of the upstream commit, most times."""
    text: str
    """The description in English: most times the upstream commit's message."""
    files: tuple[str, ...]
    """``programFiles``: paths in the kernel's source, as they are called upstream."""
    severity: str
    """``low`` to ``critical``; empty when the record has no CVSS."""
    score: float
    """CVSS base score; 0 when the record has none."""
    repairs: tuple[Repair, ...] = ()
    """One for each stable series that was repaired; empty when the .dyad is not there."""
    vector: str = ""
    """CVSS vector: ``CVSS:3.1/AV:L/…``; empty when the record has none."""
    rationale: str = ""
    """The CNA's reasons for the vector, a line for each metric; empty for most."""
    affected: tuple[Affected, ...] = ()
    """Which released versions have the hole; empty when the record speaks of commits only."""

    def repair(self, series: str) -> Repair | None:
        """The repair in one stable series, e.g. ``6.1``; a version counts by whole parts (6.1 is not 6.12)."""
        return next((one for one in self.repairs if f"{one.version}.".startswith(f"{series}.")), None)


def read(path: Path, wanted: Collection[str] | None = None) -> Mapping[str, CveRecord]:
    """The published records of a folder or an archive, by CVE id.

    Args:
        path: A clone of the CNA's repository, or an archive of one.
        wanted: Read only these CVEs; without it all.

    Raises:
        InputError: The path is neither, or a record does not follow the format.
        SourceError: The archive is damaged.
    """
    records: dict[str, bytes] = {}
    dyads: dict[str, bytes] = {}
    for name, content in _members(path, wanted):
        match = _NAME.fullmatch(name)
        if match:
            (records if match[2] == "json" else dyads)[match[1]] = content
    if not records and wanted is None:
        raise InputError(f"{path} holds no published CVE record.", hint=_HINT)
    return {cve: parse(content, cve=cve, dyad=dyads.get(cve, b"")) for cve, content in records.items()}


def each(path: Path) -> Iterator[tuple[str, bytes]]:
    """CVE id and JSON of every published record of a folder or an archive, one after the other.

    Raises:
        InputError: The path is neither.
        SourceError: The archive is damaged.
    """
    for name, content in _members(path, None, kind=".json"):
        match = _NAME.fullmatch(name)
        if match and match[2] == "json":
            yield match[1], content


def parse(content: bytes, *, cve: str, dyad: bytes = b"") -> CveRecord:
    """One record.

    Args:
        content: The JSON.
        cve: The id that it must have.
        dyad: The file beside it.

    Raises:
        InputError: It is not a published CVE JSON 5 record of that id, or a field is not as the format says.
    """
    try:
        data = json.loads(content)
        _check_kind(data, cve)
        cna = data["containers"]["cna"]
        severity, score, vector = _severity(cna.get("metrics", []))
        return CveRecord(
            cve=cve,
            title=_line(cna["title"]),
            text=_text(cna.get("descriptions", [])),
            files=_files(cna["affected"]),
            severity=severity,
            score=score,
            repairs=_repairs(dyad.decode()),
            vector=vector,
            rationale=_rationale(cna.get("metrics", [])),
            affected=tuple(_affected(cna["affected"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"The record of {cve} cannot be used: {reason}.", hint=_HINT) from None


def _check_kind(data: Any, cve: str) -> None:
    if data["dataType"] != "CVE_RECORD" or not str(data["dataVersion"]).startswith("5."):
        raise ValueError("it is no CVE JSON 5 record")
    if data["cveMetadata"]["cveId"] != cve or data["cveMetadata"]["state"] != "PUBLISHED":
        raise ValueError(f"it is not the published record of {cve}")


def _line(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("its title is no text")
    return " ".join(value.split())


def _text(descriptions: Any) -> str:
    return "\n".join(str(one["value"]) for one in descriptions if str(one.get("lang", "")).startswith("en"))


def _files(affected: Any) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for part in affected:
        for name in part.get("programFiles", ()):
            if name not in found and not _is_inside(name):
                raise ValueError(f"it names a file that is not allowed ({name!r})")
            found[name] = None
    return tuple(found)


def _is_inside(name: Any) -> bool:
    """Whether a text names a file below a source tree."""
    if not isinstance(name, str) or name.startswith("/"):
        return False
    parts = set(name.split("/"))
    return ".." not in parts and bool(parts - {"", "."})


def _severity(metrics: Any) -> tuple[str, float, str]:
    """The first CVSS entry's word, number and vector."""
    for metric in metrics:
        for key, value in metric.items():
            if key.startswith("cvssV"):
                word, score = str(value["baseSeverity"]).lower(), float(value["baseScore"])
                vector = str(value.get("vectorString", ""))
                if word not in _SEVERITIES or not 0 <= score <= _HIGHEST_SCORE:
                    raise ValueError(f"its CVSS is out of range ({word}, {score})")
                if vector and not _VECTOR.fullmatch(vector):
                    raise ValueError(f"its CVSS vector is none ({vector[:80]!r})")
                return word, score, vector
    return "", 0.0, ""


def _rationale(metrics: Any) -> str:
    lines = [_text(metric.get("scenarios") or []) for metric in metrics]
    return next((text for text in lines if text), "")


def _affected(affected: Any) -> Iterator[Affected]:
    for part in affected:
        spans = tuple(
            Span(
                start=str(one["version"]),
                below=str(one.get("lessThan", "")),
                up_to=str(one.get("lessThanOrEqual", "")),
                affected=one["status"] == "affected",
            )
            for one in part.get("versions", ())
            if one.get("versionType") != "git"
        )
        if spans:
            yield Affected(otherwise=part.get("defaultStatus") == "affected", spans=spans)


def _repairs(dyad: str) -> tuple[Repair, ...]:
    found = []
    for line in dyad.splitlines():
        parts = line.split(":")
        # "0" stands for "not fixed there".
        if line.startswith("#") or len(parts) != 4 or parts[2] == "0":  # noqa: PLR2004
            continue
        if not _COMMIT.fullmatch(parts[3]):
            raise ValueError(f"its .dyad has a line that is not understood ({line[:80]!r})")
        found.append(Repair(version=parts[2], commit=parts[3]))
    return tuple(found)


def _members(path: Path, wanted: Collection[str] | None, *, kind: str = "") -> Iterator[tuple[str, bytes]]:
    """Name and content of each wanted .json and .dyad below ``published``; of a folder only one ``kind``."""
    if path.is_dir():
        yield from _of_folder(path, wanted, kind)
    elif not path.is_file():
        raise InputError(f"There are no CVE records at {path}.", hint=_HINT)
    else:
        try:
            yield from _of_zip(path, wanted) if zipfile.is_zipfile(path) else _of_tar(path, wanted)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError) as error:
            raise SourceError(f"The archive {path} cannot be read: {error}", hint=_HINT) from None


def _name_if_wanted(path: str, wanted: Collection[str] | None) -> str:
    """A file's own name, if it is a record's; empty otherwise."""
    folders, _, name = path.rpartition("/")
    match = _NAME.fullmatch(name)
    above = folders.rpartition("/")[0].rpartition("/")[2]
    good = match is not None and (wanted is None or match[1] in wanted) and above in {"published", "", "."}
    return name if good else ""


def _of_folder(path: Path, wanted: Collection[str] | None, kind: str) -> Iterator[tuple[str, bytes]]:
    published = path / "cve" / "published"
    if not published.is_dir():
        raise InputError(f"{path} is no clone of the kernel CNA's repository (no cve/published).", hint=_HINT)
    for file in sorted(published.glob(f"*/CVE-*{kind}"), key=str):
        if _name_if_wanted(file.relative_to(path).as_posix(), wanted) and file.is_file():
            if file.stat().st_size > _SIZE_LIMIT:
                raise InputError(f"{file} is larger than {_SIZE_LIMIT >> 20} MiB.")
            yield file.name, file.read_bytes()


def _of_zip(path: Path, wanted: Collection[str] | None) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = _name_if_wanted(info.filename, wanted)
            if name and not info.is_dir() and info.file_size <= _SIZE_LIMIT:
                yield name, archive.read(info)


def _of_tar(path: Path, wanted: Collection[str] | None) -> Iterator[tuple[str, bytes]]:
    """Python 3.11 reads no zstd by itself, so the program unpacks it into a file that is gone afterwards."""
    if path.suffix not in {".zst", ".zstd"}:
        yield from _of_plain_tar(path, wanted)
        return
    with scratch(cache_root() / "records") as folder:
        plain = folder / "records.tar"
        with plain.open("wb") as file:
            run(("zstd", "--decompress", "--stdout", "--quiet", path), stdout=file, timeout=300)
        yield from _of_plain_tar(plain, wanted)


def _of_plain_tar(path: Path, wanted: Collection[str] | None) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for member in archive:
            name = _name_if_wanted(member.name, wanted)
            if name and member.isfile() and member.size <= _SIZE_LIMIT:
                file = archive.extractfile(member)
                if file is not None:
                    yield name, file.read()
