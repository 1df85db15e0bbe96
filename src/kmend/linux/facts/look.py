"""Careful reading below a folder that may be hostile: an image of a host, a layer, /proc while it changes.

Paths are resolved by the kernel as if the folder were the root (openat2(2), RESOLVE_IN_ROOT): no link leads out of
it. Only plain files are opened, so that a FIFO cannot hang the reader and a device node is not touched. Every read
has an end. What could not be read is noted with its reason, and comes back as None.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import stat
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kmend.kit.errors import MachineError
from kmend.model.facts import Unseen

# Linux has given new calls the same number on every architecture since 424; asm-generic/unistd.h
_OPENAT2 = 437
_IN_ROOT, _NO_SYMLINKS = 0x10, 0x04
_HOW = struct.Struct("<QQQ")  # open_how: flags, mode, resolve
_LIBC = ctypes.CDLL(None, use_errno=True)
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ESRCH}
_TEXT = 4 << 20
_MOST_NAMES = 100_000
_MOST_NOTES = 2_000
_CREDENTIALS = re.compile(r"(\w://)[^/\s@\"']+@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a look may take, and how much it reads."""

    seconds: float = 60
    """For all of it; what was not reached by then is unseen."""
    answer_seconds: float = 5
    """For one answer of an engine."""
    engine_seconds: float = 20
    """For all answers of one engine: a slow one leaves time for the rest."""
    answer_bytes: int = 8 << 20
    bundle_bytes: int = 2 << 20
    """Of an OCI bundle's config.json."""
    containers: int = 20_000
    images: int = 5_000
    walk_seconds: float = 20
    """For walking the layers of images that are not known yet."""
    layer_files: int = 500_000


