"""A small Debian archive: real .deb files and index, served on loopback, and an apt that knows nothing else."""

import gzip
import hashlib
import os
import subprocess
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate, parsedate_to_datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECES = ("image", "dbg", "headers", "common", "source")
COMPILER = "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"
BUILD_ID = "00112233445566778899aabbccddeeff00112233"
CHANGELOG = """linux ({version}) bookworm-security; urgency=high

  * net: fix it (CVE-2026-10001)

 -- A <a@b.c>  Fri, 08 May 2026 21:59:49 +0200
"""


class Archive:
    """Packages in ``folder``; ``publish`` writes the index and lets a private apt read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pool = folder / "pool"
        self.pool.mkdir(parents=True)
        self.stanzas: list[str] = []
        self.requests: list[tuple[str, str | None]] = []
        """Path and Range header of each request."""
        self.cut_after: int | None = None
        """Close the connection after that many bytes of a package."""
        self.pause = 0.0
        """Seconds to wait after each 64 KiB of a package."""
        self._sources: set[tuple[str, str]] = set()

    def add_kernel(
        self, release, version, *, pieces=PIECES, unsigned=False, padding=0, tree=None, changelog=CHANGELOG
    ):
        """Add the packages of one kernel; ``pieces`` says which of them, ``tree`` what its source holds."""
        abi = release.removesuffix("-amd64").removesuffix("-cloud").removesuffix("-rt")
        common = "common-rt" if "-rt-" in release else "common"
        series = ".".join(release.split(".")[:2])
        image = f"linux-image-{release}{'-unsigned' if unsigned else ''}"
        config = f'CONFIG_CC_VERSION_TEXT="{COMPILER}"\n'
        makers = {
            "image": (
                image,
                {
                    f"boot/vmlinuz-{release}": b"bzImage",
                    f"boot/config-{release}": config.encode(),
                    f"lib/modules/{release}/modules.order": b"",
                    f"lib/modules/{release}/modules.builtin": b"",
                },
            ),
            "dbg": (
                f"linux-image-{release}-dbg",
                {
                    f"usr/lib/debug/boot/vmlinux-{release}": vmlinux(),
                    f"usr/lib/debug/lib/modules/{release}/modules.order": b"",
                    "usr/share/padding": os.urandom(padding),
                },
            ),
            "headers": (
                f"linux-headers-{release}",
                {f"usr/src/linux-headers-{release}/Module.symvers": b"0x1\tx\tvmlinux\tEXPORT_SYMBOL\t\n"},
            ),
            "common": (
                f"linux-headers-{abi}-{common}",
                {f"usr/src/linux-headers-{abi}-{common}/Makefile": b"#\n"},
            ),
            "source": (f"linux-source-{series}", source_files(series, version, self.folder, tree, changelog)),
        }
        for piece in pieces:
            name, files = makers[piece]
            if piece == "source" and (name, version) in self._sources:
                continue
            if piece == "source":
                self._sources.add((name, version))
            self.add(name, version, files)

    def add(self, name, version, files):
        """Add one package with these files (path to content)."""
        tree = self.folder / "tree" / f"{name}_{version}"
        for path, content in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
        fields = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: A <a@b.c>\n"
        fields += "Installed-Size: 100\nDescription: made for a test\n"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN" / "control").write_text(fields)
        deb = self.pool / f"{name}_{version}_amd64.deb"
        subprocess.run(
            ["dpkg-deb", "-Znone", "--root-owner-group", "-b", tree, deb], check=True, capture_output=True
        )
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        self.stanzas.append(f"{fields}Filename: pool/{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n")

    def deb(self, prefix) -> Path:
        """The package file whose name begins so."""
        return next(iter(sorted(self.pool.glob(f"{prefix}*"))))

    def publish(self, address, *, options="trusted=yes") -> Path:
        """Write the index and the configuration of an apt that reads it; returns the value for APT_CONFIG."""
        self.write_index()
        apt = self.folder / "apt"
        for name in ("etc/apt/preferences.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"):
            (apt / name).mkdir(parents=True, exist_ok=True)
        (apt / "status").touch()
        (apt / "etc/apt/sources.list").write_text(f"deb [{options}] {address} ./\n")
        config = apt / "apt.conf"
        config.write_text(
            f'Dir "{apt}";\nDir::State::status "{apt}/status";\nAPT::Architecture "amd64";\n'
            'APT::Architectures:: "amd64";\nAcquire::Languages "none";\nAcquire::Retries "0";\n'
            'Acquire::http::Proxy "false";\nAPT::Sandbox::User "root";\n'
        )
        self.update(config)
        return config

    def write_index(self):
        """What the mirror offers from now on; no apt has read it yet."""
        (self.folder / "Packages").write_text("\n".join(self.stanzas))

    def update(self, config):
        """What ``apt-get update`` does."""
        done = subprocess.run(
            ["apt-get", "update"], env={**os.environ, "APT_CONFIG": str(config)}, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()

    @contextmanager
    def served(self):
        """Serve the archive on loopback; yields the address."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"archive": self}))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Static files with Last-Modified, Range and If-Range, as a mirror serves them."""

    protocol_version = "HTTP/1.1"
    archive: Archive

    def do_GET(self):
        """Send a file or the rest of it."""
        path = self.archive.folder / self.path.lstrip("/").replace("%7e", "~").replace("%2b", "+")
        self.archive.requests.append((self.path, self.headers.get("Range")))
        if not path.is_file():
            self.send_error(404)
            return
        data, changed = path.read_bytes(), int(path.stat().st_mtime)
        start = self._start(changed)
        self.send_response(206 if start else 200)
        self.send_header("Last-Modified", formatdate(changed, usegmt=True))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "GET":
            self._send(data[start:], package=path.suffix == ".deb")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_):
        """Say nothing."""

    def _start(self, changed):
        wanted = self.headers.get("Range", "")
        same = self.headers.get("If-Range")
        if same and int(parsedate_to_datetime(same).timestamp()) != changed:
            return 0
        return int(wanted.removeprefix("bytes=").partition("-")[0] or 0)

    def _send(self, data, *, package):
        cut = self.archive.cut_after if package else None
        data = data if cut is None else data[:cut]
        for at in range(0, len(data), 1 << 16):
            self.wfile.write(data[at : at + (1 << 16)])
            if package and self.archive.pause:
                time.sleep(self.archive.pause)
        if cut is not None:
            self.close_connection = True


@cache
def vmlinux() -> bytes:
    """A small ELF file with a GNU build id."""
    target = Path(f"/tmp/kmend-test-vmlinux-{os.getpid()}")
    subprocess.run(
        ["gcc-12", "-x", "c", "-", "-nostdlib", "-static", f"-Wl,--build-id=0x{BUILD_ID}", "-o", target],
        input=b"void _start(void) {}",
        check=True,
    )
    try:
        return target.read_bytes()
    finally:
        target.unlink()


def source_files(series, version, scratch, files=None, changelog=CHANGELOG) -> dict[str, bytes]:
    """What linux-source-SERIES holds: an archive with the tree, and the changelog."""
    name = f"linux-source-{series}"
    tree = scratch / "source" / version / name
    tree.mkdir(parents=True, exist_ok=True)
    for path, text in {"Makefile": f"# {version}\n", **(files or {})}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    packed = subprocess.run(
        ["tar", "-C", tree.parent, "--xz", "-cf", "-", name], check=True, capture_output=True
    ).stdout
    text = changelog.format(version=version)
    return {
        f"usr/src/{name}.tar.xz": packed,
        f"usr/share/doc/{name}/changelog.Debian.gz": gzip.compress(text.encode()),
    }
