"""The web server that the application runs in."""

from __future__ import annotations

import socket

import uvicorn

from kmend.fleet.streams import Streams


class WebServer(uvicorn.Server):
    """Like uvicorn's, but streams end with it: uvicorn waits for every answer, and theirs never ends by itself."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is under way, then end."""
        self._streams.end()
        await super().shutdown(sockets)
