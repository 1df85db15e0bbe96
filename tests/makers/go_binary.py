"""A 64-bit ELF file with Go's build information in it, as the linker writes it since Go 1.18."""

import struct


def go_binary(*, version: str = "v1.7.3", toolchain: str = "go1.22.1", flags: str = "") -> bytes:
    """The file; ``flags`` is what the linker was told."""
    build = f"build\t-ldflags={flags}\n" if flags else ""
    other = "dep\texample.org/other\tv9.9.9\th1:x\n"
    module = f"path\texample.org/tool\nmod\texample.org/tool\t{version}\t\n{other}{build}"
    info = b"\xff Go buildinf:" + bytes([8, 2]) + bytes(16)
    info += _text(toolchain.encode()) + _text(b"0" * 16 + module.encode() + b"1" * 16)
    names = b"\0.go.buildinfo\0.shstrtab\0"
    data = bytes(64) + info
    table = len(data) + len(names)
    sections = [
        struct.pack("<IIQQQQIIQQ", *[0] * 10),
        struct.pack("<IIQQQQIIQQ", 1, 1, 3, 0, 64, len(info), 0, 0, 16, 0),
        struct.pack("<IIQQQQIIQQ", 15, 3, 0, 0, len(data), len(names), 0, 0, 1, 0),
    ]
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    return header + data[64:] + names + b"".join(sections)


def _text(content: bytes) -> bytes:
    size, length = b"", len(content)
    while length >= 0x80:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return size + bytes([length]) + content
