"""A repository's files: read, and changed so that a kill at any moment leaves the old state or the new one.

Every file but ``timestamp.json`` has a name that only the new state knows (a version or a hash in it), so writing
them changes nothing for clients. The last step replaces ``timestamp.json``, which names all the others. Before
that step a client of our own reads the new state through kmend.trust.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from kmend.kit.errors import InputError
from kmend.kit.files import lock, scratch, sha256_of, write_atomic
from kmend.model import wire
from kmend.model.host import ChannelEntry
from kmend.release.ceremony import root_versions
from kmend.release.keyring import SNAPSHOT, TARGETS, TIMESTAMP, Keyring
from kmend.release.keystore import find_signers, no_passphrase
from kmend.release.metadata import (
    Contents,
    check_signatures,
    delegations,
    link_snapshot,
    link_timestamp,
    sign_role,
)
from kmend.trust import layout

ReadBack = Callable[[Path], None]
"""Reads the new state as a client would, from a folder; raises when it does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A repository's folder, the keys folder that signs it, and the keyring in it."""

    repo: Path
    keys: Path
    keyring: Keyring

    @property
    def metadata(self) -> Path:
        """Where the metadata lies."""
        return self.repo / layout.METADATA

    @property
    def published_root(self) -> Root:
        """The root metadata that the published files were signed under: the newest that the repository holds."""
        published = [int(path.name.split(".")[0]) for path in self.metadata.glob("*.root.json")]
        return self._root(max(published, default=self.keyring.root_version))

    @property
    def newest_root(self) -> Root:
        """The root metadata that the next release goes out under."""
        return self._root(self.keyring.root_version)

    def _root(self, version: int) -> Root:
        content = (self.keys / "root" / f"{version}.root.json").read_bytes()
        return Metadata[Root].from_bytes(content).signed


@contextmanager
def writing(repo: Path) -> Iterator[None]:
    """Hold the repository's lock: two releases do not race.

    Raises:
        BusyError: Another release is under way.
    """
    with lock(repo / ".lock", what="kmend release"):
        yield


def load_contents(place: Place) -> Contents:
    """The published state, its signatures checked.

    Raises:
        InputError: The folder is no repository, or a file of it is missing or damaged.
        TrustError: Somebody else wrote to it.
    """
    try:
        contents = read_contents(place.repo)
    except FileNotFoundError as error:
        raise InputError(
            f"{place.repo} is not a complete repository: {error.filename} is missing.",
            hint=f"`kmend release init {place.repo} --keys DIR` makes a new one.",
        ) from None
    except (RepositoryError, ValueError, KeyError) as error:
        raise InputError(f"{place.repo} is damaged: {error}.", hint="Restore it from a copy.") from None
    for channel in place.keyring.channels:
        if channel not in contents.channels:
            raise InputError(f"The repository has no channel {channel}, but the keys have one.")
    check_signatures(contents, root=place.published_root)
    return contents


def read_contents(repo: Path) -> Contents:
    """The published state as it stands in the files; nothing is verified.

    Raises:
        FileNotFoundError: A file is missing.
    """
    folder = repo / layout.METADATA

    def read(name: str) -> Metadata[Any]:
        return Metadata[Any].from_bytes((folder / name).read_bytes())

    timestamp = read("timestamp.json")
    snapshot = read(f"{timestamp.signed.snapshot_meta.version}.snapshot.json")
    listed = snapshot.signed.meta
    targets: Metadata[Targets] = read(f"{listed['targets.json'].version}.targets.json")
    names = targets.signed.delegations.roles if targets.signed.delegations else {}
    return Contents(
        timestamp=timestamp,
        snapshot=snapshot,
        targets=targets,
        channels={name: read(f"{listed[f'{name}.json'].version}.{name}.json") for name in names or {}},
    )


def read_entry(repo: Path, contents: Contents, target: str) -> ChannelEntry | None:
    """A published entry, checked against the hash in the signed metadata; None when it is not listed."""
    content = read_target(repo, contents, target)
    return None if content is None else wire.load(ChannelEntry, content, what=target)


