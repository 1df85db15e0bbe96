"""Containers: what engines say, what their bundles say, and what /proc shows, joined to one of each.

Of a running container the kernel has the last word: capabilities, seccomp mode, labels, namespaces, mounts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from kmend.linux.facts import processes as procs
from kmend.linux.facts.bundles import Bundle, is_bind
from kmend.linux.facts.host import id_map, mounts
from kmend.linux.facts.look import Look
from kmend.linux.facts.processes import Seen
from kmend.model.facts import Container, EngineKind, Mount, Namespace, Process, Syscalls

NAMESPACES = ("user", "net", "pid", "mnt", "ipc", "uts", "cgroup", "time")
_MOST_PROCESSES = 2_000
_SELINUX = re.compile(r"[\w-]+:[\w-]+:[\w-]+(:.*)?")
_CRI = "io.kubernetes.cri."
_CRIO = "io.kubernetes.cri-o."
_PRIVILEGED = "io.podman.annotations.privileged"
_IMAGE_NAMES = (f"{_CRI}image-name", f"{_CRIO}ImageName", "nerdctl/image", "org.opencontainers.image.ref.name")
_NAMES = (f"{_CRI}container-name", "io.kubernetes.container.name", "nerdctl/name", "io.container.name")


def containers(
    look: Look, told: Iterable[Container], bundles: Iterable[Bundle], seen: tuple[Seen, ...]
) -> tuple[Container, ...]:
    """Every container once, by its id; one that only its cgroup gives away too."""
    known = {one.id: one for one in told}
    started = {one.place.id: one for one in bundles}
    running = _by_container(look, seen, known, started)
    host = _host_namespaces(look)
    found = []
    for number, key in enumerate(sorted({*known, *started, *running})[: look.limits.containers]):
        if not look.left:
            look.miss("containers", f"the time was over after {number}")
            break
        one = known.get(key) or _bare(key, started.get(key), running.get(key, []))
        if key in started:
            one = _with_bundle(one, started[key])
        found.append(_with_processes(look, one, started.get(key), running.get(key, []), host))
    return tuple(found)


def _by_container(
    look: Look, seen: tuple[Seen, ...], known: dict[str, Container], started: dict[str, Bundle]
) -> dict[str, list[Seen]]:
    """Container → its processes: by the name of their cgroup, else by the pid namespace of its first process."""
    firsts = {one.pid: key for key, one in known.items() if one.pid}
    firsts |= {one.pid: key for key, one in started.items() if one.pid}
    spaces = {procs.namespace(look, one.pid, "pid"): firsts[one.pid] for one in seen if _is_nameless(one, firsts)}
    for common in (0, procs.namespace(look, 1, "pid")):
        spaces.pop(common, None)
    found: dict[str, list[Seen]] = {}
    for one in seen:
        key = one.container or firsts.get(one.pid, "")
        if not key and spaces:
            key = spaces.get(procs.namespace(look, one.pid, "pid"), "")
        if key:
            found.setdefault(key, []).append(one)
    return found


def _is_nameless(one: Seen, firsts: dict[int, str]) -> bool:
    """Whether a container's first process is in a cgroup that does not say so."""
    return one.pid in firsts and not one.container


def _host_namespaces(look: Look) -> dict[str, int]:
    found = {kind: procs.namespace(look, 1, kind) for kind in NAMESPACES}
    if not any(found.values()):
        look.miss("namespaces", "those of process 1 cannot be read; run as root")
    return found


def _bare(key: str, bundle: Bundle | None, inside: list[Seen]) -> Container:
    """One that no engine told of."""
    if bundle is None:
        return Container(id=key, name="", engine=inside[0].engine if inside else EngineKind.NONE)
    place = bundle.place
    is_containerd = place.engine is EngineKind.CONTAINERD
    # The bundles lie beside the socket.
    socket = f"/{place.folder.partition('/io.containerd.')[0]}/containerd.sock" if is_containerd else ""
    return Container(id=key, name=key if is_containerd else "", engine=place.engine, socket=socket)


def _with_bundle(one: Container, bundle: Bundle) -> Container:
    """What the bundle adds; the engine's own words stay where it has some."""
    says = bundle.annotations
    profile = one.syscalls.profile if one.syscalls else ""
    return replace(
        one,
        name=_name(one, bundle),
        pod=one.pod or _pod(says),
        image=one.image or next((says[name] for name in _IMAGE_NAMES if says.get(name)), ""),
        user=one.user or bundle.user,
        privileged=_privileged(one, bundle),
        syscalls=replace(bundle.syscalls, profile=profile or bundle.syscalls.profile),
        capabilities=bundle.capabilities,
        effective=bundle.effective,
        no_new_privileges=bundle.no_new_privileges,
        apparmor=bundle.apparmor or one.apparmor,
        selinux=bundle.selinux,
        devices=bundle.devices,
        mounts=bundle.mounts,
        binds=_binds(one, bundle),
        masked_paths=bundle.masked_paths if one.masked_paths is None else one.masked_paths,
        read_only=bundle.read_only if one.read_only is None else one.read_only,
        network=one.network or ("" if "network" in bundle.namespaces else "host"),
        memory_limit=bundle.memory_limit if one.memory_limit is None else one.memory_limit,
        cpu_shares=bundle.cpu_shares if one.cpu_shares is None else one.cpu_shares,
        cpu_limit=bundle.cpu_limit if one.cpu_limit is None else one.cpu_limit,
        pids_limit=bundle.pids_limit if one.pids_limit is None else one.pids_limit,
        limits=one.limits or bundle.limits,
        cgroup=bundle.cgroup,
    )


