"""Everything about one Kernel that the builder looks up: symbols, exports, modules, sizes of structures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from kmend.elf.btf import struct_sizes
from kmend.elf.reader import ElfFile
from kmend.elf.running import VMLINUX, Running, RunningKernel, RunningModule
from kmend.elf.tables import STRUCTURES
from kmend.kit.errors import InputError
from kmend.model.kernel import Kit

# CRC, name, owner, kind of export, and (since Linux 5.4) namespace, which may be empty.
_EXPORT = re.compile(r"0x([0-9a-f]{1,8})\t([^\t]+)\t([^\t]+)(?:\t[^\t]*(?:\t([^\t]*))?)?")


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
        """The linked kernel."""
        return RunningKernel(self.kit.vmlinux)

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of the structures that special sections are made of."""
        return struct_sizes(self.vmlinux.elf, STRUCTURES)

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
            InputError: The kit lacks the module's debug file.
        """
        if name == VMLINUX:
            return self.vmlinux
        if name not in self.module_files:
            return None
        if name not in self._modules:
            path = self.module_files[name]
            debug = self.kit.debug_modules / path.with_name(path.name.split(".ko")[0] + ".ko")
            if not debug.exists():
                raise InputError(
                    f"The kit has no debug file for module {name} ({debug}).",
                    hint=f"Run `kmend kernel fetch {self.kit.kernel.release}` again.",
                )
            self._modules[name] = RunningModule(name, debug, ElfFile(self.kit.modules / path))
        return self._modules[name]

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


def module_name(path: str) -> str:
    """A module's name as the kernel writes it, from its file name or path."""
    return Path(path).name.split(".ko")[0].replace("-", "_")
