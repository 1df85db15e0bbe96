"""Files that are whole or absent: atomic writes, locks, scratch folders, hashes, free space."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kmend.kit.errors import BusyError, MachineError

_CHUNK = 1 << 20


def write_atomic(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Write a file so that a kill at any moment leaves the old content or the new one, on the disk."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_problem(path: Path, error: OSError) -> MachineError:
    """The error for a file that cannot be written; a full disk is named as such."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return MachineError(f"The disk is full: {path} cannot be written.", hint="Free some space and try again.")
    reason = error.strerror or str(error)
    hint = "Run as root." if error.errno in {errno.EACCES, errno.EPERM} else ""
    return MachineError(f"{path} cannot be written: {reason}.", hint=hint)


def file_problem(error: OSError) -> MachineError:
    """The error for a file that could not be read or written, where nobody said which of the two."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}:
        return write_problem(Path(str(error.filename or "a file")), error)
    return MachineError(f"{error.filename or 'A file'} cannot be used: {error.strerror or error}.")


@contextmanager
def lock(path: Path, *, what: str, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock; the kernel frees it when the process ends, however it ends.

    Raises:
        BusyError: Another run holds it (only without ``wait``).
        MachineError: The file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise write_problem(path, error) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise BusyError(
                f"Another run of {what} is under way (it holds {path}).",
                hint="Wait until it has ended, then try again.",
            ) from None
        yield


@contextmanager
def scratch(parent: Path, *, prefix: str = "kmend-") -> Iterator[Path]:
    """A folder of its own that is gone after the block. What a killed run left in ``parent`` goes first.

    Every scratch folder carries a lock held by its owner, so only abandoned ones are removed.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    with (folder / ".owner").open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path, prefix: str) -> None:
    for marker in parent.glob(f"{prefix}*/.owner"):
        try:
            with marker.open("r+") as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(marker.parent, ignore_errors=True)
        except OSError:
            continue


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as 64 lower-case hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def need_space(folder: Path, *, size: int, what: str) -> None:
    """Check that a file system has room.

    Raises:
        MachineError: Fewer than ``size`` bytes are free where ``folder`` lies (or will lie).
    """
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < size:
        raise MachineError(
            f"{what} needs {size / 1e9:.1f} GB in {folder}, but only {free / 1e9:.1f} GB are free.",
            hint="Free some space (`kmend kernel prune` removes kits), or set XDG_CACHE_HOME to a larger disk.",
        )
