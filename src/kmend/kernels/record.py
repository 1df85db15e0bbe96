"""What is on this machine: whole kits and source trees, as ``kit.json`` describes them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from kmend.kernels import places
from kmend.kernels.provider import Layout
from kmend.kit.errors import InputError
from kmend.model import wire
from kmend.model.kernel import Kernel, Kit

MARK = "kit.json"
_NAMES = sorted(field.name for field in fields(Layout))


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One piece of a kit: name of the field of Kit, path below the kit's folder, bytes (0 for a folder)."""

    name: str
    path: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What kit.json says; it is written last, so its presence means that the kit is whole."""

    kernel: Kernel
    series: str
    compiler: str
    pieces: tuple[Piece, ...]


def releases() -> tuple[str, ...]:
    """Names of the kits here, whether they are in order or not."""
    folder = places.kits_folder()
    return tuple(sorted(path.name for path in folder.glob("[!.]*") if path.is_dir()))


def load(release: str) -> Kit:
    """The kit of a kernel, every piece of it present. Quick: nothing is read but kit.json and file sizes.

    Raises:
        InputError: There is no kit of that kernel here, or a piece of it is missing.
    """
    folder = places.kit_folder(release)
    hint = f"`kmend kernel fetch {release}` fetches what is missing."
    mark = folder / MARK
    if not mark.is_file():
        raise InputError(f"There is no kit of kernel {release} here.", hint=hint)
    record = wire.load(Record, mark.read_bytes(), what=str(mark))
    if sorted(piece.name for piece in record.pieces) != _NAMES:
        raise InputError(f"{mark} was written by another version of kmend.", hint=hint)
    for piece in record.pieces:
        _check(piece, folder, release=release, hint=hint)
    tree = tree_of(record.kernel.version)
    if tree is None:
        raise InputError(f"The kit of {release} lacks its source tree {record.kernel.version}.", hint=hint)
    paths = {piece.name: folder / piece.path for piece in record.pieces}
    return Kit(kernel=record.kernel, folder=folder, source=tree, compiler=record.compiler, **paths)


def version_of(release: str) -> str:
    """The package version of a kit here, in order or not; "" where that cannot be told."""
    try:
        mark = places.kit_folder(release) / MARK
        return wire.load(Record, mark.read_bytes(), what=str(mark)).kernel.version
    except (OSError, InputError):
        return ""


def is_whole(release: str, version: str) -> bool:
    """Whether the kit is in order but for its source tree."""
    folder = places.kit_folder(release)
    try:
        record = wire.load(Record, (folder / MARK).read_bytes(), what=MARK)
        for piece in record.pieces:
            _check(piece, folder, release=release, hint="")
    except (OSError, InputError):
        return False
    return record.kernel.version == version and sorted(piece.name for piece in record.pieces) == _NAMES


def tree_of(version: str) -> Path | None:
    """The source tree of a version, if it is here."""
    for makefile in places.source_folder(version).glob("*/Makefile"):
        return makefile.parent
    return None


def _check(piece: Piece, folder: Path, *, release: str, hint: str) -> None:
    path = folder / piece.path
    if not path.exists():
        raise InputError(f"The kit of {release} lacks its {spelled(piece.name)}: {path} is missing.", hint=hint)
    size = 0 if path.is_dir() else path.stat().st_size
    if size != piece.size:
        raise InputError(
            f"The kit of {release} is damaged: {path} has {size} bytes, expected {piece.size}.", hint=hint
        )


def spelled(name: str) -> str:
    """A piece's name as a person would say it."""
    return {"debug_modules": "modules with debug information", "symvers": "Module.symvers"}.get(name, name)
