"""Everything about one Kernel that the builder looks up: symbols, exports, modules, sizes of structures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from kmend.build import registered
from kmend.elf.btf import struct_sizes
from kmend.elf.reader import ElfFile
from kmend.elf.running import VMLINUX, Running, RunningKernel, RunningModule
from kmend.elf.tables import STRUCTURES
from kmend.kit.errors import InputError
from kmend.linux.kernel import note_build_id
from kmend.linux.modules import module_name
from kmend.model.kernel import Kit

# CRC, name, owner, kind of export, and (since Linux 5.4) namespace, which may be empty.
_EXPORT = re.compile(r"0x([0-9a-f]{1,8})\t([^\t]+)\t([^\t]+)(?:\t[^\t]*(?:\t([^\t]*))?)?")
_MODULE_NOTE = ".note.gnu.build-id"


class Export(NamedTuple):
    """One line of Module.symvers."""

    crc: int
    owner: str
    """``vmlinux`` or the module's name."""
    namespace: str


class KernelView:
    """Lazy look-ups in a Kit. What is read once is kept."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self._modules: dict[str, RunningModule] = {}

    @cached_property
    def vmlinux(self) -> RunningKernel:
        """The linked kernel.

        Raises:
            InputError: It is another kernel's, or damaged.
        """
        found = RunningKernel(self.kit.vmlinux)
        build_id = _build_id(found.elf, ".notes")
        if build_id not in {"", self.kit.kernel.build_id}:
            raise InputError(
                f"{self.kit.vmlinux} is of another kernel: its build id is {build_id}, "
                f"the kit's is {self.kit.kernel.build_id}.",
                hint=_again(self.kit),
            )
        return found

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of the structures that special sections are made of."""
        return struct_sizes(self.vmlinux.elf, STRUCTURES)

    @cached_property
    def klp_sizes(self) -> Mapping[str, int]:
        """Bytes of the structures by which a livepatch registers its functions."""
        return struct_sizes(self.vmlinux.elf, registered.STRUCTURES)

    @cached_property
    def exports(self) -> Mapping[str, Export]:
        """Exported symbols by name."""
        return read_symvers(self.kit.symvers)

    @cached_property
    def module_files(self) -> Mapping[str, Path]:
        """Modules that this kernel comes with: name to path below ``Kit.modules``."""
        root = self.kit.modules
        return {module_name(path.name): path.relative_to(root) for path in sorted(root.rglob("*.ko*"))}

    def running(self, name: str) -> Running | None:
        """The kernel or a module as it runs; None when this kernel has no such module.

        Raises:
            InputError: The kit lacks the module or its debug file, or the two do not belong together.
        """
        if name == VMLINUX:
            return self.vmlinux
        if name not in self.module_files and name not in self._debug_files:
            return None
        if name not in self._modules:
            self._modules[name] = self._module(name)
        return self._modules[name]

    @cached_property
    def _debug_files(self) -> Mapping[str, Path]:
        return {module_name(path.name): path for path in sorted(self.kit.debug_modules.rglob("*.ko*"))}

    def _module(self, name: str) -> RunningModule:
        for files, what in ((self.module_files, "module"), (self._debug_files, "debug file of module")):
            if name not in files:
                raise InputError(
                    f"The kit of {self.kit.kernel.release} lacks the {what} {name}.", hint=_again(self.kit)
                )
        shipped, debug = ElfFile(self.kit.modules / self.module_files[name]), self._debug_files[name]
        found = RunningModule(name, debug, shipped)
        if _build_id(shipped, _MODULE_NOTE) != _build_id(found.elf, _MODULE_NOTE):
            raise InputError(
                f"{debug} does not belong to {shipped.path}: their build ids differ.", hint=_again(self.kit)
            )
        return found

    def sample_module(self) -> ElfFile:
        """Any module of the kernel, to compare what all modules must have in common."""
        path = min(self.module_files.values())
        return ElfFile(self.kit.modules / path)


def read_symvers(path: Path) -> dict[str, Export]:
    """Exported symbols by name, from a Module.symvers (Documentation/kbuild/modules.rst).

    Raises:
        InputError: A line is of another form; the error names it.
    """
    found = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        match = _EXPORT.fullmatch(line)
        if match is None:
            raise InputError(f"{path}, line {number} is no line of a Module.symvers: {line[:80]!r}.")
        found[match[2]] = Export(int(match[1], 16), module_name(match[3]), match[4] or "")
    return found


def _build_id(elf: ElfFile, section: str) -> str:
    """The GNU build id in a section, or "" where it holds none."""
    found = elf.section(section)
    return note_build_id(elf.content(found)) if found else ""


def _again(kit: Kit) -> str:
    release = kit.kernel.release
    return f"Make the kit anew: `kmend kernel prune {release}`, then `kmend kernel fetch {release}`."
