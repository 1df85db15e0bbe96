"""Downloads over real sockets: what a bad server can do, it does here."""

import socketserver
import threading
import time
from contextlib import suppress

import pytest
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, SlowRetrievalError

from kmend.kit.errors import InputError, TrustError
from kmend.trust.download import CutError, Limits, open_source
from kmend.trust.refusal import Refusal, reason_of
from kmend.trust.repository import open_repository

QUICK = Limits(connect=2, silence=0.5, total=1)


class Script(socketserver.BaseRequestHandler):
    """Answers each request with what the test wrote for it."""

    def handle(self):
        """Read one request, run the script."""
        self.request.recv(65536)
        with suppress(OSError):
            self.server.script(self.request)


@pytest.fixture
def serve():
    """Starts a server on loopback whose answers are a function; returns its address."""
    servers = []

    def start(script):
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Script)
        server.daemon_threads = True
        server.script = script
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def answer(body, *, length=None, status="200 OK", extra=""):
    """A script that sends one answer."""
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n{extra}Connection: close\r\n\r\n".encode()
    return lambda connection: connection.sendall(head + body)


def download(address, *, limit=1000, limits=QUICK):
    """Fetch one file."""
    fetcher, base = open_source(address, limits=limits)
    return fetcher.download_bytes(base + "file", limit)


def test_a_good_answer(serve):
    """The body, whole."""
    assert download(serve(answer(b"x" * 1000))) == b"x" * 1000


def test_one_byte_too_many(serve):
    """More than allowed is refused."""
    with pytest.raises(DownloadLengthMismatchError):
        download(serve(answer(b"x" * 1001)))


def test_endless(serve):
    """A body without an end is cut off at the limit, not at the end of memory."""

    def flood(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")

    with pytest.raises(DownloadLengthMismatchError):
        download(serve(flood), limit=100_000)


def test_cut(serve):
    """A connection that closes before the announced length is told as such."""
    with pytest.raises(CutError):
        download(serve(answer(b"short", length=500)))


def test_silence(serve):
    """A server that accepts and says nothing is given up."""
    with pytest.raises(SlowRetrievalError):
        download(serve(lambda _: time.sleep(5)))


def test_dripping(serve):
    """A server that sends a byte now and then runs into the total time."""

    def drip(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            connection.sendall(b".")
            time.sleep(0.1)

    begin = time.monotonic()
    with pytest.raises(SlowRetrievalError):
        download(serve(drip))
    assert time.monotonic() - begin < 5


def test_compression_is_not_undone(serve):
    """A compressed answer counts, and arrives, as it came over the wire: no small bomb becomes a large file."""
    body = b"\x1f\x8b" + bytes(50)
    assert download(serve(answer(body, extra="Content-Encoding: gzip\r\n"))) == body


def test_redirects_are_limited(serve):
    """A redirect to itself does not go on for ever."""
    with pytest.raises(DownloadError):
        download(serve(answer(b"", status="302 Found", extra="Location: /file\r\n")))


@pytest.mark.parametrize("status", ["404 Not Found", "403 Forbidden", "500 Internal Server Error"])
def test_error_pages_are_not_content(serve, status):
    """The status is kept: a missing next root means that the newest is known."""
    with pytest.raises(DownloadHTTPError) as caught:
        download(serve(answer(b"<html>", status=status)))
    assert caught.value.status_code == int(status[:3])


def test_nobody_listens():
    """A closed port is unreachable, neither slow nor untrusted, and the message says so once."""
    with pytest.raises(DownloadError, match=r"^http://127\.0\.0\.1:9/file: [^:]+: [^:]+ refused$") as caught:
        download("http://127.0.0.1:9")
    assert reason_of(caught.value) == Refusal.UNREACHABLE


def test_a_captive_portal(serve, tmp_path, template):
    """A login page for every address is refused as unreadable."""
    with pytest.raises(TrustError) as caught:
        open_repository(
            serve(answer(b"<html>please log in</html>")),
            channel="edge",
            pinned_root=template.root,
            cache=tmp_path / "seen",
            limits=QUICK,
        )
    assert caught.value.reason in {Refusal.UNREADABLE, Refusal.WRONG_KEY}


def test_slow_repository_is_named_as_slow(serve, tmp_path, template):
    """The refusal says that it came too slowly."""
    with pytest.raises(TrustError) as caught:
        open_repository(
            serve(lambda _: time.sleep(5)),
            channel="edge",
            pinned_root=template.root,
            cache=tmp_path / "seen",
            limits=QUICK,
        )
    assert caught.value.reason == Refusal.TOO_SLOW


def test_a_folder_with_odd_characters(tmp_path):
    """Spaces and percent signs in a folder's name are read as they are."""
    folder = tmp_path / "air gap 100%"
    folder.mkdir()
    (folder / "file").write_bytes(b"here")
    assert download(str(folder)) == b"here"


@pytest.mark.parametrize("source", ["ftp://example.org/", "", "gopher:x"])
def test_other_addresses(source):
    """Only http, https, file and folders are sources."""
    with pytest.raises(InputError):
        open_source(source, limits=QUICK)
