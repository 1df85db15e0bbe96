"""TUF metadata of a repository in memory: made, extended, signed. No files here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from kmend.kit.errors import TrustError
from kmend.release.keyring import SNAPSHOT, TARGETS, TIMESTAMP, Keyring, tuf_key

_HASHES = ["sha256"]


@dataclass(slots=True, kw_only=True)
class Contents:
    """The signed metadata of one state of a repository; python-tuf's classes are mutable, and so is this."""

    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    targets: Metadata[Targets]
    channels: dict[str, Metadata[Targets]]

    def role(self, name: str) -> Metadata[Any]:
        """One role's metadata."""
        fixed: dict[str, Metadata[Any]] = {
            TIMESTAMP: self.timestamp,
            SNAPSHOT: self.snapshot,
            TARGETS: self.targets,
        }
        return fixed[name] if name in fixed else self.channels[name]


def empty_contents(keyring: Keyring, *, now: datetime) -> Contents:
    """A repository without livepatches; versions are 0, the first signature makes them 1."""
    return Contents(
        timestamp=Metadata(Timestamp(version=1, expires=now)),
        snapshot=Metadata(Snapshot(version=1, expires=now)),
        targets=Metadata(Targets(version=1, expires=now)),
        channels={name: Metadata(Targets(version=1, expires=now)) for name in keyring.channels},
    )


def delegations(keyring: Keyring) -> Delegations:
    """Each channel speaks for the paths under its own name, and nobody else does."""
    keys = {}
    roles = {}
    for name in keyring.channels:
        records = keyring.role(name)
        keys.update({record.keyid: tuf_key(record) for record in records.keys})
        roles[name] = DelegatedRole(
            name=name,
            keyids=[record.keyid for record in records.keys],
            threshold=records.threshold,
            terminating=True,
            paths=[f"{name}/*/*"],
        )
    return Delegations(keys=dict(keys), roles=roles)


def add_targets(contents: Contents, channel: str, files: Mapping[str, bytes]) -> None:
    """List files in a channel's role; the same path again replaces what it named."""
    for path, content in files.items():
        contents.channels[channel].signed.targets[path] = TargetFile.from_data(path, content, _HASHES)


def roles_due(contents: Contents, keyring: Keyring, *, root: Root, now: datetime) -> set[str]:
    """Which of targets and the channels need a new signature: half of the lifetime is over, or keys have changed.

    ``snapshot`` and ``timestamp`` are in it when they are due by themselves.
    """
    due = {
        role
        for role in (TARGETS, SNAPSHOT, TIMESTAMP, *contents.channels)
        if contents.role(role).signed.expires - now < keyring.lifetime(role) / 2
    }
    wanted = delegations(keyring)
    if contents.targets.signed.delegations != wanted:
        due.add(TARGETS)
    delegating = Targets(delegations=wanted)
    for role in (TARGETS, SNAPSHOT, TIMESTAMP, *contents.channels):
        if not _holds(contents.role(role), role, delegator=delegating if role in contents.channels else root):
            due.add(role)
    return due


def check_signatures(contents: Contents, *, root: Root) -> None:
    """Make sure that nobody but the keys wrote what is about to be extended and signed again.

    Raises:
        TrustError: A role's signature does not hold.
    """
    for role in (TARGETS, SNAPSHOT, TIMESTAMP, *contents.channels):
        delegator = contents.targets.signed if role in contents.channels else root
        if not _holds(contents.role(role), role, delegator=delegator):
            raise TrustError(
                f"The repository's {role}.json is not signed by the key that it was published with.",
                hint="Somebody else wrote to the repository. Restore it from a copy; do not publish on top of it.",
                reason="wrong-key",
            )


def _holds(metadata: Metadata[Any], role: str, *, delegator: Root | Targets) -> bool:
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (UnsignedMetadataError, ValueError):
        return False
    return True


def sign_role(
    contents: Contents,
    role: str,
    *,
    signers: Iterable[CryptoSigner],
    lifetime: timedelta,
    now: datetime,
    first: bool,
) -> None:
    """Give one role its next version, a new expiry and new signatures."""
    metadata = contents.role(role)
    if not first:
        metadata.signed.version += 1
    metadata.signed.expires = (now + lifetime).replace(microsecond=0)
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)


def link_snapshot(contents: Contents) -> None:
    """Let snapshot name every targets role by version, length and hash."""
    roles = {TARGETS: contents.targets, **contents.channels}
    contents.snapshot.signed.meta = {f"{name}.json": _meta_file(metadata) for name, metadata in roles.items()}


def link_timestamp(contents: Contents) -> None:
    """Let timestamp name the snapshot."""
    contents.timestamp.signed.snapshot_meta = _meta_file(contents.snapshot)


def _meta_file(metadata: Metadata[Any]) -> MetaFile:
    return MetaFile.from_data(metadata.signed.version, metadata.to_bytes(), _HASHES)
