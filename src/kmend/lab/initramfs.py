"""The lab's initramfs: a cpio archive (format newc) of the guest program, modules and other files."""

from __future__ import annotations

import lzma
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from kmend.kit.errors import InputError
from kmend.kit.run import run
from kmend.linux.modules import module_name
from kmend.model.kernel import Kit

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


def cpio(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """A newc archive (kernel document: Documentation/driver-api/early-userspace/buffer-format.rst).

    Args:
        files: Path without leading slash → mode (with file type) and content; for a symlink its target.
            Parent folders are added.
    """
    folders = {str(parent) for path in files for parent in Path(path).parents} - {"."}
    everything = dict.fromkeys(folders, (stat.S_IFDIR | 493, b"")) | dict(files)
    records = [_record(number, path, *everything[path]) for number, path in enumerate(sorted(everything), 1)]
    return b"".join([*records, _record(0, _TRAILER, 0, b"")])


def _record(inode: int, path: str, mode: int, content: bytes) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
    head = _MAGIC + b"".join(b"%08X" % field for field in fields) + name
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def program(content: bytes) -> tuple[int, bytes]:
    """An executable file for ``cpio``."""
    return stat.S_IFREG | 0o755, content


def link(target: str) -> tuple[int, bytes]:
    """A symlink for ``cpio``."""
    return stat.S_IFLNK | 0o777, target.encode()


def module_order(modules: Path, names: Iterable[str]) -> tuple[str, ...]:
    """The files (relative to ``modules``) to load for these modules, each after what it depends on.

    What is built into the kernel, or what this kernel does not have, is left out.

    Raises:
        InputError: The folder has no modules.dep.
    """
    try:
        lines = (modules / "modules.dep").read_text().splitlines()
    except OSError as error:
        raise InputError(f"{modules} has no modules.dep: {error}", hint="Fetch the kit anew.") from None
    needs = {file: rest.split() for file, _, rest in (line.partition(":") for line in lines)}
    by_name = {module_name(file): file for file in needs}
    order: dict[str, None] = {}
    for name in names:
        file = by_name.get(name.replace("-", "_"))
        if file is not None:
            # modules.dep lists the nearest dependency first.
            order |= dict.fromkeys([*reversed(needs[file]), file])
    return tuple(order)


def module_content(path: Path) -> bytes:
    """A module as the kernel can load it whatever its configuration: unpacked."""
    match path.suffix:
        case ".xz":
            return lzma.decompress(path.read_bytes())
        case ".zst":
            return run(["zstd", "-dc", path]).stdout
        case _:
            return path.read_bytes()


def initramfs(
    kit: Kit, *, guest: bytes, modules: Iterable[str], files: Mapping[str, tuple[int, bytes]] | None = None
) -> bytes:
    """The archive for one boot.

    Args:
        kit: The kernel whose modules go in.
        guest: The compiled guest program; it becomes /init.
        modules: Names of modules to load at once, in this order.
        files: More files, as for ``cpio``.
    """
    order = module_order(kit.modules, modules)
    targets = {file: f"lib/modules/{module_name(file)}.ko" for file in order}
    content = {"init": program(guest), **(files or {})}
    content |= {target: program(module_content(kit.modules / file)) for file, target in targets.items()}
    listing = "".join(f"/{target}\n" for target in targets.values())
    content["lab/modules"] = program(listing.encode())
    return cpio(content)
