"""The running kernel: build id, release, package version, boot id, command line."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from kmend.kit.errors import MachineError
from kmend.model.host import HostKernel
from kmend.model.kernel import Kernel

_HEADER = struct.Struct("<III")
_GNU_BUILD_ID = 3
_PACKAGE = re.compile(r"\b(?:Debian|Ubuntu)\s+(\S+)")


def running_kernel(root: Path = Path("/")) -> HostKernel:
    """Identity of the running kernel, and of this boot.

    ``version`` is the package version where the distribution puts it into ``uname -v`` (Debian does), else empty.

    Raises:
        MachineError: /proc or /sys does not say.
    """
    kernel = Kernel(
        release=_text(root / "proc/sys/kernel/osrelease"),
        version=_package_version(_text(root / "proc/sys/kernel/version")),
        build_id=build_id_of(_read(root / "sys/kernel/notes")),
    )
    return HostKernel(kernel=kernel, boot_id=_text(root / "proc/sys/kernel/random/boot_id"))


def build_id_of(notes: bytes) -> str:
    """The GNU build id in a kernel's ELF notes, as lower-case hex.

    Raises:
        MachineError: There is none.
    """
    found = note_build_id(notes)
    if not found:
        raise MachineError("/sys/kernel/notes holds no GNU build id, so this kernel cannot be told from others.")
    return found


def note_build_id(notes: bytes) -> str:
    """The GNU build id in ELF notes, as lower-case hex; empty when there is none.

    Source: elf(5), Nhdr; names and values are padded to 4 bytes.
    """
    place = 0
    while place + _HEADER.size <= len(notes):
        name_size, value_size, kind = _HEADER.unpack_from(notes, place)
        begin = place + _HEADER.size
        value = begin + _padded(name_size)
        if kind == _GNU_BUILD_ID and notes[begin : begin + name_size] == b"GNU\0":
            found = notes[value : value + value_size]
            if found and len(found) == value_size:
                return found.hex()
        place = value + _padded(value_size)
    return ""


def command_line(root: Path = Path("/")) -> tuple[str, ...]:
    """The words of the kernel command line."""
    return tuple(_text(root / "proc/cmdline").split())


def machine_id(root: Path = Path("/")) -> str:
    """What tells this machine from others (machine-id(5)); its host name where there is none."""
    for name in ("etc/machine-id", "var/lib/dbus/machine-id", "proc/sys/kernel/hostname"):
        try:
            if text := (root / name).read_text().strip():
                return text
        except (OSError, UnicodeDecodeError):
            continue
    return ""


def host_name(root: Path = Path("/")) -> str:
    """What people call this machine; empty when nobody said."""
    try:
        return (root / "proc/sys/kernel/hostname").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _padded(size: int) -> int:
    return (size + 3) & ~3


def _package_version(text: str) -> str:
    found = _PACKAGE.search(text)
    return found[1] if found else ""


def _text(path: Path) -> str:
    return _read(path).decode(errors="replace").strip()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MachineError(
            f"{path} cannot be read: {error.strerror}.", hint="Is /proc and /sys mounted here?"
        ) from None