class Notes:
    """What could not be seen; each thing once."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}
        self._more = 0

    def add(self, what: str, why: str) -> None:
        """Note it; the first reason stays."""
        if what in self._seen:
            return
        if len(self._seen) < _MOST_NOTES:
            self._seen[what[:500]] = why[:500]
        else:
            self._more += 1

    def all(self) -> tuple[Unseen, ...]:
        """Every note, in the order in which they came."""
        noted = tuple(Unseen(what=what, why=why) for what, why in self._seen.items())
        if self._more:
            noted += (Unseen(what="more", why=f"{self._more} more things could not be seen"),)
        return noted


@dataclass(slots=True, kw_only=True)
class Look:
    """A folder that is looked at as if it were the root, the notes of the look, and its end."""

    root: Path
    folder: int
    """Descriptor of the folder."""
    limits: Limits
    notes: Notes
    end: float
    """When the look has to end, by the monotonic clock."""
    resolve: int = _IN_ROOT

    @contextmanager
    def layer(self, folder: str) -> Iterator[Look]:
        """Another folder below this one, in which no link at all is followed; it shares notes and limits.

        Raises:
            OSError: It is not there, or no folder.
        """
        found = self.open(folder, os.O_PATH | os.O_DIRECTORY)
        try:
            yield replace(self, folder=found, resolve=_IN_ROOT | _NO_SYMLINKS)
        finally:
            os.close(found)

    @property
    def left(self) -> float:
        """Seconds until the look has to end; 0 when that is over."""
        return max(0.0, self.end - time.monotonic())

    def miss(self, what: str, why: str) -> None:
        """Note that something could not be seen."""
        self.notes.add(what, why)

    def read(self, path: str, *, limit: int = _TEXT, note: bool = True) -> bytes | None:
        """The content of a plain file; None when it is not there, and, with a note, when it cannot be read."""
        try:
            return self.take(path, limit=limit)
        except OSError as error:
            if note and error.errno not in _ABSENT:
                self.miss(f"/{path}", error.strerror or str(error))
            return None

    def take(self, path: str, *, limit: int = _TEXT) -> bytes:
        """The content of a plain file.

        Raises:
            OSError: It is not there, cannot be read, is no plain file, or holds more than ``limit`` bytes.
        """
        with self.plain(path) as file:
            found = bytearray()
            while len(found) <= limit:
                piece = os.read(file, min(limit + 1 - len(found), 1 << 20))
                if not piece:
                    return bytes(found)
                found += piece
        raise OSError(errno.EFBIG, f"it holds more than {limit} bytes")

    @contextmanager
    def plain(self, path: str) -> Iterator[int]:
        """A descriptor of a plain file, for reading.

        Raises:
            OSError: It is not there, may not be read, or is no plain file.
        """
        found = self.open(path, os.O_PATH)
        try:
            if not stat.S_ISREG(os.fstat(found).st_mode):
                raise OSError(errno.EINVAL, "it is no plain file")
            file = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            os.close(found)
        try:
            yield file
        finally:
            os.close(file)

    @contextmanager
    def running(self, pid: int) -> Iterator[int]:
        """A descriptor of the file that a process runs, also when it is no longer at its path.

        Raises:
            OSError: It may not be read, or this is no real /proc, whose link leads to the file and not to a path.
        """
        folder = self.open(f"proc/{pid}", os.O_PATH | os.O_DIRECTORY)
        try:
            if os.fstat(folder).st_dev != os.stat("/proc").st_dev:  # noqa: PTH116
                raise OSError(errno.EINVAL, "it is the file of a process, and these are no processes")
            file = os.open("exe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)
        try:
            yield file
        finally:
            os.close(file)

    @contextmanager
    def place(self, path: str) -> Iterator[str]:
        """A path by which this process reaches a file, whatever happens to the folders on the way: for sockets.

        Raises:
            OSError: It is not there.
        """
        found = self.open(path, os.O_PATH)
        try:
            yield f"/proc/self/fd/{found}"
        finally:
            os.close(found)

    def text(self, path: str, *, limit: int = _TEXT, note: bool = True) -> str:
        """The text of a plain file without the white space around it; empty when there is none."""
        return (self.read(path, limit=limit, note=note) or b"").decode(errors="replace").strip()

    def lines(self, path: str, *, limit: int = _TEXT) -> list[str]:
        """The lines of a plain file; none when it is not there."""
        return (self.read(path, limit=limit) or b"").decode(errors="replace").splitlines()

    def json(self, path: str, *, limit: int) -> Any:
        """What a JSON file holds; None when it is not there, and, with a note, when it cannot be read."""
        content = self.read(path, limit=limit)
        if content is None:
            return None
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            self.miss(f"/{path}", f"it is not JSON: {error}")
            return None

    def names(self, folder: str) -> list[str]:
        """The names in a folder, in order; none when it is not there."""
        try:
            found = self.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno not in _ABSENT:
                self.miss(f"/{folder}", error.strerror or str(error))
            return []
        try:
            names = os.listdir(found)  # noqa: PTH208 - of a descriptor
        except OSError as error:  # a process that has gone
            if error.errno not in _ABSENT:
                self.miss(f"/{folder}", error.strerror or str(error))
            return []
        finally:
            os.close(found)
        if len(names) > _MOST_NAMES:
            self.miss(f"/{folder}", f"it holds {len(names)} entries; only {_MOST_NAMES} were looked at")
        return sorted(names)[:_MOST_NAMES]

    def matching(self, pattern: str) -> list[str]:
        """The paths that fit a pattern with ``*`` in names, in order; one without is itself, when it exists."""
        found = [""]
        for part in pattern.strip("/").split("/"):
            if set("*?[") & set(part):
                found = [
                    f"{start}{name}/" for start in found for name in self.names(start or ".") if _fits(name, part)
                ]
            else:
                found = [f"{start}{part}/" for start in found]
        return [path[:-1] for path in found if self.stat(path[:-1])]

    def drop_ins(self, folders: Iterable[str]) -> list[str]:
        """The ``*.conf`` in some folders in the order of their names; the first folder that has a name wins."""
        found: dict[str, str] = {}
        for folder in folders:
            for name in self.names(folder):
                if name.endswith(".conf"):
                    found.setdefault(name, f"{folder}/{name}")
        return [found[name] for name in sorted(found)]

    def link(self, path: str) -> str:
        """Where a link says that it leads; empty when it is none, or may not be read."""
        try:
            return self.take_link(path)
        except OSError:
            return ""

    def take_link(self, path: str) -> str:
        """Where a link says that it leads; it is not followed.

        Raises:
            OSError: It is none, or may not be read.
        """
        found = self.open(path, os.O_PATH | os.O_NOFOLLOW)
        try:
            return os.readlink("", dir_fd=found)
        finally:
            os.close(found)

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result | None:
        """The file's status; None when it is not there, or may not be seen."""
        try:
            found = self.open(path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
        except OSError as error:
            if error.errno not in _ABSENT:
                self.miss(f"/{path}", error.strerror or str(error))
            return None
        try:
            return os.fstat(found)
        finally:
            os.close(found)

    def open(self, path: str, flags: int) -> int:
        """A descriptor of what the path leads to inside the folder; with O_PATH it is not touched itself.

        Raises:
            OSError: The kernel does not open it.
        """
        try:
            name = os.fsencode(path) if path else b"."
        except UnicodeEncodeError:
            raise OSError(errno.EINVAL, "its name is no path") from None
        if b"\0" in name:
            raise OSError(errno.EINVAL, "its name is no path")
        how = _HOW.pack(flags | os.O_CLOEXEC, 0, self.resolve)
        found: int = _LIBC.syscall(_OPENAT2, self.folder, name, how, _HOW.size)
        if found < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return found


@contextmanager
def looking(root: Path, *, limits: Limits | None = None) -> Iterator[Look]:
    """A look that begins now.

    Raises:
        MachineError: The folder is not there, or the kernel is older than 5.6 (openat2).
    """
    limits = limits or Limits()
    try:
        folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MachineError(f"{root} cannot be looked at: {error.strerror}.") from None
    try:
        end = time.monotonic() + limits.seconds
        look = Look(root=root, folder=folder, limits=limits, notes=Notes(), end=end)
        _need_openat2(look)
        yield look
    finally:
        os.close(folder)


def _need_openat2(look: Look) -> None:
    try:
        os.close(look.open(".", os.O_PATH))
    except OSError as error:
        raise MachineError(
            f"This kernel does not open files below a folder safely (openat2: {error.strerror}).",
            hint="Linux 5.6 or newer is needed, and no seccomp filter that refuses openat2.",
        ) from None


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) and (not name.startswith(".") or pattern.startswith("."))


def without_credentials(text: str) -> str:
    """The text with user names and passwords taken out of addresses."""
    return _CREDENTIALS.sub(r"\1…@", text)
