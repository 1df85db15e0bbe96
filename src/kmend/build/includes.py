"""Which files of a source tree may include which, by the names in their ``#include`` lines."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from kmend.kit.run import failed, run

_LINE = re.compile(r"([^:]+):\s*#\s*include\s+[<\"]([^>\"]+)[>\"]")
_UPWARDS = re.compile(r"^(\.\./)+")
_NOTHING_FOUND = 1


class _Line(NamedTuple):
    file: str
    is_upwards: bool
    beside: str
    """What the name means from where the file is."""
    tail: str
    """The name without leading ``..``."""


class Includes:
    """The ``#include`` lines of a tree; conditions around them are not looked at, so there may be too many."""

    def __init__(self, lines: Iterable[tuple[str, str]], is_there: Callable[[str], bool]) -> None:
        """Take pairs of a file and the name that it includes, and what says whether the tree has a file."""
        self._is_there = is_there
        self._by_name: dict[str, list[_Line]] = defaultdict(list)
        self._reach: dict[str, frozenset[str]] = {}
        for file, name in lines:
            beside = posixpath.normpath(posixpath.join(posixpath.dirname(file), name))
            tail = _UPWARDS.sub("", posixpath.normpath(name))
            line = _Line(file=file, is_upwards=".." in name, beside=beside, tail=tail)
            self._by_name[posixpath.basename(name)].append(line)

    def _lines(self, header: str) -> list[_Line]:
        """The lines that may mean a header."""
        return [
            line
            for line in self._by_name.get(posixpath.basename(header), ())
            if line.beside == header or (self._may_mean(line, header) and not self._is_there(line.beside))
        ]

    @staticmethod
    def _may_mean(line: _Line, header: str) -> bool:
        """Whether a name fits when the compiler looks for it in some folder."""
        return header == line.tail or header.endswith(f"/{line.tail}")

    def direct(self, header: str) -> frozenset[str]:
        """The files that may include a header themselves."""
        return frozenset(line.file for line in self._lines(header))

    def reach(self, header: str) -> frozenset[str]:
        """The files that may read a header, itself among them."""
        if header not in self._reach:
            found = {header}
            waiting = [header]
            while waiting:
                more = self.direct(waiting.pop()) - found
                found |= more
                waiting += [file for file in more if file.endswith(".h")]
            self._reach[header] = frozenset(found)
        return self._reach[header]

    def upwards(self, files: Iterable[str]) -> frozenset[str]:
        """The files that include one of some files by a path with ``..`` in it."""
        return frozenset(line.file for file in files for line in self._lines(file) if line.is_upwards)


@lru_cache(maxsize=4)
def includes(source: Path) -> Includes:
    """The include lines of a source tree that does not change any more: 2 s the first time.

    Raises:
        ProgramError: grep failed.
    """
    words = ["grep", "-rE", "--include=*.c", "--include=*.h", r"^[[:space:]]*#[[:space:]]*include[[:space:]]", "."]
    done = run(words, cwd=source, check=False)
    if done.code > _NOTHING_FOUND:
        raise failed(done)
    matches = (_LINE.match(line) for line in done.text.splitlines())
    pairs = ((posixpath.normpath(match[1]), match[2]) for match in matches if match)
    return Includes(pairs, cache(lambda path: (source / path).is_file()))
