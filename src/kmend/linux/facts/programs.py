"""Programs of engines and runtimes: the files, who owns them, what they say of themselves, and who runs which."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from kmend.linux.facts.binary import BuildInfo, build_info
from kmend.linux.facts.look import Look
from kmend.linux.facts.processes import Seen, is_service
from kmend.model.facts import Package, Program

NAMES = (
    "docker",
    "dockerd",
    "docker-proxy",
    "docker-init",
    "rootlesskit",
    "buildkitd",
    "containerd",
    "containerd-shim",
    "containerd-shim-runc-v1",
    "containerd-shim-runc-v2",
    "runc",
    "crun",
    "runsc",
    "kata-runtime",
    "youki",
    "podman",
    "buildah",
    "skopeo",
    "conmon",
    "conmonrs",
    "netavark",
    "aardvark-dns",
    "slirp4netns",
    "pasta",
    "fuse-overlayfs",
    "crio",
    "kubelet",
    "kube-proxy",
    "kubeadm",
    "k3s",
    "nerdctl",
    "ctr",
    "crictl",
)
"""Which programs are looked for."""

FOLDERS = (
    "usr/bin",
    "usr/sbin",
    "usr/local/bin",
    "usr/local/sbin",
    "usr/libexec",
    "usr/libexec/docker/cli-plugins",
    "usr/libexec/podman",
    "usr/lib/podman",
    "usr/lib/cri-o-runc/sbin",
    "opt/bin",
    "opt/containerd/bin",
    "bin",
    "sbin",
    "snap/bin",
    "var/lib/rancher/k3s/data/current/bin",
)
_DELETED = " (deleted)"
_HASHED = 512 << 20
_LISTS = "var/lib/dpkg/info"
_LIST = 16 << 20


def programs(look: Look, processes: tuple[Seen, ...], packages: tuple[Package, ...] | None) -> tuple[Program, ...]:
    """Each program file once, and once more where a process runs a file that is no longer the one at its path."""
    running = _running(look, processes)
    paths = _installed(look)
    owners = _owners(look, {*paths, *(path for path, _ in running)}, packages)
    found = []
    for path in paths:
        pids = running.pop((path, False), [])
        found.append(_program(look, path, owners.get(path), pids, replaced=False))
    for (path, replaced), pids in sorted(running.items()):
        # The package that owns the path now is not that of the file that runs.
        owner = None if replaced else owners.get(path)
        found.append(_program(look, path, owner, pids, replaced=replaced))
    return tuple(found)


def _installed(look: Look) -> list[str]:
    """Paths of the files, without a second name for one of them: /bin is /usr/bin on most systems."""
    seen: set[tuple[int, int]] = set()
    found = []
    for folder in FOLDERS:
        present = set(look.names(folder))
        for name in NAMES:
            status = look.stat(f"{folder}/{name}") if name in present else None
            if status and (status.st_dev, status.st_ino) not in seen and status.st_mode & 0o111:
                seen.add((status.st_dev, status.st_ino))
                found.append(f"{folder}/{name}")
    return found


def _running(look: Look, processes: tuple[Seen, ...]) -> dict[tuple[str, bool], list[int]]:
    """(path, whether the file there was replaced) → processes of the host that run it."""
    found: dict[tuple[str, bool], list[int]] = {}
    for one in processes:
        if one.container or not is_service(one):
            continue
        target = look.link(f"proc/{one.pid}/exe")
        path = target.removesuffix(_DELETED).lstrip("/")
        if path:
            found.setdefault((path, target.endswith(_DELETED)), []).append(one.pid)
    return found


def _owners(look: Look, paths: set[str], packages: tuple[Package, ...] | None) -> dict[str, Package]:
    """Path → the package that holds it, by dpkg's lists; those named like a program are read first."""
    known = {one.name: one for one in packages or () if one.origin == "deb"}
    wanted = {f"\n/{alias}\n".encode(): path for path in paths for alias in _aliases(path)}
    found: dict[str, Package] = {}
    lists = [name for name in look.names(_LISTS) if name.endswith(".list")]
    for name in sorted(lists, key=lambda name: not any(word in name for word in ("docker", "containerd", "runc"))):
        if len(found) == len(paths):
            break
        package = known.get(name.removesuffix(".list").partition(":")[0])
        content = look.read(f"{_LISTS}/{name}", limit=_LIST) if package else None
        if package and content:
            text = b"\n" + content
            found |= {path: package for line, path in wanted.items() if line in text and path not in found}
    return found


def _aliases(path: str) -> tuple[str, str]:
    """Dpkg may know /bin/x or /usr/bin/x."""
    return (path, path.removeprefix("usr/") if path.startswith("usr/") else f"usr/{path}")


def _program(look: Look, path: str, owner: Package | None, pids: list[int], *, replaced: bool) -> Program:
    built, digest = _read(look, path, pids[0] if replaced else 0, hashed=owner is None)
    return Program(
        name=path.rpartition("/")[2],
        path=f"/{path}",
        package=owner.name if owner else "",
        package_version=owner.version if owner else "",
        build_version=built.version,
        toolchain=built.toolchain,
        sha256=digest,
        pids=tuple(pids),
        replaced=replaced,
    )


def _read(look: Look, path: str, pid: int, *, hashed: bool) -> tuple[BuildInfo, str]:
    """What the file says, and its hash; the file that a process runs where there is one."""
    try:
        with look.running(pid) if pid else look.plain(path) as file:
            return build_info(file), _sha256(look, path, file) if hashed else ""
    except OSError as error:
        look.miss(f"program:/{path}", error.strerror or str(error))
        return BuildInfo(), ""


def _sha256(look: Look, path: str, file: int) -> str:
    size = os.fstat(file).st_size
    if size > _HASHED:
        look.miss(f"program:/{path}:sha256", f"it holds {size} bytes")
        return ""
    found = hashlib.sha256()
    for piece in _pieces(file):
        found.update(piece)
    return found.hexdigest()


def _pieces(file: int) -> Iterable[bytes]:
    place = 0
    while piece := os.pread(file, 1 << 20, place):
        yield piece
        place += len(piece)
