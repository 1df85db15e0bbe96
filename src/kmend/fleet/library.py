"""Learns from the signed repository what published livepatches hold, so that people can look at it and search.

Nothing here decides what a host is offered: an agent verifies everything anew, and by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from kmend.fleet.store.database import Database
from kmend.fleet.store.livepatches import KnownLivepatch, LivepatchKey, concerned, keep_livepatch, seen_in
from kmend.fleet.store.livepatches import find_livepatch as find_known
from kmend.fleet.store.things import channels
from kmend.kit.errors import MachineError
from kmend.model.host import ChannelEntry
from kmend.model.kernel import Kernel
from kmend.trust.repository import SignedRepository, open_repository


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A livepatch that a channel lists."""

    channel: str
    entry: ChannelEntry

    @property
    def key(self) -> LivepatchKey:
        return self.entry.livepatch.kernel.build_id, self.entry.livepatch.number


def learn(database: Database, repository: Path, *, now: datetime) -> int:
    """Learn of livepatches for the fleet's kernels: the newest of each channel, those that run, those of rollouts.

    Everything is verified as an agent does it, from the first root that lies in the folder.

    Args:
        database: Where it is kept; all servers of the fleet show it.
        repository: The folder that is served under /repository.
        now: The server's time.

    Returns:
        How many were new, or new in a channel.

    Raises:
        TrustError: The repository does not hold.
        MachineError: The folder cannot be read, or the database does not answer.
    """
    with database.reading() as connection:
        kernels, numbered = concerned(connection)
        known = seen_in(connection)
        names = [channel.name for channel in channels(connection)]
    learned = 0
    with TemporaryDirectory(prefix="kmend-library-") as cache:
        for channel in names:
            opened = _open(repository, channel, Path(cache))
            wanted = {key for key in numbered if channel not in known.get(key, ())}
            for found in _listed(opened, channel, kernels, wanted):
                learned += _keep(database, opened, found, now)
    return learned


def _open(repository: Path, channel: str, cache: Path) -> SignedRepository:
    first = repository / "metadata" / "1.root.json"
    try:
        root = first.read_bytes()
    except OSError as error:
        raise MachineError(f"{first} cannot be read: {error.strerror}.", hint="`kmend release init`.") from error
    return open_repository(str(repository), channel=channel, pinned_root=root, cache=cache)


def _listed(
    opened: SignedRepository, channel: str, kernels: Iterable[str], numbered: Iterable[LivepatchKey]
) -> Iterable[_Found]:
    """Each livepatch that the channel lists, of those that matter."""
    wanted: list[tuple[str, int | None]] = [(build_id, None) for build_id in sorted(kernels)]
    wanted += sorted(numbered)
    for build_id, number in wanted:
        entry = opened.offered(Kernel(release="", version="", build_id=build_id), number=number)
        if entry is not None:
            yield _Found(channel=channel, entry=entry)


def _keep(database: Database, opened: SignedRepository, found: _Found, now: datetime) -> bool:
    with database.reading() as connection:
        before = find_known(connection, *found.key)
    if before is not None and found.channel in before.channels:
        return False
    livepatch = found.entry.livepatch
    known = before or KnownLivepatch(
        manifest=livepatch,
        report=opened.lab_report(livepatch.kernel, number=livepatch.number),
        channels=(),
        published=found.entry.published,
    )
    with database.writing() as connection:
        keep_livepatch(connection, replace(known, channels=(*known.channels, found.channel)), now=now)
    return True
