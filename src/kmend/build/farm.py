"""The kernel's source with some files changed: a folder of symbolic links in which the compiler finds them."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from kmend.kit.run import failed, run

_INCLUDE = re.compile(r'(?P<file>[^:]+):\s*#\s*include\s+"(?P<name>[^"]+)"')
_NOTHING_FOUND = 1


def plant(into: Path, texts: Mapping[str, str], *, source: Path, searched: Collection[str] = ()) -> None:
    """Make a folder that looks like ``source`` but for some files.

    Folders on the way to a changed file are real and everything else is linked, mostly by the folder. The compiler
    looks for ``"../x.h"`` from where the including file is, and a linked folder's ``..`` is the original's: so the
    folders of files that include a changed one that way are real, too.

    Args:
        into: The folder to make.
        texts: Path in the source → changed text.
        source: The kernel's source; it is only read.
        searched: Folders of the source that the compiler searches for headers.
    """
    real = {""}
    upwards = [posixpath.dirname(file) for file in _including_upwards(texts, source)]
    for folder in (*(posixpath.dirname(file) for file in texts), *upwards, *searched):
        real |= {folder, *(str(one) for one in PurePosixPath(folder).parents if str(one) != ".")}
    for folder in sorted(real):
        place = into / folder
        place.mkdir(parents=True, exist_ok=True)
        if not (source / folder).is_dir():
            continue
        for entry in os.scandir(source / folder):
            path = posixpath.join(folder, entry.name)
            if path not in real and path not in texts:
                (into / path).symlink_to(entry.path)
    for path, text in texts.items():
        (into / path).write_text(text, errors="surrogateescape")


def _including_upwards(files: Iterable[str], source: Path) -> list[str]:
    """Files that include one of some files by a path that begins upwards."""
    wanted = set(files)
    names = "|".join(sorted({re.escape(posixpath.basename(file)) for file in wanted}))
    pattern = rf'^[[:space:]]*#[[:space:]]*include[[:space:]]+"[^"]*\.\./[^"]*({names})"'
    done = run(["grep", "-rE", "--include=*.[ch]", pattern, "."], cwd=source, check=False)
    if done.code > _NOTHING_FOUND:
        raise failed(done)
    found = []
    for line in done.text.splitlines():
        match = _INCLUDE.match(line)
        if match:
            file = posixpath.normpath(match["file"])
            if posixpath.normpath(posixpath.join(posixpath.dirname(file), match["name"])) in wanted:
                found.append(file)
    return found
