"""Verified reading of a repository: what a channel offers for a kernel, and the module itself.

What must hold, in the order in which it is checked (TUF specification, section 5.3):

1. The pinned root is the start; each newer root is signed by a threshold of its predecessor's keys and of its own.
2. The newest root has not expired.
3. ``timestamp`` is signed by the root's key, is not older than the one seen last, and has not expired.
4. ``snapshot`` is the very one that timestamp names (version, length, hash), signed, not expired, and takes
   nothing back.
5. ``targets`` is the one that snapshot names, signed, not expired.
6. The channel's role is the one that snapshot names, signed by the key that targets delegates the channel to, not
   expired; it can speak for paths under ``CHANNEL/`` only.
7. The entry has the length and hash that the channel's role gives it, and parses.
8. The entry is for the kernel that was asked for: same build id.
9. The module lies under the same prefix, has the length and hash that the channel's role gives it, and the hash
   that the entry gives it.
10. Without its appended signature the module is the one that the manifest was made for (length and hash).

Only then is there a VerifiedLivepatch. The kernel checks the module's own signature once more when it loads it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import DownloadError, LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import Metadata, TargetFile
from tuf.ngclient import Updater, UpdaterConfig

from kmend.kit.errors import InputError, TrustError
from kmend.kit.files import sync_folder, write_problem
from kmend.model import wire
from kmend.model.host import ChannelEntry
from kmend.model.kernel import Kernel
from kmend.trust import layout
from kmend.trust.download import CutError, Limits, open_source
from kmend.trust.module_file import split_signature
from kmend.trust.proof import SEAL, VerifiedLivepatch
from kmend.trust.refusal import Refusal, reason_of, refused


class SignedRepository:
    """One consistent, verified view of a repository; made by ``open_repository``."""

    def __init__(self, updater: Updater, *, channel: str, source: str, fetcher: Any, limits: Limits) -> None:
        self._updater = updater
        self._channel = channel
        self._source = source
        self._fetcher = fetcher
        self._limits = limits
        self._offered: dict[str, ChannelEntry | None] = {}

    def offered(self, kernel: Kernel) -> ChannelEntry | None:
        """What the channel holds for this kernel (points 5 to 8), or None.

        Raises:
            TrustError: Something does not hold, or could not be fetched.
        """
        if kernel.build_id not in self._offered:
            self._offered[kernel.build_id] = self._read_entry(kernel)
        return self._offered[kernel.build_id]

    def _read_entry(self, kernel: Kernel) -> ChannelEntry | None:
        target = layout.entry_target(self._channel, layout.check_build_id(kernel.build_id))
        content = self._target(target, self._limits.entry)
        if content is None:
            return None
        entry = _parse_entry(content, target)
        _check_kernel(entry, kernel)
        return entry

    def fetch(self, kernel: Kernel) -> VerifiedLivepatch | None:
        """The module that is offered for this kernel (points 8 to 10), as proof that every point held; or None.

        Raises:
            TrustError: Something does not hold, or could not be fetched.
        """
        entry = self.offered(kernel)
        if entry is None:
            return None
        expected = layout.module_target(self._channel, kernel.build_id, module=entry.livepatch.module)
        if entry.module_target != expected:
            raise refused(Refusal.INCONSISTENT, what=entry.module_target, detail=f"expected {expected}")
        content = self._target(entry.module_target, self._limits.module)
        if content is None:
            raise refused(Refusal.INCONSISTENT, what=entry.module_target, detail="the channel does not list it")
        _check_module(entry, content)
        return VerifiedLivepatch(entry=entry, channel=self._channel, content=content, seal=SEAL)

    def _target(self, path: str, limit: int) -> bytes | None:
        """A target's verified bytes, or None when no trusted role lists it."""
        with _refusals(path):
            info = self._updater.get_targetinfo(path)
        return None if info is None else self._download(info, limit)

    def _download(self, info: TargetFile, limit: int) -> bytes:
        name = info.path
        if info.length > limit:
            raise refused(Refusal.TOO_LONG, what=name, detail=f"{info.length} bytes, {limit} are allowed")
        sha256 = info.hashes.get("sha256")
        if not sha256:
            raise refused(Refusal.UNREADABLE, what=name, detail="signed without a SHA-256")
        url = f"{self._source}{layout.TARGETS}/{layout.stored_as(name, sha256)}"
        with _refusals(name):
            content: bytes = self._fetcher.download_bytes(url, info.length)
        if len(content) < info.length:
            raise refused(Refusal.CUT, what=name, detail=f"{len(content)} of {info.length} bytes came")
        try:
            info.verify_length_and_hashes(content)
        except LengthOrHashMismatchError as error:
            raise refused(Refusal.ALTERED, what=name, detail=str(error)) from error
        return content


