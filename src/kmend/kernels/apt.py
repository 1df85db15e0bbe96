"""apt, as far as kmend asks it: what is offered, and downloads that apt itself verifies. Needs no root."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path

from debian.deb822 import Deb822

from kmend.kit.errors import KmendError, MachineError, ProgramError, SourceError, TrustError
from kmend.kit.files import scratch
from kmend.kit.progress import Progress
from kmend.kit.run import run, spawn
from kmend.model.kernel import Package

log = logging.getLogger(__name__)

UPDATE_HINT = "Bring the package lists up to date with `apt-get update` (as root), then try again."

_LOOK_EVERY = 0.2
_APT_HELPER = "/usr/lib/apt/apt-helper"
_NETWORK = re.compile(
    r"Could not (?:resolve|connect)|Unable to connect|Connection (?:failed|refused|reset|timed out)"
    r"|Temporary failure|Cannot initiate|Network is unreachable|No route to host|Read error|Data socket"
    r"|server closed|Error reading from server|Undetermined Error|50[0-9]  ",
    re.IGNORECASE,
)
_GONE = re.compile(r"404  Not Found|File not found|Can't find a source|Unable to locate|Version .* was not found")
_DAMAGED = re.compile(r"Hash Sum mismatch|unexpected size|Size mismatch", re.IGNORECASE)
_UNSIGNED = re.compile(r"could ?not be authenticated|unauthenticated|not signed", re.IGNORECASE)


def stanzas(prefix: str, wanted: re.Pattern[str]) -> Iterator[Deb822]:
    """Every version of every package that the sources offer, as apt-cache shows it.

    Args:
        prefix: What the package names begin with.
        wanted: Only names that match this whole are looked at.
    """
    names = run(["apt-cache", "pkgnames", prefix]).text.split()
    chosen = sorted(name for name in names if wanted.fullmatch(name))
    if not chosen:
        return
    # Exit code 100 means that a name is known but has no version (another package only mentions it).
    shown = run(["apt-cache", "show", "--all-versions", *chosen], check=False)
    for stanza in Deb822.iter_paragraphs(shown.text, use_apt_pkg=False):
        if "Filename" in stanza:  # an installed package that is offered no more has none
            yield stanza


def lists_age(*, now: float | None = None) -> float | None:
    """Seconds since ``apt-get update`` last brought something; None when that cannot be told."""
    asked = run(["apt-config", "shell", "LISTS", "Dir::State::lists/d"]).text
    folder = Path(asked.partition("=")[2].strip().strip("'"))
    times = [path.stat().st_mtime for path in (folder, folder / "partial") if path.is_dir()]
    return max(0.0, (time.time() if now is None else now) - max(times)) if times else None


def renew() -> None:
    """Bring the package lists up to date with ``apt-get update``.

    Raises:
        MachineError: It takes root, and this user is not.
        SourceError: A mirror does not answer; the old lists are still there.
        TrustError: A signature of the lists does not hold.
    """
    # Without the option, apt-get update calls a mirror that does not answer a success.
    done = run(["apt-get", "-q", "update", "-o", "APT::Update::Error-Mode=any"], timeout=1800, check=False)
    if done.code == 0:
        return
    said = done.stderr.decode(errors="replace")
    lines = [line.removeprefix("E:").strip() for line in said.splitlines() if line.startswith("E:")]
    text = lines[0] if lines else said.strip().rpartition("\n")[2]
    if "Permission denied" in said:
        raise MachineError(
            f"The package lists cannot be renewed: {text}",
            hint="Run as root, or give apt lists of your own with APT_CONFIG (docs/howto/update.md).",
        )
    if _UNSIGNED.search(said) or "GPG error" in said:
        raise TrustError(f"apt cannot authenticate the package lists: {text}", hint="Mend the apt sources.")
    raise SourceError(
        f"The package lists cannot be renewed: {text}", hint="Check the network and the apt sources."
    )


def download(packages: tuple[Package, ...], folder: Path, *, progress: Progress) -> None:
    """Download packages into a folder with ``apt-get download``, which checks signatures and hashes.

    Files that are there whole are checked and not fetched again; a part is continued where the mirror allows it.

    Raises:
        SourceError: A mirror does not answer, or no longer has a package. What has arrived is kept.
        TrustError: apt cannot authenticate a package, or its hash does not hold.
        MachineError: The disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [f"{package.name}={package.version}" for package in packages]
    continued = _continue_command(wanted, packages, folder)
    if continued:
        code, said = _watch(continued, packages, folder, progress=progress)
        if code != 0 and not _DAMAGED.search(said):
            raise _why(said, code)
    code, said = _watch(["apt-get", "-q", "download", *wanted], packages, folder, progress=progress)
    if code != 0:
        _drop_damaged(said, packages, folder)
        raise _why(said, code)


