"""A TUF client for any repository, kmend's or not: the agent's own steps behind the interface of tuf-conformance.

For development: what it downloads is not a VerifiedLivepatch, and nothing loads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Metadata, TargetFile
from tuf.ngclient import Updater

from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic
from kmend.trust import layout
from kmend.trust.download import Limits, open_source
from kmend.trust.reading import download, refreshed, refusals
from kmend.trust.repository import check_root

_PINNED = "pinned-root"
_ROOT = "root.json"


def init(seen: Path, trusted_root: bytes) -> None:
    """Let a folder start from this root; asks nobody. Once more with the same root changes nothing.

    Raises:
        InputError: It is no root that holds, or the folder started from another one.
    """
    check_root(trusted_root)
    pinned = seen / _PINNED
    if pinned.exists():
        if pinned.read_bytes() != trusted_root:
            raise InputError(f"{seen} started from another root.", hint="Take an empty folder.")
        return
    # Until the first refresh the pinned root is the newest one that is known.
    write_atomic(seen / _ROOT, trusted_root)
    write_atomic(pinned, trusted_root)


def refresh(seen: Path, address: str, *, limits: Limits | None = None) -> Updater:
    """Bring the top-level metadata in the folder up to what the repository has, verified.

    Args:
        seen: The folder; init made it.
        address: http(s):// or file:// address, or folder, of the repository's metadata.
        limits: What a download may cost.

    Raises:
        InputError: The folder has no root yet, or the address cannot be used.
        TrustError: Something does not hold, or could not be fetched.
    """
    pinned = seen / _PINNED
    if not pinned.exists():
        raise InputError(f"{seen} has no trusted root yet.", hint="Run init with a root.json first.")
    fetcher, base = open_source(address, limits=limits or Limits())
    return refreshed(base, cache=seen, pinned_root=pinned.read_bytes(), fetcher=fetcher)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One target, and where it comes from and goes to."""

    name: str
    address: str
    """http(s):// or file:// address, or folder, of the repository's targets."""
    folder: Path


def fetch(seen: Path, address: str, *, wanted: Wanted, limits: Limits | None = None) -> Path:
    """Refresh, and leave a target in a folder, verified; the file. It is not fetched again while it holds.

    Its name is the target's, with slashes and the like written as %XX.

    Raises:
        InputError: No trusted role lists it; or as refresh.
        TrustError: Something does not hold, or could not be fetched.
    """
    bounds = limits or Limits()
    updater = refresh(seen, address, limits=bounds)
    with refusals(wanted.name, cache=seen):
        info = updater.get_targetinfo(wanted.name)
    if info is None:
        raise InputError(f"No trusted role of the repository lists {wanted.name!r}.")
    path = wanted.folder / _file_name(wanted.name)
    if not _holds(path, info):
        fetcher, base = open_source(wanted.address, limits=bounds)
        url = base + _stored_as(info, seen)
        write_atomic(path, download(info, url, fetcher=fetcher, limit=bounds.module))
    return path


def _file_name(target: str) -> str:
    """A name of its own for each target, and never the name of another folder."""
    name = quote(target, safe="")
    return name.replace(".", "%2E") if name in {".", ".."} else name


def _holds(path: Path, info: TargetFile) -> bool:
    if not path.is_file():
        return False
    try:
        info.verify_length_and_hashes(path.read_bytes())
    except LengthOrHashMismatchError:
        return False
    return True


def _stored_as(info: TargetFile, seen: Path) -> str:
    """Where the repository keeps it: with a hash in its name if its newest root says so (section 6.2)."""
    root = Metadata[Any].from_bytes((seen / _ROOT).read_bytes()).signed
    if not root.consistent_snapshot:
        return info.path
    return layout.stored_as(info.path, info.hashes.get("sha256") or next(iter(info.hashes.values())))
