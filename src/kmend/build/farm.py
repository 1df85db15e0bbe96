"""The kernel's source with some files changed: a folder of symbolic links in which the compiler finds them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from kmend.build.includes import includes


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
    upwards = [posixpath.dirname(file) for file in includes(source).upwards(texts)]
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
