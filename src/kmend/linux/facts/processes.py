"""Processes as /proc shows them, once each, and which container each is in."""

from __future__ import annotations

import re
from typing import NamedTuple

from kmend.linux.facts.look import Look
from kmend.model.facts import EngineKind, Process

# Bit → name; linux/capability.h
CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ]
)
SERVICES = frozenset(
    [
        "dockerd",
        "containerd",
        "containerd-shim",
        "containerd-shim-runc-v2",
        "docker-proxy",
        "podman",
        "conmon",
        "crun",
        "runc",
        "crio",
        "kubelet",
        "kube-proxy",
        "kube-apiserver",
        "kube-controller",
        "kube-scheduler",
        "etcd",
        "rootlesskit",
        "slirp4netns",
        "pasta",
        "buildkitd",
        "k3s",
        "lxd",
        "incusd",
        "lxc-monitord",
        "cri-dockerd",
        "flanneld",
        "systemd-nspawn",
    ]
)
"""Names, as /proc cuts them to 15 letters or whole, of engines, runtimes and Kubernetes."""

_NAME = 15
_SHORT = frozenset(name[:_NAME] for name in SERVICES)
_THREADS = 2  # kthreadd, the parent of the kernel's own threads
_FIELD = re.compile(r"^(Name|PPid|Uid|NSpid|CapEff|CapBnd|NoNewPrivs|Seccomp):[ \t]*(.*)$", re.MULTILINE)
_HEX = re.compile(r"([a-z][a-z0-9-]*-|)([0-9a-f]{64})(?:\.scope)?$")
_LXC = re.compile(r"/lxc(?:\.payload\.|/)([^/]+)")
_NSPAWN = re.compile(r"/systemd-nspawn@([^/]+)\.service/payload(?:/|$)")
_INODE = re.compile(r"\[(\d{1,15})\]$")
_MOST = 200_000
_ARGUMENTS = 64 << 10


class Seen(NamedTuple):
    """What one process was when it was read."""

    pid: int
    name: str
    parent: int
    uid: int
    effective_uid: int
    effective: int
    """Capability bits."""
    bounding: int
    inside: int
    """Its pid in its own pid namespace."""
    no_new_privileges: bool | None
    seccomp: str
    cgroup: str
    container: str
    """Id, or name, of the container that its cgroup belongs to; empty for none."""
    engine: EngineKind


def processes(look: Look) -> tuple[Seen, ...]:
    """Every process but the kernel's own threads; those that go while they are read are left out."""
    pids = sorted(int(name) for name in look.names("proc") if name.isascii() and name.isdecimal())
    if len(pids) > _MOST:
        look.miss("processes", f"there are {len(pids)}; only {_MOST} were looked at")
    found = []
    for number, pid in enumerate(pids[:_MOST]):
        if not look.left:
            look.miss("processes", f"the time was over after {number} of {len(pids)}")
            break
        if seen := _process(look, pid):
            found.append(seen)
    return tuple(found)


def _process(look: Look, pid: int) -> Seen | None:
    content = look.read(f"proc/{pid}/status", note=False)
    if content is None:
        return None
    fields = dict(_FIELD.findall(content.decode(errors="replace")))
    try:
        parent = int(fields["PPid"])
        if _THREADS in {pid, parent}:
            return None
        cgroup = _cgroup(look.text(f"proc/{pid}/cgroup", note=False))
        container, engine = container_of(cgroup)
        uids = fields["Uid"].split()
        return Seen(
            pid=pid,
            name=fields.get("Name", ""),
            parent=parent,
            uid=int(uids[0]),
            effective_uid=int(uids[1]),
            effective=int(fields["CapEff"], 16),
            bounding=int(fields["CapBnd"], 16),
            inside=int(fields.get("NSpid", str(pid)).split()[-1]),
            no_new_privileges={"0": False, "1": True}.get(fields.get("NoNewPrivs", "")),
            seccomp={"0": "disabled", "1": "strict", "2": "filter"}.get(fields.get("Seccomp", ""), ""),
            cgroup=cgroup,
            container=container,
            engine=engine,
        )
    except (KeyError, ValueError, IndexError):
        look.miss(f"process:{pid}", "its status in /proc is not as it should be")
        return None


def _cgroup(text: str) -> str:
    """The path of a process: the unified hierarchy's, or, with cgroup 1, the longest; cgroups(7)."""
    paths = [line.split(":", 2) for line in text.splitlines()]
    known = [parts for parts in paths if len(parts) == 3]  # noqa: PLR2004
    unified = [path for number, _, path in known if number == "0" and path != "/"]
    return (unified or sorted((path for _, _, path in known), key=len, reverse=True) or [""])[0]


def container_of(cgroup: str) -> tuple[str, EngineKind]:
    """Whose cgroup it is: the innermost container's id, and the engine as far as the path tells."""
    for part in reversed(cgroup.split("/")):
        found = _HEX.match(part)
        if found and "conmon" not in found[1]:
            return found[2], _engine(found[1], cgroup)
    for pattern in (_LXC, _NSPAWN):
        if named := pattern.search(cgroup):
            return named[1], EngineKind.NONE
    return "", EngineKind.NONE


def _engine(prefix: str, cgroup: str) -> EngineKind:
    if prefix == "docker-" or "/docker/" in cgroup:
        return EngineKind.DOCKER
    if prefix == "libpod-" or "/libpod_parent/" in cgroup:
        return EngineKind.PODMAN
    if prefix == "crio-":
        return EngineKind.CRI
    if prefix in {"cri-containerd-", "nerdctl-"}:
        return EngineKind.CONTAINERD
    return EngineKind.NONE


def is_service(one: Seen) -> bool:
    """Whether it is an engine, a runtime or a part of Kubernetes, outside of containers or in them."""
    return one.name in SERVICES or one.name in _SHORT


def service(look: Look, one: Seen) -> Process:
    """A service with its arguments, without the passwords in addresses."""
    return process(look, one, arguments=arguments(look, one.pid))


def process(look: Look, one: Seen, *, arguments: tuple[str, ...] = ()) -> Process:
    """A process as Facts show it."""
    return Process(
        pid=one.pid,
        name=one.name,
        uid=one.uid,
        effective_uid=one.effective_uid,
        arguments=arguments,
        parent=one.parent,
        user_namespace=namespace(look, one.pid, "user"),
        capabilities=names(one.effective),
    )


def arguments(look: Look, pid: int) -> tuple[str, ...]:
    """The command line of a process; empty when it cannot be read."""
    text = look.text(f"proc/{pid}/cmdline", limit=_ARGUMENTS, note=False)
    return tuple(text.rstrip("\0").split("\0")) if text else ()


def namespace(look: Look, pid: int, kind: str) -> int:
    """The inode of a namespace; 0 when it cannot be read."""
    found = _INODE.search(look.link(f"proc/{pid}/ns/{kind}"))
    return int(found[1]) if found else 0


_named: dict[int, tuple[str, ...]] = {}


def names(bits: int) -> tuple[str, ...]:
    """The names of capability bits; of bits that are not known yet, ``CAP_41`` and the like."""
    if bits not in _named:
        numbers = [number for number in range(64) if bits >> number & 1]
        _named[bits] = tuple(
            CAPABILITIES[number] if number < len(CAPABILITIES) else f"CAP_{number}" for number in numbers
        )
    return _named[bits]
