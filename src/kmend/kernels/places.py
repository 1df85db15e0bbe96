"""Where kits, source trees and downloads lie in the cache, and who may write there.

``kits/RELEASE/`` is a kit, ``sources/VERSION/`` a source tree shared by the kernels of that version. Both come
into being by a rename, so what bears such a name is whole. Names that begin with a dot are work under way, or what
an interrupted run left of it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kmend.kit.cache import cache_root
from kmend.kit.errors import BusyError, InputError
from kmend.kit.files import lock, sync_folder
from kmend.kit.progress import Progress

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+:~_-]*")


def kit_folder(release: str) -> Path:
    """Where the kit of a kernel lies once it is whole."""
    return kits_folder() / checked(release, what="kernel release")


def source_folder(version: str) -> Path:
    """Where the source tree of a version lies once it is whole."""
    return sources_folder() / checked(version, what="package version")


def kits_folder() -> Path:
    """The folder with all kits."""
    return cache_root() / "kits"


def sources_folder() -> Path:
    """The folder with all source trees."""
    return cache_root() / "sources"


def trees_folder() -> Path:
    """The folder with the prepared build trees, one per build id."""
    return cache_root() / "trees"


def downloads_folder() -> Path:
    """The folder with package files on their way to be unpacked."""
    return cache_root() / "downloads"


def locks_folder() -> Path:
    """The folder with one lock per version that was ever fetched."""
    return cache_root() / "locks"


def partial_of(folder: Path, *, version: str) -> Path:
    """Where a kit or source tree is put together; in the same file system, so that a rename finishes it."""
    return folder.parent / f".{folder.name}_{version}.partial"


def checked(name: str, *, what: str) -> str:
    """The name itself, when it can be one.

    Raises:
        InputError: It is no name but a path or worse.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is not a {what}.", hint="`kmend kernel list` shows what there is.")
    return name


@contextmanager
def one_fetch(version: str, *, progress: Progress) -> Iterator[None]:
    """Hold the right to fetch anything of a version; waits for another run that holds it."""
    path = locks_folder() / f"fetch-{checked(version, what='package version')}.lock"
    what = f"`kmend kernel fetch` for {version}"
    try:
        with lock(path, what=what):
            yield
            return
    except BusyError as busy:
        if str(path) not in busy.message:
            raise
    progress.note(f"Waiting for another run that fetches {version} ...")
    with lock(path, what=what, wait=True):
        yield


def put_in_place(partial: Path, folder: Path) -> None:
    """Give a finished folder its name; what had the name before goes."""
    remove(folder)
    partial.rename(folder)
    sync_folder(folder.parent)


def remove(folder: Path) -> None:
    """Remove a kit or source tree so that no moment shows a half of it."""
    if not folder.exists():
        return
    gone = folder.parent / f".{folder.name.lstrip('.')}.gone"
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone)
