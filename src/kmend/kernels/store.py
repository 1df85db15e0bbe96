"""The kits on this machine: fetch them, load them. Several runs can use one kit at once: nobody writes to it."""

from __future__ import annotations

from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from kmend.kernels import places
from kmend.kernels.bring import CHANGELOG, bring, bring_packages
from kmend.kernels.provider import provider
from kmend.kernels.record import load, releases, tree_of, version_of
from kmend.kit.errors import InputError, SourceError
from kmend.kit.progress import Progress, Silent
from kmend.model.kernel import Kit, OfferedKernel

__all__ = [
    "changelog",
    "fetch",
    "find",
    "is_newer",
    "lists_age",
    "load",
    "newest_source",
    "offered",
    "oldest_and_newest",
    "pieces_hint",
    "releases",
    "renew",
    "renew_hint",
    "source",
    "version_of",
]


def offered() -> tuple[OfferedKernel, ...]:
    """All kernels that the configured sources offer now, complete or not, oldest first.

    Raises:
        SourceError: The package lists are empty.
    """
    return provider().offered()


def lists_age() -> float | None:
    """Seconds since the package lists were brought up to date; None where it cannot be told."""
    return provider().lists_age()


def renew() -> None:
    """Bring the package lists up to date; the distribution may ask for root.

    Raises:
        MachineError: This user may not.
        SourceError: A mirror does not answer; the old lists are still there.
        TrustError: A signature of the lists does not hold.
    """
    provider().renew()


def renew_hint() -> str:
    """Tells a person how to bring the package lists up to date."""
    return provider().RENEW_HINT


def pieces_hint() -> str:
    """Tells a person which sources have what kits need beside the images."""
    return provider().PIECES_HINT


def is_newer(version: str, other: str) -> bool:
    """Whether the first of two package versions is the newer one, as the distribution counts."""
    return provider().compare(version, other) > 0


def newest_source(series: str) -> str:
    """The newest version of a series of which the source can be had, with or without a full kit.

    Raises:
        SourceError: The sources offer none.
    """
    versions = [kernel.version for kernel in offered() if kernel.series == series and kernel.source is not None]
    if not versions:
        raise SourceError(f"The package sources offer no kernel source of {series}.", hint=renew_hint())
    return versions[-1]


def find(release: str, *, version: str = "") -> OfferedKernel:
    """The kernel of that name of which a full kit can be had; of several versions the newest.

    Raises:
        InputError: No such kernel is offered, or a piece of it is missing.
    """
    kernels = offered()
    named = [kernel for kernel in kernels if kernel.release == release and version in {"", kernel.version}]
    if not named:
        raise _unknown(release, version, kernels)
    complete = [kernel for kernel in named if kernel.complete]
    if not complete:
        raise InputError(
            f"No full kit of kernel {release} ({named[-1].version}) can be had: "
            f"not offered are {', '.join(named[-1].missing)}.",
            hint="Old kernels leave the mirrors. `kmend kernel list` shows those of which everything is there.",
        )
    return complete[-1]


def oldest_and_newest(
    series: str | None = None, flavour: str = "cloud-amd64"
) -> tuple[OfferedKernel, OfferedKernel]:
    """The oldest and the newest kernel of one series of which a full kit can be had.

    Without ``series``, the oldest series that has at least two such kernels.

    Raises:
        SourceError: There are not two of them.
    """
    complete = [kernel for kernel in offered() if kernel.complete and kernel.flavour == flavour]
    names = [series] if series else list(dict.fromkeys(kernel.series for kernel in complete))
    for name in names:
        fitting = [kernel for kernel in complete if kernel.series == name]
        if len(fitting) > 1:
            return fitting[0], fitting[-1]
    raise SourceError(
        f"The package sources do not offer two kernels with full kits of {series or 'any series'} ({flavour}).",
        hint=f"`kmend kernel list --all` shows what is missing. {renew_hint()}",
    )


def fetch(release: str, *, version: str = "", progress: Progress | None = None) -> Kit:
    """Make sure that a kernel's kit is here, and return it. What an interrupted run left is used.

    Args:
        release: As in ``uname -r``.
        version: A certain package version; without it the kit that is here will do, else the newest version.
        progress: Hears of the steps.

    Raises:
        InputError: No such kernel, or no full kit of it can be had.
        SourceError: A mirror did not deliver.
        TrustError: A package is not what the archive signed.
        MachineError: No space.
    """
    progress = progress or Silent()
    with suppress(InputError):
        return _load_version(release, version)
    offer = find(release, version=version)
    with places.one_fetch(offer.version, progress=progress):
        with suppress(InputError):
            return _load_version(release, offer.version)
        bring(offer, progress=progress)
    return load(release)


def source(series: str, version: str, *, progress: Progress | None = None) -> Path:
    """The source tree of any version that is offered, with or without a full kit. Never write to it.

    Raises:
        InputError: That version is not offered.
        SourceError: A mirror did not deliver.
        TrustError: A package is not what the archive signed.
        MachineError: No space.
    """
    progress = progress or Silent()
    tree = tree_of(version)
    if tree is not None:
        return tree
    package = provider().source_package(series, version)
    with places.one_fetch(version, progress=progress):
        if tree_of(version) is None:
            bring_packages((), package, kit=None, progress=progress)
    return _need_tree(version)


def changelog(version: str) -> Path:
    """The distribution's changelog of a source tree that is here, gzip-compressed.

    Raises:
        InputError: That source tree is not here.
    """
    path = places.source_folder(version) / CHANGELOG
    if not path.is_file():
        raise InputError(f"The changelog of {version} is not here.", hint="Fetch its source or kit first.")
    return path


def _load_version(release: str, version: str) -> Kit:
    kit = load(release)
    if version and kit.kernel.version != version:
        raise InputError(f"The kit of {release} here is of {kit.kernel.version}.")
    return kit


def _unknown(release: str, version: str, kernels: tuple[OfferedKernel, ...]) -> InputError:
    versions = [kernel.version for kernel in kernels if kernel.release == release]
    if versions:
        return InputError(
            f"Kernel {release} is not offered in version {version}.", hint=f"Offered: {', '.join(versions)}."
        )
    names = [kernel.release for kernel in kernels if kernel.complete]
    near = get_close_matches(release, names, n=3, cutoff=0.5)
    hint = f"Near ones: {', '.join(near)}. " if near else ""
    return InputError(
        f"The package sources offer no kernel {release}.", hint=f"{hint}`kmend kernel list` shows all."
    )


def _need_tree(version: str) -> Path:
    tree = tree_of(version)
    if tree is None:
        raise SourceError(f"The source package of {version} holds no kernel tree.")
    return tree
