"""A web server on the loopback that webhooks are sent to; a test says how it behaves."""

import threading
import time
from contextlib import contextmanager
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
