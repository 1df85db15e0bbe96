"""Headers of rpm's databases."""

import struct

STRING, INT32 = 6, 4


def header(**texts):
    """A header of some tags."""
    tags = {"name": 1000, "version": 1001, "release": 1002, "source": 1044, "epoch": 1003, "summary": 1004}
    index, store = b"", b""
    for name, value in texts.items():
        kind = INT32 if isinstance(value, int) else STRING
        index += struct.pack(">IIII", tags[name], kind, len(store), 1)
        store += struct.pack(">I", value) if isinstance(value, int) else value.encode() + b"\0"
    return struct.pack(">II", len(texts), len(store)) + index + store


GOOD = header(name="bash", version="5.1", release="2.el9", source="bash-5.1-2.el9.src.rpm", epoch=1)