def file_of(package: Package, folder: Path) -> Path:
    """The file of a downloaded package.

    Raises:
        SourceError: It is not in ``folder``.
    """
    # apt writes the epoch's colon as %3a.
    version = package.version.replace(":", "%3a")
    found = sorted(folder.glob(f"{package.name}_{version}_*.deb"))
    if not found:
        raise SourceError(f"apt-get brought no file of {package.name} {package.version}.", hint=UPDATE_HINT)
    return found[0]


def _arrived(packages: tuple[Package, ...], folder: Path) -> int:
    total = 0
    for package in packages:
        for path in folder.glob(f"{package.name}_*.deb"):
            total += min(path.stat().st_size, package.size)
    return total


def _watch(args: list[str], packages: tuple[Package, ...], folder: Path, *, progress: Progress) -> tuple[int, str]:
    """Run a program of apt in ``folder`` and report how much of the packages has arrived; exit code and output."""
    total = sum(package.size for package in packages)
    with (
        tempfile.TemporaryFile() as output,
        spawn(args, cwd=folder, stdout=output, stderr=output) as process,
    ):
        while True:
            progress.amount(_arrived(packages, folder), total, unit="bytes")
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(_LOOK_EVERY)
                break
        output.seek(0)
        return code, output.read().decode(errors="replace")


def _continue_command(wanted: list[str], packages: tuple[Package, ...], folder: Path) -> list[str]:
    """The program of apt that continues parts of files, or nothing when there are none.

    ``apt-get download`` itself starts every part anew. It is run afterwards all the same, to check all files.
    """
    sizes = {package.name: package.size for package in packages}
    parts = {
        path.name: path
        for path in folder.glob("*.deb")
        if 0 < path.stat().st_size < sizes.get(path.name.partition("_")[0], 0)
    }
    if not parts:
        return []
    args: list[str] = []
    with scratch(folder, prefix="asked-") as empty:  # apt removes parts even when it is only asked for addresses
        told = run(["apt-get", "-q", "download", "--print-uris", *wanted], cwd=empty, check=False).text
    for line in told.splitlines():
        uri, _, rest = line.lstrip("'").partition("' ")
        name, _, size_and_digest = rest.partition(" ")
        if name in parts:
            _give_mirror_time(parts[name], uri)
            args += [uri, str(parts[name]), size_and_digest.partition(" ")[2]]
    return [_APT_HELPER, "download-file", *args] if args else []


def _give_mirror_time(part: Path, uri: str) -> None:
    """Give a part of a file the time that the mirror has for the whole.

    apt continues with ``If-Range``, and so only when the file's time is the mirror's; a killed apt leaves the
    present time. A wrong time does no harm: apt fetches the whole file, or the hash check fails.
    """
    changed = _last_modified(uri)
    if changed:
        os.utime(part, (changed, changed))


def _last_modified(uri: str) -> float | None:
    if not uri.startswith(("http://", "https://")):
        return None
    request = urllib.request.Request(uri, method="HEAD")  # noqa: S310 - the two schemes above only
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
    except (OSError, ValueError, TypeError) as error:
        log.debug("no time for %s: %s", uri, error)
        return None


def _drop_damaged(said: str, packages: tuple[Package, ...], folder: Path) -> None:
    """Remove what apt found to be damaged, so that the next try starts it anew."""
    if not _DAMAGED.search(said):
        return
    for failed in folder.glob("*.deb.FAILED"):
        failed.unlink()
    for package in packages:
        for path in folder.glob(f"{package.name}_*.deb"):
            if path.stat().st_size != package.size or package.name in said:
                path.unlink()


def _why(said: str, code: int) -> KmendError:
    """The error for what apt-get said when it failed."""
    lines = [line.removeprefix("E:").strip() for line in said.splitlines() if line.startswith("E:")]
    lines = [line for line in lines if not line.startswith("Unable to fetch some archives")]
    text = lines[0] if lines else said.strip().rpartition("\n")[2]
    if len(lines) > 1:
        text += f" (and {len(lines) - 1} more)"
    if "No space left" in said:
        return MachineError(
            f"The disk is full: {text}", hint="Free some space and try again; what has arrived is kept."
        )
    if _UNSIGNED.search(said):
        return TrustError(f"apt cannot authenticate the packages: {text}", hint="Mend the apt sources.")
    if _DAMAGED.search(said):
        return TrustError(
            f"A downloaded package does not have the hash that the archive signed: {text}", hint=UPDATE_HINT
        )
    if _NETWORK.search(said):
        return SourceError(
            f"The package mirror cannot be reached or broke off: {text}",
            hint="Check the network, then run the same command again; what has arrived is kept.",
        )
    if _GONE.search(said):
        return SourceError(f"A package has left the archive: {text}", hint=UPDATE_HINT)
    return ProgramError(f"apt-get download failed with exit code {code}: {text}", code=code, output=said)
