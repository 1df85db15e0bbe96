"""Podman in the guest of the host profile, as packages from this machine's sources."""

import functools
import http.server
import subprocess
import threading
from contextlib import contextmanager

from kmend.lab.host import FORWARDED

PACKAGES = ("podman", "crun", "conmon", "uidmap", "slirp4netns", "fuse-overlayfs", "netavark")
NOT_NEEDED = ("gnupg", "gpg", "dirmngr", "pinentry", "libldap", "libsasl")
"""What packages ask for and no test uses."""
ARCHIVE = "podman.tar"
FETCH = f'import urllib.request; urllib.request.urlretrieve("{FORWARDED}/{ARCHIVE}", "/srv/{ARCHIVE}")'
OPTIONS = (
    *("--force-depends", "--force-confold", "--force-unsafe-io"),
    *(f"--path-exclude='/usr/share/{name}/*'" for name in ("doc", "man", "locale")),
)
INSTALL = f"""
python3 -c '{FETCH}'
mkdir /srv/packages
tar -C /srv/packages -xf /srv/{ARCHIVE}
dpkg {" ".join(OPTIONS)} --install /srv/packages/*.deb >&2
rm -r /srv/packages /srv/{ARCHIVE}
"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def served(folder):
    """A web server on the loopback with the files of a folder: its port."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def install_podman(vm, folder, *, also=()):
    """Install Podman, other packages, and what they need in a guest that reaches ``served(folder)``."""
    status = folder / "status"
    status.write_text(vm.must(["cat", "/var/lib/dpkg/status"]))
    (folder / "partial").mkdir()
    options = (f"Dir::State::status={status}", f"Dir::Cache::archives={folder}", "Debug::NoLocking=1")
    words = [word for option in options for word in ("-o", option)]
    words += ["-qq", "-y", "--no-install-recommends", "--download-only"]
    subprocess.run(
        ["apt-get", *words, "install", *PACKAGES, *also],
        check=True,
        capture_output=True,
    )
    wanted = [deb.name for deb in folder.glob("*.deb") if not deb.name.startswith(NOT_NEEDED)]
    subprocess.run(["tar", "-C", folder, "-cf", folder / ARCHIVE, *wanted], check=True)
    vm.must(["sh", "-ec", INSTALL], timeout=900)
