"""A verb of kmend as a program of its own, running beside the demo; and the repository's web server."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from kmend.kit.errors import MachineError
from kmend.kit.run import spawn

_GRACE = 20.0
"""Seconds that an unwanted program gets for cleaning up."""
_TAIL = 12


class Job:
    """A running verb."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, args: Sequence[str]) -> None:
        self._process = process
        self._log = log
        self._args = args

    def look(self) -> None:
        """Whether it still runs or has succeeded: nothing; else like ``wait``."""
        if self._process.poll():
            self.wait()

    def wait(self) -> None:
        """Wait until it has ended.

        Raises:
            MachineError: It failed; the message has the last lines of what it said.
        """
        if code := self._process.wait():
            tail = self._log.read_text(errors="replace").splitlines()[-_TAIL:]
            raise MachineError(
                f"`kmend {' '.join(self._args)}` ended with {code}:\n" + "\n".join(f"  {line}" for line in tail),
                hint=f"All that it said is in {self._log}.",
            )


@contextmanager
def kmend_beside(args: Sequence[str], *, log: Path, ended: Callable[[int, float], None]) -> Iterator[Job]:
    """Run ``kmend ARGS`` beside the block; leaving the block ends it, and lets it clean up first.

    Args:
        args: Verb and options.
        log: File for all that it says.
        ended: Called from another thread as soon as it has ended by itself, with its exit code and seconds.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    unwanted = threading.Event()
    with (
        log.open("wb") as said,
        spawn([sys.executable, "-m", "kmend", *args], stdout=said, stderr=said) as process,
    ):

        def watch() -> None:
            code = process.wait()
            if not unwanted.is_set():
                ended(code, time.monotonic() - begin)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield Job(process, log, args)
        finally:
            unwanted.set()
            _end_kindly(process)
            watcher.join()


def _end_kindly(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    if process.poll() is None:
        process.kill()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Nothing."""


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """A web server for a folder on a free port of the loopback; yields the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