def open_repository(
    source: str, *, channel: str, pinned_root: bytes, cache: Path, limits: Limits | None = None
) -> SignedRepository:
    """Fetch and verify the signed metadata (points 1 to 4; the rest when asked).

    Args:
        source: http(s):// or file:// address, or a folder.
        channel: The stream to follow.
        pinned_root: Content of the root.json that this host was enrolled with.
        cache: Folder for what was seen last: the memory that makes rollbacks visible. It belongs to one host and
            one pinned root; it survives a kill at any moment.
        limits: What a download may cost.

    Raises:
        TrustError: Something does not hold, or could not be fetched.
        MachineError: The cache cannot be written, e.g. because the disk is full.
        InputError: The address or the channel's name cannot be used.
    """
    bounds = limits or Limits()
    fetcher, base = open_source(source, limits=bounds)
    layout.check_channel(channel)
    with _refusals("The repository's metadata", cache=cache):
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        updater = Updater(
            str(cache),
            f"{base}{layout.METADATA}/",
            fetcher=fetcher,
            config=UpdaterConfig(prefix_targets_with_hash=True),
            bootstrap=pinned_root,
        )
        try:
            updater.refresh()
        finally:
            _make_durable(cache)
    return SignedRepository(updater, channel=channel, source=base, fetcher=fetcher, limits=bounds)


def fetch(
    source: str, *, channel: str, kernel: Kernel, pinned_root: bytes, cache: Path, limits: Limits | None = None
) -> VerifiedLivepatch | None:
    """The verified livepatch that a channel offers for a kernel, or None; see ``open_repository``."""
    repository = open_repository(source, channel=channel, pinned_root=pinned_root, cache=cache, limits=limits)
    return repository.fetch(kernel)


def check_root(content: bytes) -> tuple[int, datetime]:
    """Version and expiry of a root.json that is about to be pinned.

    Raises:
        InputError: It is no root metadata, or not signed by a threshold of its own keys.
    """
    try:
        root = Metadata[Any].from_bytes(content)
        if root.signed.type != "root":
            raise InputError(f"This is {root.signed.type} metadata, not root metadata.")
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    except (RepositoryError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"This is not a root.json that holds: {error}", hint="`kmend keys init` leaves one in its folder."
        ) from None
    return root.signed.version, root.signed.expires


def _parse_entry(content: bytes, target: str) -> ChannelEntry:
    try:
        return wire.load(ChannelEntry, content, what=target)
    except InputError as error:
        raise refused(Refusal.UNREADABLE, what=target, detail=error.message) from error


def _check_kernel(entry: ChannelEntry, kernel: Kernel) -> None:
    offered = entry.livepatch.kernel
    if offered.build_id != kernel.build_id:
        raise TrustError(
            f"Livepatch {entry.livepatch.number} was built for another kernel: {offered.release} with build id "
            f"{offered.build_id}, but this kernel is {kernel.release} with build id {kernel.build_id}.",
            hint="Publish a livepatch that was built for this kernel.",
            reason=Refusal.OTHER_KERNEL,
        )


def _check_module(entry: ChannelEntry, content: bytes) -> None:
    name = entry.module_target
    if hashlib.sha256(content).hexdigest() != entry.module_sha256:
        raise refused(Refusal.INCONSISTENT, what=name, detail="not the hash that the entry gives")
    unsigned, _ = split_signature(content)
    manifest = entry.livepatch
    if len(unsigned) != manifest.size or hashlib.sha256(unsigned).hexdigest() != manifest.sha256:
        raise refused(Refusal.INCONSISTENT, what=name, detail="not the module that the manifest was made for")


@contextmanager
def _refusals(what: str, *, cache: Path | None = None) -> Iterator[None]:
    """Turn what the TUF client raises into the one sentence that says what is wrong."""
    try:
        yield
    except CutError as error:
        raise refused(Refusal.CUT, what=what, detail=str(error)) from error
    except (RepositoryError, DownloadError) as error:
        raise refused(reason_of(error), what=what, detail=_detail(error)) from error
    except OSError as error:
        raise write_problem(Path(error.filename or cache or "?"), error) from error


def _detail(error: Exception) -> str:
    text = str(error)
    # What download.py raises says it all; what the client raises names the reason in its cause only.
    cause = "" if isinstance(error, DownloadError) else str(error.__cause__ or "")
    return f"{text}: {cause}" if cause and cause not in text else text


def _make_durable(cache: Path) -> None:
    """Put what was seen on the disk: a power cut must not bring back an older view."""
    for folder in (cache / "root_history", cache):
        for path in folder.glob("*.json"):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if folder.is_dir():
            sync_folder(folder)
