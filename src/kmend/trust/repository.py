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
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, TargetFile
from tuf.ngclient import Updater

from kmend.kit.errors import InputError, TrustError
from kmend.kit.files import write_atomic, write_problem
from kmend.model import wire
from kmend.model.host import ChannelEntry
from kmend.model.kernel import Kernel
from kmend.model.lab import LabReport
from kmend.trust import layout
from kmend.trust.download import Limits, Network, open_source
from kmend.trust.module_file import split_signature
from kmend.trust.proof import SEAL, VerifiedLivepatch
from kmend.trust.reading import download, refreshed, refusals
from kmend.trust.refusal import Refusal, refused


class SignedRepository:
    """One consistent, verified view of a repository; made by ``open_repository``."""

    def __init__(
        self, updater: Updater, *, channel: str, source: str, fetcher: Any, limits: Limits, cache: Path
    ) -> None:
        self._updater = updater
        self._cache = cache
        self._channel = channel
        self._source = source
        self._fetcher = fetcher
        self._limits = limits
        self._offered: dict[tuple[str, int | None], ChannelEntry | None] = {}
        self._entry_files: dict[str, bytes] = {}

    def offered(self, kernel: Kernel, *, number: int | None = None) -> ChannelEntry | None:
        """What the channel holds for this kernel (points 5 to 8), or None.

        Args:
            kernel: The kernel.
            number: An earlier livepatch that the channel still lists, instead of the newest.

        Raises:
            TrustError: Something does not hold, or could not be fetched.
        """
        key = (kernel.build_id, number)
        if key not in self._offered:
            self._offered[key] = self._read_entry(kernel, number)
        return self._offered[key]

    def _read_entry(self, kernel: Kernel, number: int | None) -> ChannelEntry | None:
        build_id = layout.check_build_id(kernel.build_id)
        target = layout.entry_target(self._channel, build_id)
        if number is not None:
            target = layout.numbered_entry_target(self._channel, build_id, number=number)
        info = self._listed(target)
        if info is None:
            return None
        content = self._download(info, self._limits.entry)
        entry = _parse_entry(content, target)
        _check_kernel(entry, kernel)
        if number is not None and entry.livepatch.number != number:
            detail = f"it holds livepatch {entry.livepatch.number}"
            raise refused(Refusal.INCONSISTENT, what=target, detail=detail)
        self._entry_files[_file_of(info)] = content
        return entry

    def keep(self, kernel: Kernel, folder: Path, *, number: int | None = None) -> None:
        """Keep in a folder what this view offers, so that it can be opened again without the repository.

        The folder holds the timestamp, the entries that were read, and the module; the rest of the metadata stays
        in the cache. Opening it checks every point anew, expiries too.

        Raises:
            TrustError: Something does not hold, or could not be fetched.
            MachineError: It cannot be written.
        """
        entry = self.offered(kernel, number=number)
        module = self._listed(entry.module_target) if entry else None
        kept = {} if module is None else {_file_of(module): module.length}
        new = dict(self._entry_files)
        try:
            for name, length in kept.items():
                if not _has(folder, name, length) and (verified := self.fetch(kernel, number=number)):
                    new[name] = verified.content
            _write_kept(folder, new, keep=set(kept), timestamp=(self._cache / "timestamp.json").read_bytes())
        except OSError as error:
            raise write_problem(folder, error) from error

    def fetch(self, kernel: Kernel, *, number: int | None = None) -> VerifiedLivepatch | None:
        """The module that is offered for this kernel (points 8 to 10), as proof that every point held; or None.

        ``number`` asks for an earlier livepatch that the channel still lists.

        Raises:
            TrustError: Something does not hold, or could not be fetched.
        """
        entry = self.offered(kernel, number=number)
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

    def lab_report(self, kernel: Kernel, *, number: int) -> LabReport | None:
        """The report of the lab that let a livepatch out, when the channel still lists it.

        Raises:
            TrustError: Something does not hold, or could not be fetched.
        """
        path = layout.report_target(self._channel, layout.check_build_id(kernel.build_id), number=number)
        content = self._target(path, self._limits.entry)
        if content is None:
            return None
        try:
            return wire.load(LabReport, content, what=path)
        except InputError as error:
            raise refused(Refusal.UNREADABLE, what=path, detail=error.message) from error

    def kernel_files(self, kernel: Kernel) -> bytes | None:
        """The list of source files of this kernel (a KernelFiles as JSON); None when the channel has none.

        Raises:
            TrustError: Something does not hold, or could not be fetched.
        """
        build_id = layout.check_build_id(kernel.build_id)
        return self._target(layout.files_target(self._channel, build_id), self._limits.module)

    def _target(self, path: str, limit: int) -> bytes | None:
        """A target's verified bytes, or None when no trusted role lists it."""
        info = self._listed(path)
        return None if info is None else self._download(info, limit)

    def _listed(self, path: str) -> TargetFile | None:
        with refusals(path):
            return self._updater.get_targetinfo(path)

    def _download(self, info: TargetFile, limit: int) -> bytes:
        url = f"{self._source}{layout.TARGETS}/{_file_of(info)}"
        return download(info, url, fetcher=self._fetcher, limit=limit)


