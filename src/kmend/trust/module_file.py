"""A kernel module file's appended signature: where it begins. The format is the kernel's own.

The file ends in the PKCS#7 message, ``struct module_signature`` (12 bytes) and a magic line
(include/linux/module_signature.h).
"""

from __future__ import annotations

import struct

MAGIC = b"~Module signature appended~\n"
INFO = struct.Struct(">BBBBB3xI")
"""algorithm, hash, id type, signer length, key id length, signature length."""
PKCS7 = 2


def split_signature(content: bytes) -> tuple[bytes, bytes]:
    """The module without its signature, and the PKCS#7 message (empty when it is not signed).

    A file whose trailer does not make sense counts as not signed, so its hash will not match a manifest.
    """
    end = len(content) - len(MAGIC) - INFO.size
    if end <= 0 or not content.endswith(MAGIC):
        return content, b""
    _, _, kind, _, _, length = INFO.unpack_from(content, end)
    if kind != PKCS7 or not 0 < length <= end:
        return content, b""
    return content[: end - length], content[end - length : end]


def join_signature(module: bytes, message: bytes) -> bytes:
    """The module with a PKCS#7 message appended as the kernel expects it."""
    return module + message + INFO.pack(0, 0, PKCS7, 0, 0, len(message)) + MAGIC
