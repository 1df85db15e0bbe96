"""A web server on the loopback for a repository's folder: honest, until a test says what happens instead."""

import functools
import http.server
import threading
from contextlib import contextmanager, suppress
from fnmatch import fnmatch


class Web(http.server.ThreadingHTTPServer):
    """``folder`` is what it serves, and may be replaced; ``acts`` says what happens to paths instead."""

    daemon_threads = True

    def __init__(self, folder):
        self.folder = folder
        self.acts = {}
        self.asked = []
        self.sent = 0
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self):
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def honest(self, folder):
        """Serve this folder as it is, from now on."""
        self.folder, self.acts = folder, {}


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, request, client_address, server):
        super().__init__(request, client_address, server, directory=str(server.folder))

    def do_GET(self):
        """Note what was asked for; do to it what the test says."""
        self.server.asked.append(self.path)
        for pattern, act in self.server.acts.items():
            if fnmatch(self.path, pattern):
                with suppress(OSError):
                    act(self)
                return
        super().do_GET()

    def log_message(self, *args):
        """Nothing."""


@contextmanager
def web_server(folder):
    """The running server."""
    server = Web(folder)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def endless(handler):
    """A body that does not end; ``sent`` counts what the client took."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 14))
        handler.server.sent += 1 << 14


def answers(status):
    """An error page with this status."""
    return functools.partial(_error, status=status)


def _error(handler, *, status):
    handler.send_error(status)


def body(content):
    """This content, whatever was asked for."""
    return functools.partial(_send, content=content)


def _send(handler, *, content, length=None):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    handler.end_headers()
    handler.wfile.write(content)


def as_it_is_written(handler):
    """The file whose name is the address's path, %XX and all."""
    path = handler.server.folder / handler.path.lstrip("/")
    if path.is_file():
        _send(handler, content=path.read_bytes())
    else:
        handler.send_error(404)


def cut(handler):
    """Half of the file, though the whole length is announced."""
    content = (handler.server.folder / handler.path.lstrip("/")).read_bytes()
    _send(handler, content=content[: len(content) // 2], length=len(content))
    handler.close_connection = True


def drips(handler):
    """One byte now and then, for ever."""
    handler.send_response(200)
    handler.end_headers()
    pause = threading.Event()
    while not pause.wait(0.02):
        handler.wfile.write(b" ")
