"""The agent's Debian package, and systems in folders that it can be installed on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from kmend.agent.config import Paths

ROOT = Path(__file__).parents[2]
MAKER = ROOT / "packaging/make-agent-deb"
# Later than any file that is made here, so that nothing but the maker sets the times.
EPOCH = 2_000_000_000


def make(folder, **env):
    """Make the package as `make deb` does."""
    words = [sys.executable, MAKER, folder]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), **env}
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environ)


def make_package(folder):
    """The package."""
    done = make(folder)
    assert done.returncode == 0, done.stderr
    (made,) = folder.iterdir()
    return made


class Dpkg:
    """dpkg on a root folder of its own; its scripts get DPKG_ROOT and touch nothing else."""

    def __init__(self, root):
        """An empty system."""
        self.root = root
        for folder in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "run", "etc"):
            (root / folder).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()

    def __call__(self, *words):
        """Run dpkg and give back what it and the scripts said."""
        forced = ["--force-script-chrootless", "--force-not-root", "--force-depends", "--force-bad-path"]
        args = ["dpkg", f"--root={self.root}", *forced, f"--log={self.root}/dpkg.log", *words]
        environ = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(args, capture_output=True, text=True, check=False, env=environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def put(self, name, content=""):
        """A file on that system."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def has(self, name):
        """Whether something is there, be it a link to nowhere."""
        return os.path.lexists(self.root / name)


def kept_paths(root):
    """Every file that the agent keeps, whatever is added to Paths; one in each of its folders."""
    paths = Paths(root=root)
    every = {getattr(paths, name) for name, value in vars(Paths).items() if isinstance(value, property)}
    folders = {paths.seen, paths.copy}
    inside = {folder / "inside" for folder in folders}
    return (every - folders - {paths.library, paths.switch, paths.settings}) | inside


FAKE = """#!/bin/sh
echo "${0##*/} $*" >> /said
[ "$*" != "is-active kmend-agent.service" ] || cat /active
"""
PROGRAMS = ("systemctl", "deb-systemd-helper", "deb-systemd-invoke")
APPLETS = ("sh", "cat", "echo", "rm", "rmdir", "touch")


class Booted:
    """A system in which systemd seems to run, in a folder: its programs only note what they are asked for."""

    def __init__(self, root, *, package, programs=PROGRAMS):
        """Busybox, the programs, the package's scripts."""
        self.root = root
        for folder in ("bin", "dev", "run/systemd/system", "etc/kmend", "var/lib/kmend"):
            (root / folder).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for applet in APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        for program in programs:
            (root / "bin" / program).write_text(FAKE)
            (root / "bin" / program).chmod(0o755)
        (root / "active").write_text("active\n")
        subprocess.run(["dpkg-deb", "-e", package, root / "scripts"], check=True)

    def __call__(self, script, *words):
        """Run a script; what it asked systemd for."""
        (self.root / "said").write_text("")
        inside = ["chroot", self.root, "/bin/sh", f"/scripts/{script}", *words]
        args = inside if os.geteuid() == 0 else ["unshare", "--map-root-user", *inside]
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(args, capture_output=True, text=True, check=False, env=environ)
        assert done.returncode == 0, done.stderr
        return (self.root / "said").read_text().splitlines()


def may_chroot():
    """Whether this user may run something in another root folder."""
    if os.geteuid() == 0:
        words = ["chroot", "/", "/bin/busybox", "true"]
    else:
        words = ["unshare", "--map-root-user", "chroot", "/", "/bin/busybox", "true"]
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        return subprocess.run(words, capture_output=True, check=False, env=environ).returncode == 0
    except OSError:
        return False
