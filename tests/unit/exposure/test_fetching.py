"""CVE data that is named by an address."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kmend.exposure.fetching import local
from kmend.kit.errors import InputError, SourceError
from kmend.kit.progress import Silent


class _Quiet(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer; ``cut`` promises more than it sends."""
        if self.path.endswith("cut.zip"):
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"short")
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A web server's address and folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_path_is_what_it_is() -> None:
    """Nothing is fetched."""
    assert local("a/b.zip", progress=Silent()) == Path("a/b.zip")


def test_an_archive_is_fetched_and_renewed(served: tuple[str, Path]) -> None:
    """The copy in the cache has the archive's name, so that its kind can be told."""
    address, folder = served
    (folder / "all.zip").write_bytes(b"one")
    path = local(f"{address}/all.zip", progress=Silent())
    assert (path.name, path.read_bytes()) == ("all.zip", b"one")
    (folder / "all.zip").write_bytes(b"two")
    assert local(f"{address}/all.zip", progress=Silent()).read_bytes() == b"two"


def test_what_cannot_be_fetched_leaves_the_older_copy(served: tuple[str, Path]) -> None:
    """Also what breaks off in the middle."""
    address, folder = served
    (folder / "all.zip").write_bytes(b"one")
    path = local(f"{address}/all.zip", progress=Silent())
    (folder / "all.zip").unlink()
    with pytest.raises(SourceError, match="404"):
        local(f"{address}/all.zip", progress=Silent())
    assert path.read_bytes() == b"one"
    with pytest.raises(SourceError, match=r"5 of 100 bytes|IncompleteRead"):
        local(f"{address}/cut.zip", progress=Silent())
    with pytest.raises(InputError, match="gopher"):
        local("gopher://127.0.0.1/all.zip", progress=Silent())


def test_a_repository_is_cloned_and_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when its history was rewritten."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "vulns"

    def commit(text: str, *more: str) -> None:
        (folder / "record").write_text(text)
        for words in (("add", "-A"), ("commit", "-q", *more, "-m", text)):
            git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
            subprocess.run(git, check=True)

    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    commit("one")
    address = f"file://{folder}"
    assert (local(address, progress=Silent()) / "record").read_text() == "one"
    commit("two", "--amend")
    assert (local(address, progress=Silent()) / "record").read_text() == "two"
    with pytest.raises(SourceError, match="cannot be cloned"):
        local(f"file://{tmp_path}/none", progress=Silent())
