"""Sysctls: what holds now (/proc/sys) and what the configuration sets at boot (sysctl.d)."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from kmend.linux.facts.look import Look
from kmend.model.facts import Setting

SYSCTL_FOLDERS = ("etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d")
TREES = ("abi", "debug", "dev", "fs", "kernel", "net", "user", "vm")
"""Folders of /proc/sys that are read whole."""

# One folder for each network interface or processor: only what holds for all of them, and for new ones, is read.
_EACH = {"proc/sys/net/ipv4/conf", "proc/sys/net/ipv6/conf", "proc/sys/net/ipv4/neigh", "proc/sys/net/ipv6/neigh"}
_FOR_ALL = {"all", "default"}
# Reading the first makes every processor work; the second is a file system of its own; the third gives another
# value each time; the last is the internals of the scheduler.
_LEFT_OUT = {
    "proc/sys/vm/stat_refresh",
    "proc/sys/fs/binfmt_misc",
    "proc/sys/kernel/random/uuid",
    "proc/sys/kernel/sched_domain",
}
_VALUE = 64 << 10
_DEPTH = 8
_READABLE = 0o444


def sysctls(look: Look) -> tuple[Setting, ...]:
    """Every readable sysctl, by its dotted name; those of single network interfaces are left out."""
    return tuple(found for tree in TREES for found in _tree(look, f"proc/sys/{tree}", depth=_DEPTH))


def _tree(look: Look, folder: str, *, depth: int) -> Iterator[Setting]:
    for name in look.names(folder):
        path = f"{folder}/{name}"
        if path in _LEFT_OUT or (folder in _EACH and name not in _FOR_ALL) or not look.left:
            continue
        status = look.stat(path, follow=False)
        if status and stat.S_ISDIR(status.st_mode) and depth:
            yield from _tree(look, path, depth=depth - 1)
        elif status and status.st_mode & _READABLE:
            content = look.read(path, limit=_VALUE, note=False)
            if content is not None:
                value = content.decode(errors="replace").strip()
                yield Setting(name=_dotted(path.removeprefix("proc/sys/")), value=value)


def configured(look: Look) -> tuple[Setting, ...]:
    """What is set at boot, in the order in which it is set; sysctl.d(5). Names are dotted."""
    paths = look.drop_ins(SYSCTL_FOLDERS)
    # Distributions link it as 99-sysctl.conf.
    if not any(path.endswith("/99-sysctl.conf") for path in paths):
        paths.append("etc/sysctl.conf")
    return tuple(found for path in paths for found in _file(look, path))


def _file(look: Look, path: str) -> Iterator[Setting]:
    for line in look.lines(path):
        name, equals, value = line.strip().partition("=")
        if equals and name[0] not in "#;":
            yield Setting(name=_plain(name.strip().lstrip("-")), value=value.strip(), source=f"/{path}")


def _plain(name: str) -> str:
    """``net/ipv4/conf/eth0.1/forwarding`` and ``net.ipv4.conf.eth0/1.forwarding`` are the same; sysctl.d(5)."""
    first = next((letter for letter in name if letter in "./"), ".")
    return _dotted(name) if first == "/" else name


def _dotted(path: str) -> str:
    return path.translate({ord("/"): ".", ord("."): "/"})
