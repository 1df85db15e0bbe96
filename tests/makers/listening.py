"""`kmend serve` as a process of its own, on a free port of the loopback."""

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import urllib3


@contextmanager
def serving(state, *words, listen="127.0.0.1:0"):
    """The running server: the process, and what it said at its start as a dict."""
    command = [sys.executable, "-m", "kmend", "serve", "--listen", listen, "--state", state, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        said = {}
        try:
            # The address of the database is the last thing that it says.
            while "database" not in said:
                line = server.stdout.readline()
                if not line:
                    break
                name, _, value = line.strip().partition("  ")
                said[name] = value.strip()
            yield server, said
        finally:
            server.kill()


class Served:
    """`kmend serve` on one address, begun again whenever it has ended, as systemd would.

    ``within`` is a command that becomes the server, e.g. unshare.
    """

    def __init__(self, state, *words, within=()):
        self._state = Path(state)
        self._words = words
        self._within = within
        self._port = 0
        self.process = None
        self.log = Path(f"{state}.log")
        self.start()
        self._wait_for("database")
        self.address = self._said("listening")
        self.admin = self._said("admin token").split()[0]
        self._port = int(self.address.rpartition(":")[2])

    def start(self):
        """Begin, and do not wait for it."""
        listen = ("--listen", f"127.0.0.1:{self._port}", "--state", self._state)
        command = [*self._within, sys.executable, "-m", "kmend", "serve", *listen, *self._words]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def tend(self):
        """Begin again when it has ended."""
        if self.process.poll() is not None:
            self.start()

    def kill(self):
        """Kill -9, wherever it is."""
        self.process.kill()
        self.process.wait()

    def _wait_for(self, name):
        while f"\n{name}  " not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def _said(self, name):
        lines = self.log.read_text().splitlines()
        return next(line for line in lines if line.startswith(f"{name}  ")).removeprefix(name).strip()


def ask(server, path, bearer, body=None, *, method=None, timeout=10):
    """One request; the answer, with its status."""
    headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
    method = method or ("GET" if body is None else "POST")
    content = None if body is None else json.dumps(body)
    address = f"{server}/api/v1{path}"
    with urllib3.PoolManager(retries=False, timeout=timeout) as pool:
        answer = pool.request(method, address, body=content, headers=headers)
        return {**(answer.json() if answer.data else {}), "status": answer.status}
