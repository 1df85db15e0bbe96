"""Carries one TCP connection of the guest to a port of this machine's loopback; QEMU starts one for each.

Run as a script with plain Python, so it imports nothing of kmend.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

_CHUNK = 65536


def relay(port: int) -> None:
    """Copy standard input to 127.0.0.1:PORT and what comes back to standard output, until both have ended."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        threading.Thread(target=_send, args=(line,), daemon=True).start()
        while data := line.recv(_CHUNK):
            while data:
                data = data[os.write(1, data) :]


def _send(line: socket.socket) -> None:
    while data := os.read(0, _CHUNK):
        line.sendall(data)
    line.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    relay(int(sys.argv[1]))
