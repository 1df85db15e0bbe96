"""Removes kits, source and build trees that no kit refers to, and what interrupted runs left."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cmp_to_key
from pathlib import Path

from kmend.kernels import places, record
from kmend.kernels.provider import provider
from kmend.kit.errors import InputError
from kmend.kit.files import lock
from kmend.model.kernel import Kit


class Kind(StrEnum):
    """What is removed."""

    KIT = "kit"
    SOURCE = "source"
    TREE = "build tree"
    LEFTOVER = "leftover"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """One folder to remove."""

    kind: Kind
    name: str
    path: Path
    size: int
    """Bytes on the disk."""


def plan(releases: Sequence[str] = (), *, keep: int | None = None) -> tuple[Removal, ...]:
    """What would be removed; nothing is touched.

    Args:
        releases: Kits to remove.
        keep: Remove all kits but this many, the newest. Without either, kits stay.

    Raises:
        InputError: There is no kit of that name here.
    """
    here = record.releases()
    for release in releases:
        if release not in here:
            raise InputError(
                f"There is no kit of kernel {release} here.", hint=f"Here are: {', '.join(here) or 'none'}."
            )
    going = set(releases) | set(_older(here, keep))
    kept = {record.version_of(release) for release in here if release not in going}
    built_for = {kit.kernel.build_id for kit in _kits([release for release in here if release not in going])}
    trees = [path for path in _visible(places.trees_folder()) if path.name not in built_for]
    sources = [path for path in _visible(places.sources_folder()) if path.name not in kept]
    return (
        *(_removal(Kind.KIT, places.kit_folder(release)) for release in sorted(going)),
        *(_removal(Kind.SOURCE, path) for path in sources),
        *(_removal(Kind.TREE, path) for path in trees),
        *(_removal(Kind.LEFTOVER, path) for path in _leftovers()),
    )


def carry_out(removals: Iterable[Removal]) -> int:
    """Remove what was planned, and return the bytes that this freed.

    Raises:
        BusyError: A fetch is under way.
    """
    freed = 0
    with _no_fetch():
        for removal in removals:
            places.remove(removal.path)
            freed += removal.size
    return freed


def size_of(folder: Path) -> int:
    """Bytes that a folder takes on the disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118 - 80,000 files
    return total


def _older(here: Sequence[str], keep: int | None) -> list[str]:
    if keep is None:
        return []
    whole = sorted(_kits(here), key=lambda kit: cmp_to_key(provider().compare)(kit.kernel.version), reverse=True)
    stay = {kit.kernel.release for kit in whole[:keep]}
    return [release for release in here if release not in stay]


def _kits(releases: Iterable[str]) -> Iterator[Kit]:
    for release in releases:
        try:
            yield record.load(release)
        except InputError:
            continue


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())


def _leftovers() -> list[Path]:
    parents = (places.kits_folder(), places.sources_folder())
    hidden = [path for parent in parents for path in parent.glob(".*")]
    return sorted([*hidden, *places.downloads_folder().glob("*")])


def _removal(kind: Kind, path: Path) -> Removal:
    return Removal(kind=kind, name=path.name, path=path, size=size_of(path))


@contextmanager
def _no_fetch() -> Iterator[None]:
    with ExitStack() as stack:
        for path in sorted(places.locks_folder().glob("fetch-*.lock")):
            stack.enter_context(lock(path, what="`kmend kernel fetch`"))
        yield
