"""The kernel's own symbol table, decoded from vmlinux as kernel/kallsyms.c of Linux 6.1 does."""

import struct
from collections.abc import Iterator

from kmend.elf.running import RunningKernel


def kernel_symbols(vmlinux: RunningKernel) -> Iterator[tuple[str, int]]:
    """Name and address of every symbol, in the order in which livepatch counts them."""
    names = _table(vmlinux, "kallsyms_names", 16 << 20)
    tokens = _table(vmlinux, "kallsyms_token_table", 1 << 16)
    starts = struct.unpack("<256H", _table(vmlinux, "kallsyms_token_index", 512))
    texts = [tokens[start : tokens.index(b"\0", start)] for start in starts]
    (count,) = struct.unpack("<I", _table(vmlinux, "kallsyms_num_syms", 4))
    (base,) = struct.unpack("<Q", _table(vmlinux, "kallsyms_relative_base", 8))
    offsets = struct.unpack(f"<{count}i", _table(vmlinux, "kallsyms_offsets", 4 * count))
    at = 0
    for offset in offsets:
        length, at = names[at], at + 1
        if length & 0x80:
            length, at = length & 0x7F | names[at] << 7, at + 1
        text = b"".join(texts[code] for code in names[at : at + length])
        at += length
        # CONFIG_KALLSYMS_ABSOLUTE_PERCPU: per-CPU symbols are stored as they are.
        yield text[1:].decode(), offset if offset >= 0 else base - 1 - offset


def _table(vmlinux: RunningKernel, name: str, size: int) -> bytes:
    symbol = vmlinux.find(name, None)
    assert symbol is not None
    return vmlinux.bytes_at(vmlinux.place(symbol), size)
