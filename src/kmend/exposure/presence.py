"""Whether a kernel contains the code that a CVE record names, by the list of files that it was built from."""

from __future__ import annotations

from collections import defaultdict
from enum import StrEnum
from functools import cached_property
from pathlib import PurePosixPath
from typing import NamedTuple

from kmend.exposure.concern import is_no_code
from kmend.exposure.units import VMLINUX, Units
from kmend.model.exposure import KernelFiles
from kmend.model.kernel import Kernel, Kit

_MACHINE = "x86"
_CODE = (".c", ".h", ".S", ".rs")


class Presence(StrEnum):
    """Where the code of a CVE is."""

    BUILT_IN = "built-in"
    MODULE = "module"
    HEADER = "header"
    """The record names only headers, and this kernel may use them: nobody knows where their code went."""
    REST = "rest"
    """The code that goes with them is not built, but headers are named that this kernel may use."""
    ABSENT = "absent"
    UNKNOWN = "unknown"
    """The kernel's source has none of the files: the code may have been elsewhere."""


class Place(NamedTuple):
    """The code of one CVE in one kernel."""

    presence: Presence
    files: tuple[tuple[str, tuple[str, ...]], ...]
    """Each file that is in the kernel, as it is called there, with the objects that hold it."""

    @property
    def objects(self) -> tuple[str, ...]:
        """All objects, sorted."""
        return tuple(sorted({name for _, names in self.files for name in names}))


def kernel_files(kit: Kit, units: Units) -> KernelFiles:
    """The list to carry to hosts: what the kit's debug information says, and which files its source has at all."""
    objects = dict(units.objects)
    for file, roots in units.included.items():
        objects[file] = tuple(sorted({name for root in roots for name in units.objects.get(root, ())}))
    folders: dict[str, list[str]] = defaultdict(list)
    for path in kit.source.rglob("*"):
        if path.suffix in _CODE and path.is_file():
            folders[path.parent.relative_to(kit.source).as_posix()].append(path.name)
    return KernelFiles(
        kernel=Kernel(release=kit.kernel.release, version=kit.kernel.version, build_id=kit.kernel.build_id),
        objects=dict(sorted(objects.items())),
        sources={folder: tuple(sorted(names)) for folder, names in sorted(folders.items())},
    )


def is_of_another_machine(named: tuple[str, ...], machine: str) -> bool:
    """Whether all code that a record names is another architecture's (``machine``: a folder of ``arch/``)."""
    code = [PurePosixPath(file).parts[:2] for file in named if not is_no_code(file)]
    return bool(code and machine) and all(len(one) > 1 and one[0] == "arch" and one[1] != machine for one in code)


class Finder:
    """Looks files up in one kernel's list."""

    def __init__(self, files: KernelFiles) -> None:
        self._objects = files.objects
        self._sources = {folder: frozenset(names) for folder, names in files.sources.items()}

    def place(self, named: tuple[str, ...]) -> Place:
        """Where the files of a record are."""
        if not named:
            return Place(Presence.UNKNOWN, ())
        code = [self._as_here(file) for file in named if not is_no_code(file)]
        built = tuple((file, self._objects[file]) for file in code if self._objects.get(file))
        if built:
            inside = any(VMLINUX in names for _, names in built)
            return Place(Presence.BUILT_IN if inside else Presence.MODULE, built)
        headers = tuple((file, ()) for file in code if file.endswith(".h") and self._may_be_used(file))
        if headers:
            only = all(file.endswith(".h") for file in code)
            return Place(Presence.HEADER if only else Presence.REST, headers)
        if code and not any(self._exists(file) for file in code):
            return Place(Presence.UNKNOWN, ())
        return Place(Presence.ABSENT, ())

    def _as_here(self, file: str) -> str:
        """The file of that name in a folder of that name, where mainline has moved it since."""
        if file in self._objects or self._exists(file):
            return file
        alike = self._by_tail.get(PurePosixPath(file).parts[-2:], ())
        return alike[0] if len(alike) == 1 else file

    @cached_property
    def _by_tail(self) -> dict[tuple[str, ...], list[str]]:
        found: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for known in self._objects:
            found[PurePosixPath(known).parts[-2:]].append(known)
        return found

    def _exists(self, file: str) -> bool:
        folder, _, name = file.rpartition("/")
        return name in self._sources.get(folder or ".", ())

    @cached_property
    def _folders(self) -> frozenset[str]:
        """Every folder below which something is built."""
        return frozenset(str(above) for file in self._objects for above in PurePosixPath(file).parents)

    def _may_be_used(self, header: str) -> bool:
        """Whether code of this kernel could include a header: not another machine's, nor an unbuilt folder's."""
        parts = PurePosixPath(header).parts
        if parts[0] == "arch" and parts[1:2] != (_MACHINE,):
            return False
        if parts[0] == "include" or parts[:3] == ("arch", _MACHINE, "include"):
            return True
        folder = parts[: parts.index("include")] if "include" in parts else parts[:-1]
        return "/".join(folder) in self._folders
