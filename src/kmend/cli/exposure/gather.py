"""What an exposure is computed from: the host's facts, and everything that was given beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from kmend.cli.facts import facts_of, facts_options
from kmend.exposure import kev
from kmend.exposure.actions import Newer
from kmend.exposure.assess import Asked, assess
from kmend.exposure.fetching import local
from kmend.exposure.index import read_all
from kmend.exposure.known import Statement, known, of_advisories, of_changelog
from kmend.kit.errors import InputError
from kmend.kit.progress import Progress
from kmend.linux import changelog
from kmend.linux.packages import cves_since, installed_kernels
from kmend.model import wire
from kmend.model.exposure import Exposure, KernelFiles
from kmend.model.facts import Facts
from kmend.model.kernel import Kernel
from kmend.model.livepatch import Livepatch

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_LARGEST = 256 << 20
_CHANGELOGS = ("changelog.Debian.gz", "changelog.gz")
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The options that say what to judge and by what."""

    facts: Path | None
    root: Path
    records: str
    kernel_files: Path | None = None
    manifest: Path | None = None
    kev: Path | None = None
    changelog: Path | None = None
    advisories: tuple[str, ...] = ()
    container: str = ""
    cve: str = ""


def given_options(command: _F) -> _F:
    """The options of ``Given`` but for the choice of container and CVE."""
    for option in (
        click.option(
            "--advisories",
            multiple=True,
            metavar="PATH|URL",
            help="OSV records or the Debian security tracker's JSON: what package versions closed.",
        ),
        click.option(
            "--changelog",
            type=_FILE,
            help="Changelog of the kernel's package; that of this host is found by itself.",
        ),
        click.option("--kev", type=_FILE, help="CISA's known_exploited_vulnerabilities.json."),
        click.option(
            "--manifest", type=_FILE, help="livepatch.json of a livepatch: in effect here, or to be applied."
        ),
        click.option(
            "--kernel-files",
            type=_FILE,
            help="What `kmend kernel files` wrote: the code that this kernel contains.",
        ),
        click.option(
            "--records",
            default="",
            metavar="PATH|URL",
            help="The kernel CNA's records: a clone, an archive (.tar.zst, .zip), or the address of either.",
        ),
    ):
        command = option(command)
    return facts_options(command)


def exposure_of(given: Given, *, progress: Progress) -> tuple[Facts, Exposure]:
    """The facts of the host and its exposure.

    Raises:
        InputError: Something that was given is not what it should be, or of another kernel.
        SourceError: An archive is damaged, or cannot be fetched.
    """
    _need_records(given)
    progress.step("Looking at the host")
    facts = facts_of(given.facts, given.root)
    return facts, exposure_by(facts, given, progress=progress)


def _need_records(given: Given) -> None:
    if not given.records:
        raise InputError(
            "Without CVE records nothing can be said.",
            hint="Give --records: a clone of the kernel CNA's repository (vulns.git), or an archive of it.",
        )


def exposure_by(facts: Facts, given: Given, *, progress: Progress) -> Exposure:
    """The exposure of a host whose facts are known.

    Raises:
        InputError: Something that was given is not what it should be, or of another kernel.
        SourceError: An archive is damaged, or cannot be fetched.
    """
    records = read_all(local(given.records, progress=progress), progress=progress)
    read = {one.cve for one in records.records} | {one.cve for one in records.unread}
    if given.cve and given.cve not in read:
        raise InputError(
            f"There is no record of {given.cve} in {given.records}.", hint="Are the records up to date?"
        )
    files = _load(KernelFiles, given.kernel_files)
    manifest = _load(Livepatch, given.manifest)
    statements, missing = _statements(facts, given, progress)
    if files is None:
        missing.append("no --kernel-files: CVEs in code that this kernel does not contain are listed as open")
    progress.step("Judging the CVEs")
    asked = Asked(
        records=records,
        known=known(facts, statements=statements, manifest=manifest, files=files),
        exploited=kev.read(given.kev) if given.kev else {},
        manifest=manifest,
        newer=tuple(_newer(facts, given)),
        container=given.container,
        cve=given.cve,
        missing=tuple(missing),
    )
    found = assess(facts, asked)
    if given.container and not (found.containers or found.left_out):
        names = ", ".join(sorted(one.title for one in facts.containers)[:10]) or "none"
        raise InputError(f"There is no container {given.container} here.", hint=f"There are: {names}.")
    return found


def _load(kind: type[Any], path: Path | None) -> Any:
    if path is None:
        return None
    if path.stat().st_size > _LARGEST:
        raise InputError(f"{path} is larger than {_LARGEST >> 20} MiB.")
    return wire.load(kind, path.read_bytes(), what=str(path))


def _statements(facts: Facts, given: Given, progress: Progress) -> tuple[list[Statement], list[str]]:
    """What package versions closed, by everybody who was asked; and what is missing."""
    version = facts.kernel.package_version
    found: list[Statement] = []
    missing: list[str] = []
    if not version:
        return [], ["the kernel's package version is not known: only its release says what is closed"]
    path = given.changelog or _own_changelog(facts, given)
    said = of_changelog(changelog.read(path), version, name=path.name) if path else None
    if said is not None:
        found.append(said)
    elif given.changelog:
        raise InputError(f"{given.changelog} does not know version {version} of the kernel that the host runs.")
    else:
        missing.append(f"no changelog of the kernel's package ({version}): give it with --changelog")
    for one in given.advisories:
        statement = of_advisories(local(one, progress=progress), facts)
        if statement:
            found.append(statement)
        else:
            missing.append("the facts do not say which package the kernel is from, so no advisory was asked")
    return found, list(dict.fromkeys(missing))


def _own_changelog(facts: Facts, given: Given) -> Path | None:
    """The changelog of the running kernel's package on this host; saved facts have none."""
    if given.facts is not None:
        return None
    folder = given.root / "usr/share/doc" / f"linux-image-{facts.kernel.release}"
    return next((folder / name for name in _CHANGELOGS if (folder / name).is_file()), None)


def _newer(facts: Facts, given: Given) -> Iterator[Newer]:
    """Installed kernels that close more than the running one, by their changelogs."""
    running = facts.kernel
    if given.facts is not None or not running.package_version:
        return
    now = Kernel(release=running.release, version=running.package_version, build_id=running.build_id)
    for one in installed_kernels(given.root) or ():
        if one.version == running.package_version:
            continue
        try:
            cves = cves_since(now, one, given.root)
        except InputError:
            continue
        if cves:
            yield Newer(release=one.release, version=one.version, cves=cves)
