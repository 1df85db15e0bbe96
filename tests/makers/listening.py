"""`kmend serve` as a process of its own, on a free port of the loopback."""

import subprocess
import sys
from contextlib import contextmanager


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
