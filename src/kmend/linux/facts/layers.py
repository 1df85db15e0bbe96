"""The layers of an image, laid over each other by reading: packages, os-release, set-user-id files.

Source: the kernel's Documentation/filesystems/overlayfs.rst: a character device 0:0 hides what lies below, a
folder with the attribute "opaque" hides all below it. No link in a layer is followed.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

from kmend.linux.facts import packages as databases
from kmend.linux.facts.host import distribution_in
from kmend.linux.facts.look import Look
from kmend.linux.facts.walked import Walked
from kmend.model.facts import Image, Package

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque")
_RELEASES = ("etc/os-release", "usr/lib/os-release")
_RELEASE = 64 << 10
_SPECIAL = stat.S_ISUID | stat.S_ISGID
_MOST_FILES_OF_STATUS = 2_000


class _Here(NamedTuple):
    """What one layer says about a path."""

    status: os.stat_result | None
    """Of what it holds there itself."""
    ends: bool
    """Whether lower layers do not count."""


class Layers:
    """What was read of layers, kept for the images that share them."""

    def __init__(self, look: Look, kept: Walked | None = None) -> None:
        """Begin; ``kept`` are walks of earlier looks."""
        self._look = look
        self._kept = kept or {}
        self.walked: Walked = {}
        """Every walk that came to its end, with those that were kept and needed again."""
        self._done: dict[str, tuple[str, ...] | None] = {}
        self._parsed: dict[tuple[int, int, int, int], tuple[Package, ...]] = {}
        self._here: dict[tuple[str, str], _Here] = {}
        self._until = time.monotonic() + min(look.limits.walk_seconds, look.left)

    def of(self, image: Image) -> Image:
        """The image with what its layers say; as it is, with a note, when its store does not show them."""
        what = f"image:{image.id}"
        if not image.layers:
            self._look.miss(f"{what}:layers", "its store does not show where they lie")
            return image
        with ExitStack() as opened:
            layers = []
            for folder in image.layers:
                try:
                    layers.append((folder, opened.enter_context(self._look.layer(folder.lstrip("/")))))
                except OSError as error:
                    self._look.miss(f"{what}:layers", f"{folder}: {error.strerror}")
                    return image
            return self._with_content(image, layers[::-1], what)

    def _with_content(self, image: Image, layers: list[tuple[str, Look]], what: str) -> Image:
        """Layers come from the top down."""
        release = next((text for path in _RELEASES if (text := self._text(layers, path))), "")
        found = self._packages(layers, what)
        special = self._special(layers)
        if special is None:
            self._look.miss(f"{what}:set-user-id", "the time, or the number of files, for walking layers was over")
        return replace(image, distribution=distribution_in(release), packages=found, set_user_id=special)

    def _text(self, layers: list[tuple[str, Look]], path: str) -> str:
        found = self._top(layers, path)
        return found[1].text(path, limit=_RELEASE) if found and stat.S_ISREG(found[2].st_mode) else ""

    def _packages(self, layers: list[tuple[str, Look]], what: str) -> tuple[Package, ...] | None:
        """None, with a note, where no database is known, or the one that is there cannot be read."""
        for path in databases.READERS:
            found = self._top(layers, path)
            try:
                if found and (packages := self._database(found[1], path, found[2])) is not None:
                    return packages
            except ValueError as error:
                self._look.miss(f"{what}:packages", f"{path} cannot be read: {error}")
                return None
        many = self._many_files(layers)
        if many is None:
            self._look.miss(f"{what}:packages", databases.NONE_KNOWN)
        return many

    def _database(self, layer: Look, path: str, status: os.stat_result) -> tuple[Package, ...] | None:
        """The packages in one file, which many images may share.

        Raises:
            ValueError: It is no such database.
        """
        key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        if key not in self._parsed:
            reader = databases.READERS[path]
            content = layer.read(path, limit=reader.limit)
            if content is None:
                return None
            self._parsed[key] = reader.parse(content)
        return self._parsed[key]

    def _many_files(self, layers: list[tuple[str, Look]]) -> tuple[Package, ...] | None:
        """Of images without dpkg: one file a package, spread over the layers."""
        folder = databases.STATUS_FOLDER
        paths = {
            f"{folder}/{name}"
            for _, layer in layers
            for name in layer.names(folder)[:_MOST_FILES_OF_STATUS]
            if not name.endswith(".md5sums")
        }
        if not paths:
            return None
        found: list[Package] = []
        for path in sorted(paths):
            top = self._top(layers, path)
            content = top[1].read(path) if top else None
            found += databases.dpkg(content, complete=False) if content else ()
        return tuple(found)

    def _special(self, layers: list[tuple[str, Look]]) -> tuple[str, ...] | None:
        """Set-user-id files that no upper layer hides or replaces."""
        found = set()
        for folder, layer in layers:
            paths = self._walk(folder, layer)
            if paths is None:
                return None
            for path in paths:
                top = self._top(layers, path)
                if top and top[0] == folder:
                    found.add(f"/{path}")
        return tuple(sorted(found))

    def _walk(self, folder: str, layer: Look) -> tuple[str, ...] | None:
        if folder not in self._done:
            status = os.fstat(layer.folder)
            key = f"{folder}:{status.st_dev}:{status.st_ino}:{status.st_ctime_ns}"
            found = self._kept.get(key)
            if found is None:
                found = _walked(layer, until=self._until, most=self._look.limits.layer_files)
            self._done[folder] = found
            if found is not None:
                self.walked[key] = found
        return self._done[folder]

    def _top(self, layers: list[tuple[str, Look]], path: str) -> tuple[str, Look, os.stat_result] | None:
        """The uppermost layer that holds a path, unless one above hides it."""
        for folder, layer in layers:
            here = self._at(folder, layer, path)
            if here.status:
                return folder, layer, here.status
            if here.ends:
                return None
        return None

    def _at(self, folder: str, layer: Look, path: str) -> _Here:
        key = (folder, path)
        if key not in self._here:
            self._here[key] = _here(layer, path)
        return self._here[key]


def _here(layer: Look, path: str) -> _Here:
    """What one layer says: looked at from the first folder down, so that most layers end at once."""
    parts = path.split("/")
    ends = False
    for depth in range(1, len(parts) + 1):
        place = "/".join(parts[:depth])
        status = layer.stat(place, follow=False)
        if status is None:
            above, name = "/".join(parts[: depth - 1]), parts[depth - 1]
            hidden = layer.stat(f"{above}/.wh.{name}".lstrip("/"), follow=False) is not None
            return _Here(None, ends or hidden)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            return _Here(None, ends=True)
        if depth == len(parts):
            return _Here(status, ends=True)
        if not stat.S_ISDIR(status.st_mode):
            return _Here(None, ends=True)
        ends = ends or _is_opaque(layer, place)
    return _Here(None, ends)


def _is_opaque(layer: Look, place: str) -> bool:
    if layer.stat(f"{place}/.wh..wh..opq", follow=False):
        return True
    try:
        with layer.place(place) as path:
            return any(_attribute(path, name) == b"y" for name in _OPAQUE)
    except OSError:
        return False


def _attribute(path: str, name: str) -> bytes:
    try:
        return os.getxattr(path, name)
    except OSError:
        return b""


def _walked(layer: Look, *, until: float, most: int) -> tuple[str, ...] | None:
    """Paths of set-user-id and set-group-id files in one layer; None when there are too many files, or no time."""
    found: list[str] = []
    pending = ["."]
    count = 0
    while pending:
        folder = pending.pop()
        if time.monotonic() > until:
            return None
        for name, is_folder, mode in _entries(layer, folder):
            count += 1
            path = f"{folder}/{name}".removeprefix("./")
            if is_folder:
                pending.append(path)
            elif mode & _SPECIAL:
                found.append(path)
        if count > most:
            return None
    return tuple(sorted(found))


def _entries(layer: Look, folder: str) -> Iterable[tuple[str, bool, int]]:
    """Name, whether it is a folder, and the mode of each plain file in a folder."""
    try:
        descriptor = layer.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        with os.scandir(descriptor) as entries:
            yield from _each(entries)
    except OSError:
        return
    finally:
        os.close(descriptor)


def _each(entries: Iterator[os.DirEntry[str]]) -> Iterator[tuple[str, bool, int]]:
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield entry.name, True, 0
        elif entry.is_file(follow_symlinks=False):
            yield entry.name, False, entry.stat(follow_symlinks=False).st_mode
