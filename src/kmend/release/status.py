"""What a repository offers, and when which signature runs out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kmend.model.host import ChannelEntry
from kmend.release.keyring import ROOT, load_keyring
from kmend.release.metadata import Contents
from kmend.release.repository import Place, load_contents, metadata_names, read_entry


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleStatus:
    """One signed file: its version and how long it holds."""

    role: str
    version: int
    expires: datetime
    remaining_hours: float
    due: bool
    """Half of its lifetime is over: `kmend release refresh` would renew it (for root: `kmend keys rotate`)."""
    expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferStatus:
    """What one channel holds for one kernel."""

    channel: str
    kernel_release: str
    build_id: str
    number: int
    cves: tuple[str, ...]
    module: str
    module_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStatus:
    """The whole repository."""

    channels: tuple[str, ...]
    offers: tuple[OfferStatus, ...]
    roles: tuple[RoleStatus, ...]


def release_status(repo: Path, keys: Path, *, now: datetime) -> ReleaseStatus:
    """What a repository holds now; only reads, and private keys are not needed.

    Raises:
        InputError: It is no complete repository.
        TrustError: Somebody else wrote to it.
    """
    place = Place(repo=repo, keys=keys, keyring=load_keyring(keys))
    contents = load_contents(place)
    root = place.published_root
    roles = [_role_status(place, ROOT, version=root.version, expires=root.expires, now=now)]
    for name in metadata_names(contents):
        signed = contents.role(name).signed
        roles.append(_role_status(place, name, version=signed.version, expires=signed.expires, now=now))
    offers = [_offer(channel, entry) for channel, entry in _entries(place, contents)]
    return ReleaseStatus(channels=place.keyring.channels, offers=tuple(offers), roles=tuple(roles))


def published(repo: Path, keys: Path, *, build_id: str) -> tuple[tuple[str, ChannelEntry], ...]:
    """Channel and entry of every livepatch that was published for a kernel, by number; only reads.

    Raises:
        InputError: It is no complete repository.
        TrustError: Somebody else wrote to it.
    """
    place = Place(repo=repo, keys=keys, keyring=load_keyring(keys))
    contents = load_contents(place)
    found = [
        (channel, entry)
        for channel, metadata in contents.channels.items()
        for path in metadata.signed.targets
        if re.search(rf"/{re.escape(build_id)}/\d+\.json$", path) and (entry := read_entry(repo, contents, path))
    ]
    return tuple(sorted(found, key=lambda pair: pair[1].livepatch.number))


def _entries(place: Place, contents: Contents) -> list[tuple[str, ChannelEntry]]:
    return [
        (channel, entry)
        for channel, metadata in contents.channels.items()
        for path in sorted(metadata.signed.targets)
        if path.endswith("/entry.json") and (entry := read_entry(place.repo, contents, path))
    ]


def _offer(channel: str, entry: ChannelEntry) -> OfferStatus:
    livepatch = entry.livepatch
    return OfferStatus(
        channel=channel,
        kernel_release=livepatch.kernel.release,
        build_id=livepatch.kernel.build_id,
        number=livepatch.number,
        cves=livepatch.cves,
        module=livepatch.module,
        module_sha256=entry.module_sha256,
    )


def _role_status(place: Place, role: str, *, version: int, expires: datetime, now: datetime) -> RoleStatus:
    left = expires - now
    return RoleStatus(
        role=role,
        version=version,
        expires=expires,
        remaining_hours=round(left.total_seconds() / 3600, 1),
        due=left < place.keyring.lifetime(role) / 2,
        expired=left.total_seconds() <= 0,
    )
