"""Fix folders (fix.toml, fix.patch, probe.c), and their diffs applied beside the source, never in it."""

from __future__ import annotations

import json
import logging
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmend.build import unified
from kmend.build.unified import Edit, FileDiff
from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic
from kmend.model.fix import CVE_ID, Fix

log = logging.getLogger(__name__)

_SIZE_LIMIT = 8 << 20
_REQUIRED = ("name", "cves", "title", "origin")
_OPTIONAL = ("reasoning", "reviewer")
_LISTS = ("cves", "files", "functions", "adds")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FORM = "docs/reference/fix-folder.md describes the form."


def load(folder: Path) -> Fix:
    """The Fix that a folder holds.

    Raises:
        InputError: The folder, a key or the diff is not as docs/reference/fix-folder.md says.
    """
    if not folder.is_dir():
        raise InputError(f"There is no fix folder {folder}.", hint=_FORM)
    if not (folder / "fix.toml").exists() and (folder / "derive.toml").exists():
        raise InputError(
            f"{folder} says how to derive a fix (derive.toml), but holds no fix yet.",
            hint="Derive it from two source versions first; docs/howto/write-a-fix.md shows how.",
        )
    keys = _keys(folder / "fix.toml")
    diff = _text(folder / "fix.patch")
    if not diff.strip():
        raise InputError(f"{folder / 'fix.patch'} is empty.", hint=_FORM)
    unified.parse(diff, what=str(folder / "fix.patch"))
    probe = folder / "probe.c"
    return Fix(
        name=keys["name"],
        cves=tuple(keys["cves"]),
        title=keys["title"],
        diff=diff,
        origin=keys["origin"],
        reasoning=keys.get("reasoning", ""),
        reviewer=keys.get("reviewer", ""),
        probe=_text(probe) if probe.exists() else "",
    )


def save(fix: Fix, folder: Path) -> None:
    """Write a fix folder that ``load`` reads back as the same Fix."""
    values = {"name": fix.name, "cves": list(fix.cves), "title": fix.title, "origin": fix.origin}
    values |= {"reasoning": fix.reasoning, "reviewer": fix.reviewer}
    # A JSON string or list of strings is TOML too, but for the delete character.
    lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items() if value != "")
    write_atomic(folder / "fix.patch", fix.diff)
    if fix.probe:
        write_atomic(folder / "probe.c", fix.probe)
    write_atomic(folder / "fix.toml", "".join(lines).replace("\x7f", "\\u007f"))


def files(fix: Fix) -> tuple[str, ...]:
    """Paths in the source tree that a fix changes or adds, in the diff's order."""
    return tuple(file.path for file in unified.parse(fix.diff, what=f"Fix {fix.name}"))


def _text(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path} is missing (or not a file).", hint=_FORM)
    with path.open("rb") as file:
        content = file.read(_SIZE_LIMIT + 1)
    if len(content) > _SIZE_LIMIT:
        raise InputError(f"{path} is larger than {_SIZE_LIMIT >> 20} MiB.", hint=_FORM)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path} is not UTF-8 text (line {line}, byte 0x{content[error.start]:02x}).", hint=_FORM
        ) from None


def _keys(path: Path) -> Mapping[str, Any]:
    try:
        keys = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}", hint=_FORM) from None
    check_keys(keys, path, required=_REQUIRED, optional=_OPTIONAL)
    if not _NAME.fullmatch(keys["name"]):
        raise InputError(
            f"{path}: name {keys['name']!r} is not allowed.", hint="Letters, digits, dot, dash, underscore."
        )
    return keys


