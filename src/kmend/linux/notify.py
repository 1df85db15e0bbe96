"""Telling systemd how a service is: sd_notify(3)'s protocol over its socket."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

_SOCKET, _WATCHDOG = "NOTIFY_SOCKET", "WATCHDOG_USEC"
_PATIENCE = 2.0
"""Seconds that a service manager may take to hear; work goes on without it."""


def notify(*lines: str) -> bool:
    """Send lines such as ``READY=1``; False when nobody listens, which is no error."""
    address = os.environ.get(_SOCKET, "")
    if not address.startswith(("/", "@")):
        return False
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as talking:
        talking.settimeout(_PATIENCE)
        # A leading @ stands for the zero byte of an abstract address.
        talking.sendto("\n".join(lines).encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        return True
    return False


def watchdog_seconds() -> float | None:
    """How often systemd wants to hear ``WATCHDOG=1`` at least; None when it does not."""
    text = os.environ.get(_WATCHDOG, "")
    return int(text) / 1e6 if text.isdigit() and int(text) else None
