"""A web server on the loopback that webhooks are sent to; a test says how it behaves."""

import socket
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """``status`` is what it answers, or a list of it in turn; with ``drips`` its answer never ends."""

    def __init__(self, address):
        self.address = address
        self.status = 204
        self.headers = {}
        self.drips = False
        self.got = []
        """(headers, body) of each request."""
        self.goes_on = threading.Event()
        self.goes_on.set()

    def next_status(self):
        """What it answers now."""
        return self.status.pop(0) if isinstance(self.status, list) else self.status


@contextmanager
def running_receiver():
    """The receiver on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append((dict(self.headers), body))
            receiver.goes_on.wait(30)
            self.send_response(receiver.next_status())
            while receiver.drips:
                self.flush_headers()
                self.wfile.write(b"X-Drop: 1\r\n")
                time.sleep(0.05)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args):
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            pass

    listening = Quiet(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{listening.server_address[1]}")
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield receiver
    finally:
        receiver.goes_on.set()
        listening.shutdown()
        listening.server_close()


@contextmanager
def dripping_handshake():
    """One that begins TLS, a byte at a time for five seconds: its address, and whether it was heard to the end."""
    heard = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip():
            with suppress(OSError):
                line, _ = listening.accept()
                with line:
                    # The head of a record of 16 KiB with a hello of a server; the rest is its filling.
                    line.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
                    for _ in range(100):
                        line.sendall(b"\0")
                        time.sleep(0.05)
                    heard.set()

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listening.getsockname()[1]}", heard
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join()