def check_keys(keys: Mapping[str, Any], path: Path, *, required: Sequence[str], optional: Sequence[str]) -> None:
    """Check a TOML table of strings in which some keys are lists of strings.

    Raises:
        InputError: A key is missing, unknown or of another type, or a CVE id is none.
    """
    missing = [key for key in required if key not in keys]
    unknown = [key for key in keys if key not in (*required, *optional)]
    if missing or unknown:
        faults = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(
            unknown
        )
        raise InputError(
            f"{path} {' and '.join(faults)}.", hint=f"Keys: {', '.join((*required, *optional))}. {_FORM}"
        )
    for key, value in keys.items():
        if key in _LISTS:
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise InputError(f"{path}: {key} must be a list of strings, not {value!r}.", hint=_FORM)
        elif not isinstance(value, str) or (key in required and not value.strip()):
            raise InputError(f"{path}: {key} must be a string with something in it, not {value!r}.", hint=_FORM)
    for cve in keys["cves"]:
        if not CVE_ID.fullmatch(cve):
            raise InputError(f"{path}: {cve!r} is not a CVE id.", hint="A CVE id reads CVE-2026-12345.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """One fix's edits of one file, in the pristine file's line numbers."""

    fix: str
    edits: tuple[Edit, ...]


def apply(fixes: tuple[Fix, ...], *, source: Path, into: Path) -> tuple[str, ...]:
    """Put the changed text of every file that the fixes touch into an overlay folder.

    Each fix is a diff against the pristine ``source``, which is only read. Fixes may touch the same file, but not
    the same or neighbouring lines, unless they make the very same change.

    Returns:
        Paths relative to ``into`` (and ``source``), sorted: changed and new files.

    Raises:
        InputError: A hunk does not apply exactly, two fixes conflict, or a file is not an ordinary file of the
            source tree. Nothing is written then.
    """
    texts = changed(fixes, source=source)
    _write(texts, into)
    return tuple(texts)


def changed(fixes: tuple[Fix, ...], *, source: Path) -> Mapping[str, str]:
    """What ``apply`` would write: text by path, sorted; bytes that are not UTF-8 are surrogate escapes.

    Raises:
        InputError: As ``apply``.
    """
    changes: dict[str, list[tuple[Fix, FileDiff]]] = {}
    for fix in fixes:
        for file in unified.parse(fix.diff, what=f"Fix {fix.name}"):
            changes.setdefault(file.path, []).append((fix, file))
    return {path: _changed(path, changes[path], source) for path in sorted(changes)}


def _changed(path: str, changes: list[tuple[Fix, FileDiff]], source: Path) -> str:
    creators = [(fix, file) for fix, file in changes if file.creates]
    if creators:
        return _created(path, changes, source)
    lines = unified.split_lines(_pristine(source, path, changes[0][0]))
    placed = []
    for fix, file in changes:
        edits, offsets = unified.place(file, lines, what=f"Fix {fix.name}")
        for hunk, offset in zip(file.hunks, offsets, strict=True):
            if offset:
                log.info(
                    "Fix %s: hunk %d of %s stands %+d lines from where it says",
                    fix.name,
                    hunk.number,
                    path,
                    offset,
                )
        placed.append(_Placed(fix=fix.name, edits=edits))
    return "".join(unified.edited(lines, _merged(path, placed)))


def _merged(path: str, placed: list[_Placed]) -> list[Edit]:
    """All edits, ascending; the same edit of two fixes once."""
    chosen: list[tuple[Edit, str]] = []
    for one in sorted(
        ((edit, part.fix) for part in placed for edit in part.edits), key=lambda pair: _span(pair[0])
    ):
        edit, fix = one
        before = chosen[-1] if chosen else None
        if before is not None and before[1] != fix and edit.start <= before[0].end:
            if (_span(edit), edit.lines) == (_span(before[0]), before[0].lines):
                continue
            raise InputError(
                f"Fixes {before[1]} and {fix} both change {path} at line {edit.start + 1}.",
                hint="Make one fix of the two, with both CVE ids, and diff it against the unchanged source.",
            )
        chosen.append(one)
    return [edit for edit, _ in chosen]


def _span(edit: Edit) -> tuple[int, int]:
    return edit.start, edit.end


def _created(path: str, changes: list[tuple[Fix, FileDiff]], source: Path) -> str:
    """The text of a new file, on which all fixes must agree."""
    names = " and ".join(fix.name for fix, _ in changes)
    if _has(source, path):
        raise InputError(f"Fix {names} adds {path}, but this source has that file already.", hint=_FORM)
    texts = {"".join(line for hunk in file.hunks for line in hunk.new) for _, file in changes}
    if len(texts) > 1 or not all(file.creates for _, file in changes):
        raise InputError(f"Fixes {names} do not agree on the new file {path}.", hint="Make one fix of them.")
    return texts.pop()


def _has(source: Path, path: str) -> bool:
    """Whether the path leads to something; a symbolic link on the way counts, so that nobody writes through it."""
    place = source
    for part in path.split("/"):
        place /= part
        if place.is_symlink():
            return True
    return place.exists()


def _pristine(source: Path, path: str, fix: Fix) -> str:
    place = source
    for part in path.split("/"):
        place /= part
        if place.is_symlink():
            raise InputError(
                f"Fix {fix.name} changes {path}, but {place.relative_to(source)} is a symbolic link here.",
                hint="Change the file that it points to.",
            )
    if not place.is_file():
        raise InputError(
            f"Fix {fix.name} changes {path}, but this kernel's source has no such file.",
            hint="The fix is for another kernel series, or the paths in its diff need a/ and b/ before them.",
        )
    # A few kernel files hold old bytes that are not UTF-8; they come out as they went in.
    return place.read_bytes().decode(errors="surrogateescape")


def _write(texts: Mapping[str, str], into: Path) -> None:
    written: list[Path] = []
    try:
        for path, text in texts.items():
            written.append(into / path)
            write_atomic(into / path, text.encode(errors="surrogateescape"))
    except BaseException:
        for place in written:
            place.unlink(missing_ok=True)
        raise
