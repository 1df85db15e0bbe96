"""Brings published CVE data here when it is named by an address: archives over HTTP, repositories with git."""

from __future__ import annotations

import hashlib
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from kmend.kit.cache import cache_root
from kmend.kit.errors import InputError, ProgramError, SourceError
from kmend.kit.files import lock, scratch
from kmend.kit.progress import Progress
from kmend.kit.run import run

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".json")
_SCHEMES = ("http", "https", "file", "git", "ssh")
_SILENCE = 60
_LARGEST = 4 << 30
_BLOCK = 1 << 20


def is_address(location: str) -> bool:
    """Whether it is a URL rather than a path."""
    return "://" in location


def local(location: str, *, progress: Progress) -> Path:
    """The file or folder that a path or an address means; what was fetched is kept in the cache and renewed.

    Args:
        location: A path, or the URL of an archive, a JSON file or a git repository.
        progress: Told when something is fetched.

    Raises:
        InputError: The address is of a kind that is not known.
        SourceError: It cannot be fetched.
    """
    if not is_address(location):
        return Path(location)
    scheme = urlsplit(location).scheme
    if scheme not in _SCHEMES:
        raise InputError(f"{location} begins with {scheme}://.", hint=f"Known are {', '.join(_SCHEMES)}.")
    folder = cache_root() / "records" / hashlib.sha256(location.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    name = urlsplit(location).path.rsplit("/", 1)[-1]
    with lock(folder / ".lock", what=f"the copy of {location}", wait=True):
        progress.step(f"Fetching {location}")
        if scheme in {"http", "https"} and name.endswith(_ARCHIVES):
            return _downloaded(location, folder / name, progress)
        return _cloned(location, folder / "clone")


def _downloaded(url: str, into: Path, progress: Progress) -> Path:
    """What an address holds, in a file that is exchanged only when all of it is here."""
    try:
        request = urllib.request.Request(url)  # noqa: S310 - http and https only
        with urllib.request.urlopen(request, timeout=_SILENCE) as answer, scratch(into.parent) as work:  # noqa: S310
            total = int(answer.headers.get("Content-Length") or 0)
            done = 0
            with (work / into.name).open("wb") as file:
                while block := answer.read(_BLOCK):
                    done += len(block)
                    if done > _LARGEST:
                        raise SourceError(f"{url} is larger than {_LARGEST >> 30} GiB.")
                    file.write(block)
                    progress.amount(done >> 20, max(total, done) >> 20, unit="MiB")
            if done < total:
                raise SourceError(f"{url} broke off after {done} of {total} bytes.", hint="Try again.")
            (work / into.name).replace(into)
    except (OSError, HTTPException) as error:
        raise SourceError(
            f"{url} cannot be fetched: {error}", hint="Fetch it by hand and name the file."
        ) from None
    return into


def _cloned(url: str, into: Path) -> Path:
    """A clone without history; an older one is brought up to date."""
    try:
        if (into / ".git").exists():
            run(("git", "-C", into, "fetch", "--quiet", "--depth", "1", "origin", "HEAD"), timeout=3600)
            run(("git", "-C", into, "reset", "--quiet", "--hard", "FETCH_HEAD"), timeout=600)
        else:
            with scratch(into.parent) as work:
                run(("git", "clone", "--quiet", "--depth", "1", url, work / "clone"), timeout=3600)
                (work / "clone").rename(into)
    except ProgramError as error:
        last = error.output.strip().splitlines()[-1:] or [error.message]
        raise SourceError(
            f"{url} cannot be cloned: {last[0]}", hint="Clone it by hand and name the folder."
        ) from None
    return into