def _binds(one: Container, bundle: Bundle) -> tuple[Mount, ...]:
    """What was asked for; a bundle also has what the engine itself binds, such as /etc/hosts."""
    return one.binds if one.engine_says else tuple(mount for mount in bundle.mounts if is_bind(mount))


def _name(one: Container, bundle: Bundle) -> str:
    says = bundle.annotations
    if says.get(f"{_CRI}container-type") == "sandbox" or says.get(f"{_CRIO}ContainerType") == "sandbox":
        return "POD"
    told = next((says[name] for name in _NAMES if says.get(name)), "")
    return told or one.name


def _privileged(one: Container, bundle: Bundle) -> bool | None:
    """What the engine told; Podman notes it beside the container, newer versions only where it is so."""
    if one.privileged is not None or bundle.place.engine is not EngineKind.PODMAN:
        return one.privileged
    return bundle.annotations.get(_PRIVILEGED) == "TRUE"


def _pod(says: dict[str, str]) -> str:
    name = says.get(f"{_CRI}sandbox-name") or says.get("io.kubernetes.pod.name", "")
    space = says.get(f"{_CRI}sandbox-namespace") or says.get("io.kubernetes.pod.namespace", "")
    return f"{space}/{name}" if name else ""


def _with_processes(
    look: Look, one: Container, bundle: Bundle | None, inside: list[Seen], host: dict[str, int]
) -> Container:
    """What /proc shows of a container that runs."""
    first = _first(one.pid or (bundle.pid if bundle else 0), inside)
    if first is None:
        state = one.state or ("exited" if bundle and look.stat("proc/1/status") else "")
        return replace(one, state=state, pid=0 if state != "running" else one.pid)
    return replace(
        one,
        state=one.state or "running",
        pid=first.pid,
        uid=first.uid,
        capabilities=procs.names(first.bounding),
        effective=procs.names(first.effective),
        no_new_privileges=first.no_new_privileges,
        syscalls=_syscalls(one.syscalls, first),
        cgroup=first.cgroup,
        processes=tuple(_processes(look, one.id, inside)),
        **_from_folder(look, one, first.pid, host),
    )


def _from_folder(look: Look, one: Container, pid: int, host: dict[str, int]) -> dict[str, Any]:
    """What single files of the first process say; it may go meanwhile, and what was told before stays then."""
    folder = f"proc/{pid}"
    seen = mounts(look, f"{folder}/mountinfo")
    if seen is None:
        look.miss(f"container:{one.id}:mounts", "its first process has gone, or may not be looked at")
    spaces = tuple(_namespaces(look, pid, host))
    if not spaces:
        look.miss(f"container:{one.id}:namespaces", "its first process has gone, or may not be looked at")
    top = next((mount for mount in seen or () if mount.target == "/"), None)
    label = look.text(f"{folder}/attr/apparmor/current", note=False) or look.text(
        f"{folder}/attr/current", note=False
    )
    is_selinux = bool(_SELINUX.fullmatch(label.rstrip("\0")))
    return {
        "uid_map": id_map(look.text(f"{folder}/uid_map", note=False)),
        "gid_map": id_map(look.text(f"{folder}/gid_map", note=False)),
        "apparmor": one.apparmor if is_selinux or not label else label,
        "selinux": label.rstrip("\0") if is_selinux else one.selinux,
        "namespaces": spaces,
        "mounts": seen or one.mounts,
        "read_only": "ro" in top.options if top else one.read_only,
        "network": one.network or _network(spaces),
    }


def _namespaces(look: Look, pid: int, host: dict[str, int]) -> Iterator[Namespace]:
    for kind in NAMESPACES:
        if inode := procs.namespace(look, pid, kind):
            yield Namespace(kind=kind, inode=inode, of_host=inode == host[kind])


def _network(spaces: tuple[Namespace, ...]) -> str:
    return "host" if any(one.kind == "net" and one.of_host for one in spaces) else ""


def _first(pid: int, inside: list[Seen]) -> Seen | None:
    """The first process: the one that was told, else the one that is 1 inside, else one with a parent outside."""
    pids = {one.pid for one in inside}
    told = [one for one in inside if one.pid == pid]
    ones = [one for one in inside if one.inside == 1 and one.pid != 1]
    tops = [one for one in inside if one.parent not in pids]
    return next(iter(told or ones or tops or inside), None)


def _syscalls(known: Syscalls | None, first: Seen) -> Syscalls:
    """The mode as the kernel has it; a filter of a bundle holds only where there is one."""
    if known is None or first.seccomp != "filter":
        return Syscalls(mode=first.seccomp, profile=known.profile if known else "")
    return replace(known, mode=first.seccomp)


def _processes(look: Look, key: str, inside: list[Seen]) -> Iterator[Process]:
    if len(inside) > _MOST_PROCESSES:
        look.miss(f"container:{key}:processes", f"{len(inside)} run; only {_MOST_PROCESSES} were looked at")
    for one in inside[:_MOST_PROCESSES]:
        yield procs.process(look, one)
