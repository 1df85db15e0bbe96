"""A container engine that speaks the Docker Engine API over a unix socket, and others that misbehave."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

VERSION = {"Version": "20.10.24+dfsg1", "ApiVersion": "1.41", "Os": "linux"}
INFO = {
    "ID": "made",
    "Containers": 1,
    "Driver": "overlay2",
    "LiveRestoreEnabled": False,
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"],
    "RegistryConfig": {"InsecureRegistryCIDRs": ["127.0.0.0/8"]},
    "HttpProxy": "http://anna:geheim@proxy.example:3128",
}


class FakeEngine:
    """What it holds, and every question that it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "/version": VERSION,
            "/info": INFO,
            "/containers/json?all=1": [],
            "/images/json": [],
            "/networks": [{"Name": "bridge", "Driver": "bridge", "Containers": {}, "Options": {"icc": "true"}}],
        }
        self.asked: list[str] = []

    def container(self, key: str, inspected: dict[str, Any]) -> None:
        """It runs one more container."""
        self.answers["/containers/json?all=1"].append({"Id": key, "Names": [inspected.get("Name", "")]})
        self.answers[f"/containers/{key}/json"] = {"Id": key, **inspected}

    def image(self, key: str, inspected: dict[str, Any], history: tuple[str, ...] = ()) -> None:
        """It has one more image."""
        self.answers["/images/json"].append({"Id": key})
        self.answers[f"/images/{key}/json"] = {"Id": key, **inspected}
        self.answers[f"/images/{key}/history"] = [{"CreatedBy": step} for step in history]

    @contextmanager
    def serving(self, path: Path) -> Iterator[None]:
        """Answers on a socket, each connection in a thread of its own, with keep-alive."""
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                engine.asked.append(f"{self.command} {self.path}")
                known = self.path in engine.answers
                body = json.dumps(engine.answers[self.path] if known else {"message": "No such thing"}).encode()
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

            def address_string(self) -> str:
                return "unix"

        with _served(path, Handler):
            yield


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def _served(path: Path, handler: type[BaseHTTPRequestHandler]) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with _Server(str(path), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def raw_engine(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """Accepts on a socket, and lets ``answer`` do what it wants with each connection."""
    path.parent.mkdir(parents=True, exist_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                try:
                    answer(connection)
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(timeout=5)
