"""Files that checks ask for: owner, rights, and the text of those that hold settings and no secrets."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from kmend.linux.facts.look import Look, without_credentials
from kmend.model.facts import FileFacts

WITH_TEXT = (
    # Docker
    "/etc/docker/daemon.json",
    "/etc/default/docker",
    "/etc/sysconfig/docker",
    "/etc/subuid",
    "/etc/subgid",
    "/etc/environment",
    "/var/lib/docker/swarm/docker-state.json",
    # containerd, Podman, CRI-O
    "/etc/containerd/config.toml",
    "/etc/containerd/conf.d/*.toml",
    "/etc/containers/containers.conf",
    "/etc/containers/containers.conf.d/*.conf",
    "/usr/share/containers/containers.conf",
    "/etc/containers/storage.conf",
    "/usr/share/containers/storage.conf",
    "/etc/containers/registries.conf",
    "/etc/containers/registries.conf.d/*.conf",
    "/etc/containers/policy.json",
    "/etc/containers/registries.d/*.yaml",
    "/etc/crio/crio.conf",
    "/etc/crio/crio.conf.d/*.conf",
    "/etc/crictl.yaml",
    # Kubernetes node
    "/var/lib/kubelet/config.yaml",
    "/etc/kubernetes/kubelet/kubelet-config.json",
    "/etc/default/kubelet",
    "/etc/systemd/system/kubelet.service.d/*.conf",
    "/usr/lib/systemd/system/kubelet.service.d/*.conf",
    "/lib/systemd/system/kubelet.service.d/*.conf",
    # Units of engines
    *(
        f"{folder}/{unit}"
        for folder in (
            "/etc/systemd/system",
            "/run/systemd/system",
            "/usr/lib/systemd/system",
            "/lib/systemd/system",
        )
        for unit in (
            "docker.service",
            "docker.socket",
            "docker.service.d/*.conf",
            "containerd.service",
            "podman.service",
            "podman.socket",
            "crio.service",
            "kubelet.service",
        )
    ),
    # What hardening touches
    "/etc/sysctl.conf",
    "/etc/modules",
    "/etc/default/grub",
    "/etc/apparmor.d/docker*",
    "/etc/selinux/config",
    "/etc/security/limits.conf",
    "/etc/login.defs",
)
"""Settings. Their text is kept, without the passwords in addresses. ``*`` stands for any part of a name."""

WITHOUT_TEXT = (
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/user/*/docker.sock",
    "/run/user/*/podman/podman.sock",
    "/run/k3s/containerd/containerd.sock",
    "/etc/docker",
    "/etc/docker/certs.d",
    "/etc/docker/certs.d/*",
    "/etc/docker/certs.d/*/*",
    "/etc/docker/key.json",
    "/etc/docker/*.pem",
    "/root/.docker",
    "/root/.docker/*",
    "/home/*/.docker",
    "/home/*/.docker/config.json",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/containers/storage",
    "/etc/containerd",
    "/etc/containerd/certs.d",
    "/etc/containers",
    "/etc/kubernetes",
    "/etc/kubernetes/*.conf",
    "/etc/kubernetes/manifests",
    "/etc/kubernetes/manifests/*.yaml",
    "/etc/kubernetes/pki",
    "/etc/kubernetes/pki/*",
    "/etc/kubernetes/pki/etcd/*",
    "/var/lib/kubelet",
    "/var/lib/kubelet/kubeconfig",
    "/var/lib/kubelet/pki",
    "/var/lib/kubelet/pki/*",
    "/var/lib/etcd",
    "/etc/cni",
    "/etc/cni/net.d",
    "/etc/cni/net.d/*",
    "/opt/cni/bin",
    "/opt/cni/bin/*",
    "/usr/lib/cni",
    "/usr/lib/cni/*",
    "/root/.config/containers/auth.json",
    "/run/containers/0/auth.json",
    "/dev/kvm",
    "/dev/mem",
    "/dev/vhost-net",
    "/dev/vhost-vsock",
    "/dev/net/tun",
    "/dev/fuse",
    "/boot/grub/grub.cfg",
    "/etc/audit/auditd.conf",
    "/etc/shadow",
    "/usr/bin/newuidmap",
    "/usr/bin/newgidmap",
    "/usr/bin/fusermount3",
    "/var/run/reboot-required",
)
"""What may hold secrets, or nothing that a check reads: only owner and rights are looked at."""

_TEXT = 256 << 10
_MOST = 500
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFSOCK: "socket",
    stat.S_IFLNK: "link",
}


def files(
    look: Look, *, with_text: Iterable[str] = WITH_TEXT, without_text: Iterable[str] = WITHOUT_TEXT
) -> tuple[FileFacts, ...]:
    """Each file once. One that a plain path names and that is not there comes back as not existing.

    Links are followed, inside the root; ``link`` is the kind of one that leads nowhere.
    """
    found: dict[str, FileFacts] = {}
    for wanted, reads in ((with_text, True), (without_text, False)):
        for pattern in wanted:
            for path in _paths(look, pattern):
                if path not in found:
                    found[path] = file(look, path, reads=reads)
    return tuple(found[path] for path in sorted(found))


def _paths(look: Look, pattern: str) -> list[str]:
    if not set("*?[") & set(pattern):
        return [pattern]
    found = look.matching(pattern)
    if len(found) > _MOST:
        look.miss(pattern, f"{len(found)} files fit; only {_MOST} were looked at")
    return [f"/{path}" for path in found[:_MOST]]


def file(look: Look, path: str, *, reads: bool) -> FileFacts:
    """What is known of one file; its text where ``reads``."""
    inside = path.lstrip("/")
    status = look.stat(inside) or look.stat(inside, follow=False)
    if status is None:
        return FileFacts(path=path, exists=False)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "other")
    return FileFacts(
        path=path,
        exists=True,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        text=_text(look, inside, status) if reads and kind == "file" else None,
    )


def _text(look: Look, path: str, status: os.stat_result) -> str | None:
    if status.st_size > _TEXT:
        look.miss(f"/{path}", f"it holds {status.st_size} bytes; {_TEXT} is the most that is kept")
        return None
    content = look.read(path, limit=_TEXT)
    return None if content is None else without_credentials(content.decode(errors="replace"))