def read_target(repo: Path, contents: Contents, target: str) -> bytes | None:
    """A published target's bytes, checked; None when it is not listed.

    Raises:
        InputError: The file is missing or is not the one that was signed.
    """
    channel = target.split("/", maxsplit=1)[0]
    info = contents.channels[channel].signed.targets.get(target)
    if info is None:
        return None
    path = repo / layout.TARGETS / layout.stored_as(target, info.hashes["sha256"])
    try:
        if sha256_of(path) != info.hashes["sha256"]:
            raise InputError(f"{path} is not the file that was signed.", hint="Restore it from a copy.")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is missing.", hint="Restore it from a copy.") from None


def commit(
    place: Place,
    contents: Contents,
    *,
    roles: set[str],
    files: Mapping[str, bytes],
    now: datetime,
    read_back: ReadBack,
    first: bool = False,
) -> None:
    """Sign what has changed and make it the published state.

    Args:
        place: Repository and keys.
        contents: The new state; ``roles`` of it get new versions, snapshot and timestamp always do.
        roles: Which of targets and the channels have changed.
        files: New targets, by path.
        now: From when expiries count.
        read_back: Called with a folder that holds the new state, before clients can see it.
        first: There is no published state yet.
    """
    _sign(place, contents, roles, now=now, first=first)
    _write_files(place, contents, roles, files)
    roots = _new_roots(place)
    timestamp = contents.timestamp.to_bytes()
    with scratch(place.repo, prefix=".kmend-") as stage:
        _stage(place, stage, roots, timestamp)
        read_back(stage)
    # Roots after the timestamp: while keys change hands, it carries the signatures of both.
    if first:
        _write_roots(place, roots)
    write_atomic(place.metadata / "timestamp.json", timestamp)
    _write_roots(place, roots)


def _sign(place: Place, contents: Contents, roles: set[str], *, now: datetime, first: bool) -> None:
    if TARGETS in roles:
        contents.targets.signed.delegations = delegations(place.keyring)
    for role in (*sorted(roles - {SNAPSHOT, TIMESTAMP}), SNAPSHOT, TIMESTAMP):
        if role == SNAPSHOT:
            link_snapshot(contents)
        if role == TIMESTAMP:
            link_timestamp(contents)
        keys = place.keyring.role(role)
        signers = find_signers(place.keys, (*keys.keys, *keys.retiring), passphrase=no_passphrase)
        if not {record.keyid for record in keys.keys} <= {signer.public_key.keyid for signer in signers}:
            raise InputError(
                f"The private key for {role} is not in {place.keys}.",
                hint="Publish where all online keys are: `kmend keys list` shows them.",
            )
        lifetime = place.keyring.lifetime(role)
        sign_role(contents, role, signers=signers, lifetime=lifetime, now=now, first=first)


def _write_files(place: Place, contents: Contents, roles: set[str], files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        info = contents.channels[path.split("/")[0]].signed.targets[path]
        write_atomic(place.repo / layout.TARGETS / layout.stored_as(path, info.hashes["sha256"]), content)
    for role in (*sorted(roles - {SNAPSHOT, TIMESTAMP}), SNAPSHOT):
        metadata = contents.role(role)
        write_atomic(place.metadata / f"{metadata.signed.version}.{role}.json", metadata.to_bytes())


def _new_roots(place: Place) -> dict[int, bytes]:
    known = root_versions(place.keys, place.keyring)
    return {version: data for version, data in known.items() if not _root_path(place, version).exists()}


def _root_path(place: Place, version: int) -> Path:
    return place.metadata / f"{version}.root.json"


def _write_roots(place: Place, roots: Mapping[int, bytes]) -> None:
    for version in sorted(roots):
        write_atomic(_root_path(place, version), roots[version])


def _stage(place: Place, stage: Path, roots: Mapping[int, bytes], timestamp: bytes) -> None:
    """The new state as a folder of links, so that it can be read before it is published."""
    folder = stage / layout.METADATA
    folder.mkdir()
    for path in place.metadata.glob("*.json"):
        if path.name != "timestamp.json":
            os.link(path, folder / path.name)
    for version, data in roots.items():
        (folder / f"{version}.root.json").write_bytes(data)
    (folder / "timestamp.json").write_bytes(timestamp)
    (stage / layout.TARGETS).symlink_to((place.repo / layout.TARGETS).resolve())


def metadata_names(contents: Contents) -> Sequence[str]:
    """Every role but root, the slowest-changing first."""
    return (TARGETS, *contents.channels, SNAPSHOT, TIMESTAMP)
