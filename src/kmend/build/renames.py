"""Members of structures that an update only calls otherwise: code is taken over with the name they have now.

A function that uses the new name could not be taken alone, and the structure, of which the kernel holds data, need
not change for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kmend.build.items import Item, Kind, split

_BODY = re.compile(r"\{(.*)\}", re.DOTALL)
_DECLARED = re.compile(r"(\w+)\s*(?:\[[^]]*\]\s*)*(?::\s*\w+\s*)?$")


class Renamed(NamedTuple):
    """A member's two names, and the file that defines its structure in either source."""

    old: str
    new: str
    old_file: str
    new_file: str


def renamed(olds: Mapping[str, Sequence[Item]], news: Mapping[str, Sequence[Item]]) -> Iterator[Renamed]:
    """The members that a structure has under another name than before, all else about them being the same.

    Args:
        olds: File → the types that it defines, in the older source.
        news: The same in the newer one.
    """
    known: dict[str, list[tuple[str, Item]]] = {}
    for file, types in olds.items():
        for item in types:
            known.setdefault(item.name, []).append((file, item))
    for file, types in news.items():
        for item in types:
            for old_file, before in known.get(item.name, ()):
                for old, new in renamed_members(before.text, item.text):
                    yield Renamed(old, new, old_file, file)


def types_of(path: Path) -> tuple[Item, ...]:
    """The types that a file defines; nothing when there is no such file, or it is no text."""
    try:
        lines = path.read_text().splitlines(keepends=True)
    except (UnicodeDecodeError, FileNotFoundError):
        return ()
    return tuple(item for item in split(lines) if item.kind is Kind.TYPE)


def renamed_members(before: str, after: str) -> list[tuple[str, str]]:
    """Pairs of names, old and new, of members that have the same type and the same neighbour before them.

    Args:
        before: A structure's definition.
        after: The same structure's, later.
    """
    old, new = _members(before), _members(after)
    gone = [at for at, (_, name) in enumerate(old) if name not in {one for _, one in new}]
    come = [at for at, (_, name) in enumerate(new) if name not in {one for _, one in old}]
    found = []
    for left in gone:
        alike = [right for right in come if old[left][0] == new[right][0] and old[:left][-1:] == new[:right][-1:]]
        if len(alike) == 1:
            found.append((old[left][1], new[alike[0]][1]))
    return found


def _members(text: str) -> list[tuple[str, str]]:
    """Type and name of each member, in order; what declares several at once is left out."""
    match = _BODY.search(text)
    found = []
    for declared in match[1].split(";") if match else ():
        name = _DECLARED.search(declared.strip())
        if name is not None and "," not in declared and "{" not in declared:
            whole = declared.strip()
            kind = whole[: name.start(1)] + whole[name.end(1) :]
            found.append((" ".join(kind.split()), name[1]))
    return found


def with_old_names(text: str, names: Mapping[str, str]) -> str:
    """A text with each of some words, the new names, replaced by the old one."""
    if not names:
        return text
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, sorted(names)))})\b")
    return pattern.sub(lambda match: names[match[1]], text)
