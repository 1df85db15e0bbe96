"""Loading and removing kernel modules by system call: no insmod, and no file that could change on the way."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from pathlib import Path
from typing import Protocol

from kmend.kit.errors import MachineError

# Numbers of finit_module and delete_module; asm/unistd.h
_NUMBERS = {"x86_64": (313, 176), "aarch64": (273, 106)}
_FINIT, _DELETE = 0, 1

_REASONS = {
    errno.ENOEXEC: "it is not a module for this kernel",
    errno.EKEYREJECTED: "its signature is rejected",
    errno.ENOKEY: "it is signed by a key that this kernel does not have",
    errno.EBADMSG: "its signature cannot be read",
    errno.EINVAL: "the livepatch does not fit this kernel",
    errno.ENOENT: "it needs a symbol that this kernel does not have",
    errno.EEXIST: "a module of this name is loaded already",
    errno.ENOMEM: "the kernel has no memory for it",
    errno.EPERM: "this is not allowed here (not root, a locked-down kernel, or kernel.modules_disabled)",
    errno.EBUSY: "the kernel is busy with another livepatch",
}


class ModuleError(MachineError):
    """The kernel did not load or remove a module; ``code`` is its errno."""

    def __init__(self, message: str, *, hint: str = "", code: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.code = code


def module_name(file: str | Path) -> str:
    """A module's name as the kernel writes it: ``kernel/net/foo-bar.ko.xz`` is ``foo_bar``."""
    return Path(file).name.split(".ko")[0].replace("-", "_")


class Loader(Protocol):
    """What changes the set of loaded modules."""

    def load(self, name: str, content: bytes) -> None:
        """Load a module from these bytes.

        Raises:
            ModuleError: The kernel refuses.
        """

    def remove(self, name: str) -> None:
        """Remove a module that is not in use.

        Raises:
            ModuleError: The kernel refuses; EAGAIN while it is in use.
        """


class KernelLoader:
    """The real kernel."""

    def load(self, name: str, content: bytes) -> None:
        """finit_module(2) on an anonymous file that holds exactly the verified bytes."""
        reading = _memory_file(name, content)
        try:
            _call(f"load {name}", _FINIT, reading, ctypes.c_char_p(b""), 0)
        finally:
            os.close(reading)

    def remove(self, name: str) -> None:
        """delete_module(2), without waiting and never by force."""
        _call(f"remove {name}", _DELETE, ctypes.c_char_p(name.encode()), os.O_NONBLOCK)


def _call(what: str, call: int, *words: object) -> None:
    """Make a system call that libc has no function for.

    Raises:
        ModuleError: The kernel refuses.
        MachineError: The number of the call is not known on this architecture.
    """
    machine = platform.machine()
    if machine not in _NUMBERS:
        raise MachineError(f"kmend does not know how to load modules on {machine}.")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_NUMBERS[machine][call], *words) != 0:
        raise module_error(what, ctypes.get_errno())


def module_error(what: str, code: int) -> ModuleError:
    """The error for an errno, in words."""
    reason = _REASONS.get(code, os.strerror(code))
    return ModuleError(
        f"The kernel does not {what}: {reason} ({errno.errorcode.get(code, code)}).",
        hint="The kernel's own words, if it said any, are above or in `dmesg`.",
        code=code,
    )


def loaded_modules(root: Path = Path("/")) -> tuple[str, ...]:
    """Names of the modules that are loaded now."""
    return tuple(sorted(path.parent.name for path in (root / "sys/module").glob("*/initstate")))


def _memory_file(name: str, content: bytes) -> int:
    """A read-only descriptor of an anonymous file.

    The kernel refuses to load from a file that is open for writing, so it is opened anew, and the writer closed.
    """
    writing = os.memfd_create(name)
    with os.fdopen(writing, "wb") as file:
        file.write(content)
        file.flush()
        return os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