def open_repository(
    source: str,
    *,
    channel: str,
    pinned_root: bytes,
    cache: Path,
    limits: Limits | None = None,
    network: Network | None = None,
) -> SignedRepository:
    """Fetch and verify the signed metadata (points 1 to 4; the rest when asked).

    Args:
        source: http(s):// or file:// address, or a folder.
        channel: The stream to follow.
        pinned_root: Content of the root.json that this host was enrolled with.
        cache: Folder for what was seen last: the memory that makes rollbacks visible. It belongs to one host and
            one pinned root; it survives a kill at any moment.
        limits: What a download may cost.
        network: How to reach a web server.

    Raises:
        TrustError: Something does not hold, or could not be fetched.
        MachineError: The cache cannot be written, e.g. because the disk is full.
        InputError: The address or the channel's name cannot be used.
    """
    bounds = limits or Limits()
    fetcher, base = open_source(source, limits=bounds, network=network)
    layout.check_channel(channel)
    updater = refreshed(f"{base}{layout.METADATA}/", cache=cache, pinned_root=pinned_root, fetcher=fetcher)
    return SignedRepository(updater, channel=channel, source=base, fetcher=fetcher, limits=bounds, cache=cache)


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


def _file_of(info: TargetFile) -> str:
    """Where a target lies under ``targets/``."""
    sha256 = info.hashes.get("sha256")
    if not sha256:
        raise refused(Refusal.UNREADABLE, what=info.path, detail="signed without a SHA-256")
    return layout.stored_as(info.path, sha256)


def _has(folder: Path, name: str, length: int) -> bool:
    path = folder / layout.TARGETS / name
    return path.exists() and path.stat().st_size == length


def _write_kept(folder: Path, files: dict[str, bytes], *, keep: set[str], timestamp: bytes) -> None:
    """Make a folder hold these files and those to keep under ``targets/``; what is no longer wanted goes last."""
    targets = folder / layout.TARGETS
    for name, content in files.items():
        if not _has(folder, name, len(content)):
            write_atomic(targets / name, content, mode=0o600)
    place = folder / layout.METADATA / "timestamp.json"
    if not place.exists() or place.read_bytes() != timestamp:
        write_atomic(place, timestamp, mode=0o600)
    wanted = {targets / name for name in (*files, *keep)}
    for path in targets.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()


def _check_module(entry: ChannelEntry, content: bytes) -> None:
    name = entry.module_target
    if hashlib.sha256(content).hexdigest() != entry.module_sha256:
        raise refused(Refusal.INCONSISTENT, what=name, detail="not the hash that the entry gives")
    unsigned, _ = split_signature(content)
    manifest = entry.livepatch
    if len(unsigned) != manifest.size or hashlib.sha256(unsigned).hexdigest() != manifest.sha256:
        raise refused(Refusal.INCONSISTENT, what=name, detail="not the module that the manifest was made for")
