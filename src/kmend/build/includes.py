"""Which files of a source tree may include which, by the names in their ``#include`` lines."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from kmend.kit.run import failed, run

_LINE = re.compile(r"([^:]+):\s*#\s*include\s+[<\"]([^>\"]+)[>\"]")
_NOTHING_FOUND = 1


class Includes:
    """The ``#include`` lines of a tree; conditions around them are not looked at, so there may be too many."""

    def __init__(self, lines: Iterable[tuple[str, str]]) -> None:
        """Take pairs of a file and the name that it includes."""
        self._by_name: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for file, name in lines:
            self._by_name[posixpath.basename(name)].append((file, name))

    def direct(self, header: str) -> frozenset[str]:
        """The files that may include a header themselves."""
        return frozenset(
            file
            for file, name in self._by_name.get(posixpath.basename(header), ())
            if _may_mean(name, header, file)
        )

    def reach(self, header: str) -> frozenset[str]:
        """The files that may read a header, itself among them."""
        found = {header}
        waiting = [header]
        while waiting:
            more = self.direct(waiting.pop()) - found
            found |= more
            waiting += [file for file in more if file.endswith(".h")]
        return frozenset(found)

    def upwards(self, files: Iterable[str]) -> frozenset[str]:
        """The files that include one of some files by a path with ``..`` in it."""
        return frozenset(
            file
            for wanted in files
            for file, name in self._by_name.get(posixpath.basename(wanted), ())
            if ".." in name and _may_mean(name, wanted, file)
        )


def _may_mean(name: str, header: str, file: str) -> bool:
    if posixpath.normpath(posixpath.join(posixpath.dirname(file), name)) == header:
        return True
    tail = posixpath.normpath(name)
    while tail.startswith("../"):
        tail = tail[3:]
    return header == tail or header.endswith(f"/{tail}")


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
    return Includes((posixpath.normpath(match[1]), match[2]) for match in matches if match)
