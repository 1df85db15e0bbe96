"""Downloads and unpacks what is missing of a kit or a source tree; goes on where an interrupted run was."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import fields
from pathlib import Path

from kmend.kernels import places
from kmend.kernels.provider import Layout, provider
from kmend.kernels.record import MARK, Piece, Record, is_whole, spelled, tree_of
from kmend.kernels.unpack import Job, tar_command, unpack
from kmend.kit.errors import SourceError
from kmend.kit.files import need_space, write_atomic
from kmend.kit.progress import Progress
from kmend.kit.run import run
from kmend.model import wire
from kmend.model.kernel import Kernel, OfferedKernel, Package

CHANGELOG = "changelog.gz"
# modules.dep and its companions, and what else is written after the packages were unpacked.
_EXTRA_BYTES = 20_000_000


def bring(offer: OfferedKernel, *, progress: Progress) -> None:
    """Download and unpack what is missing of a kit; its source tree first comes into being, then the kit."""
    bring_packages(
        () if is_whole(offer.release, offer.version) else offer.packages,
        None if tree_of(offer.version) else offer.source,
        kit=offer,
        progress=progress,
    )


def bring_packages(
    packages: tuple[Package, ...], source_package: Package | None, *, kit: OfferedKernel | None, progress: Progress
) -> None:
    """Download and unpack packages of one version: those of a kit, the one with the source tree, or both."""
    wanted = (*packages, source_package) if source_package else packages
    version = wanted[0].version
    downloads = places.downloads_folder() / version
    kit_partial = places.partial_of(places.kit_folder(kit.release), version=version) if kit and packages else None
    source_partial = places.partial_of(places.source_folder(version), version=version) if source_package else None
    _need_space(wanted, downloads)

    progress.step(f"Downloading {_named(kit, version)}, {len(wanted)} packages")
    provider().download(wanted, downloads, progress=progress)

    progress.step("Unpacking the small packages" if kit_partial else f"Unpacking {_named(kit, version)}")
    light, heavy = _jobs(
        packages, source_package, downloads, kit_partial or downloads, source_partial or downloads
    )
    unpack(light, progress=progress)
    if source_partial:
        heavy.append(_tree_job(source_partial))
    progress.step(f"Unpacking {' and '.join(_heavy_names(kit_partial, source_partial))}")
    unpack(heavy, progress=progress)

    if source_partial:
        _finish_source(source_partial, version)
    if kit and kit_partial:
        progress.step(f"Indexing the modules of {kit.release}")
        _finish_kit(kit_partial, kit)
    shutil.rmtree(downloads, ignore_errors=True)


def _named(kit: OfferedKernel | None, version: str) -> str:
    return f"the kit of {kit.release}" if kit else f"the source of {version}"


def _heavy_names(kit: Path | None, source: Path | None) -> list[str]:
    return [name for name, wanted in (("the debug symbols", kit), ("the source tree", source)) if wanted]


def _need_space(wanted: tuple[Package, ...], downloads: Path) -> None:
    arrived = sum(path.stat().st_size for path in downloads.glob("*.deb"))
    size = sum(package.size + package.unpacked for package in wanted) - arrived + _EXTRA_BYTES
    need_space(downloads, size=size, what="Fetching a kernel kit")


def _jobs(
    packages: tuple[Package, ...], source_package: Package | None, downloads: Path, kit: Path, tree: Path
) -> tuple[list[Job], list[Job]]:
    """What to unpack first, and what afterwards side by side with the source tree: the largest package."""
    jobs = [_job(package, downloads, kit) for package in sorted(packages, key=lambda package: package.size)]
    light, heavy = jobs[:-1], jobs[-1:]
    if source_package:
        light.append(_job(source_package, downloads, tree, into=tree / "package"))
    return light, heavy


def _job(package: Package, downloads: Path, partial: Path, *, into: Path | None = None) -> Job:
    folder = into or partial
    folder.mkdir(parents=True, exist_ok=True)
    return Job(
        archive=provider().file_of(package, downloads),
        command=provider().unpack_command(folder),
        done=partial / ".done" / package.name,
    )


def _tree_job(partial: Path) -> Job:
    folder = partial / "tree"
    folder.mkdir(exist_ok=True)
    archive = provider().source_archive(partial / "package")
    return Job(archive=archive, command=tar_command(folder), done=partial / ".done" / "tree")


def _finish_source(partial: Path, version: str) -> None:
    """``sources/VERSION/`` holds one folder, the tree, and the changelog."""
    changelog = provider().changelog(partial / "package")
    if changelog:
        changelog.replace(partial / CHANGELOG)
    for tree in (partial / "tree").iterdir():
        tree.rename(partial / tree.name)
    for name in ("package", "tree", ".done"):
        shutil.rmtree(partial / name)
    places.put_in_place(partial, places.source_folder(version))


def _finish_kit(partial: Path, offer: OfferedKernel) -> None:
    layout = provider().layout(offer.release)
    # A distribution writes modules.dep when a kernel is installed; the lab's guest needs it too.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    run(["depmod", "-b", partial, offer.release], env={"PATH": path})
    pieces = _pieces(layout, partial)
    record = Record(
        kernel=Kernel(release=offer.release, version=offer.version, build_id=_build_id(partial / layout.vmlinux)),
        series=offer.series,
        compiler=_compiler(partial / layout.config),
        pieces=pieces,
    )
    shutil.rmtree(partial / ".done")
    write_atomic(partial / MARK, wire.dump(record))
    places.put_in_place(partial, places.kit_folder(offer.release))


def _pieces(layout: Layout, folder: Path) -> tuple[Piece, ...]:
    pieces = []
    for field in fields(layout):
        relative: Path = getattr(layout, field.name)
        path = folder / relative
        if not path.exists():
            raise SourceError(f"The packages did not contain the {spelled(field.name)}: no {relative}.")
        size = 0 if path.is_dir() else path.stat().st_size
        pieces.append(Piece(name=field.name, path=str(relative), size=size))
    return tuple(pieces)


def _build_id(vmlinux: Path) -> str:
    found = re.search(r"Build ID: ([0-9a-f]{8,})", run(["readelf", "--wide", "--notes", vmlinux]).text)
    if not found:
        raise SourceError(f"{vmlinux.name} has no GNU build id.")
    return found[1]


def _compiler(config: Path) -> str:
    """What the kernel's configuration says of its compiler (CONFIG_CC_VERSION_TEXT)."""
    found = re.search(r'^CONFIG_CC_VERSION_TEXT="(.+)"$', config.read_text(), re.MULTILINE)
    if not found:
        raise SourceError(f"{config.name} does not say which compiler built the kernel.")
    return found[1]
