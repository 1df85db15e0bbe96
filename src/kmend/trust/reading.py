"""The steps of the TUF client that are the same for every repository: refresh, and download what is listed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuf.api.exceptions import DownloadError, LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from kmend.kit.files import sync_folder, write_problem
from kmend.trust.download import CutError
from kmend.trust.refusal import Refusal, reason_of, refused


def refreshed(address: str, *, cache: Path, pinned_root: bytes, fetcher: FetcherInterface) -> Updater:
    """A TUF client whose top-level metadata was fetched and verified, and is on the disk.

    Args:
        address: Where the metadata lies.
        cache: Folder for what was seen last.
        pinned_root: Content of the root.json that everything starts from.
        fetcher: How to reach the address.

    Raises:
        TrustError: Something does not hold, or could not be fetched.
        MachineError: The cache cannot be written, e.g. because the disk is full.
    """
    with refusals("The repository's metadata", cache=cache):
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = UpdaterConfig(prefix_targets_with_hash=True)
        updater = Updater(str(cache), address, fetcher=fetcher, config=config, bootstrap=pinned_root)
        try:
            updater.refresh()
        finally:
            _make_durable(cache)
    return updater


def download(info: TargetFile, url: str, *, fetcher: FetcherInterface, limit: int) -> bytes:
    """The bytes of a listed file, with the length and the hashes that were signed.

    Raises:
        TrustError: They are others, more than ``limit``, or could not be fetched.
    """
    name = info.path
    if info.length > limit:
        raise refused(Refusal.TOO_LONG, what=name, detail=f"{info.length} bytes, {limit} are allowed")
    with refusals(name):
        content: bytes = fetcher.download_bytes(url, info.length)
    if len(content) < info.length:
        raise refused(Refusal.CUT, what=name, detail=f"{len(content)} of {info.length} bytes came")
    try:
        info.verify_length_and_hashes(content)
    except LengthOrHashMismatchError as error:
        raise refused(Refusal.ALTERED, what=name, detail=str(error)) from error
    return content


@contextmanager
def refusals(what: str, *, cache: Path | None = None) -> Iterator[None]:
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
