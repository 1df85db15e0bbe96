"""A CVE's share of the difference of its files: the functions that its record names. It may not be all of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kmend.build import functions as extents
from kmend.build.derive import derive, source_lines
from kmend.build.sources import Sources
from kmend.exposure.records import CveRecord
from kmend.kit.errors import InputError
from kmend.model.fix import Fix

_WORD = re.compile(r"[A-Za-z_]\w+")


def narrowed(record: CveRecord, files: Sequence[str], sources: Sources) -> Fix | None:
    """A Fix of just the functions that a record's text names and that differ, with the new ones that they use.

    None when it names none of them, or they cannot be taken over alone. The commit may have changed other
    functions too, of which the text does not speak: such a fix is a proposal for a person to look at.
    """
    before, after = _bodies(files, sources, newer=False), _bodies(files, sources, newer=True)
    words = set(_WORD.findall(f"{record.title} {record.text}"))
    named = sorted(name for name in before if name in words and name in after and before[name] != after[name])
    if not named:
        return None
    functions = (*named, *_new_ones(named, before, after))
    try:
        return derive(
            name=record.cve,
            cves=(record.cve,),
            title=record.title,
            old=sources.old,
            new=sources.new,
            files=tuple(files),
            functions=functions,
            origin=f"Debian linux {sources.old_version} to {sources.new_version}",
            reasoning=f"Derived: of {', '.join(files)} only {', '.join(functions)}, because the CVE record's text "
            "names them or they are new and used by them. The commit may change more. No person has read it.",
        )
    except InputError:
        return None


def _bodies(files: Sequence[str], sources: Sources, *, newer: bool) -> dict[str, str]:
    """Function → its text; of several of one name all."""
    found: dict[str, str] = {}
    for file in files:
        try:
            lines = source_lines(sources.new if newer else sources.old, file)
        except InputError:
            continue
        for one in extents.scan(lines):
            found[one.name] = found.get(one.name, "") + "".join(lines[one.start : one.end])
    return found


def _new_ones(named: Sequence[str], before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Functions that only the newer files have and that the named ones use, also by way of each other."""
    new = after.keys() - before.keys()
    found: list[str] = []
    queue = list(named)
    while queue:
        used = sorted((set(_WORD.findall(after[queue.pop()])) & new) - set(found))
        found += used
        queue += used
    return found
