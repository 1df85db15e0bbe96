"""OCI bundles: what each container was started with, from the config.json that its runtime was given.

Source: the OCI runtime specification, config.md and config-linux.md. Bundles of containerd (and of Docker, which
uses it) lie in /run, those of Podman and CRI-O in their storage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kmend.linux.facts.families import refused_families
from kmend.linux.facts.look import Look
from kmend.linux.facts.said import Said
from kmend.model.facts import Device, EngineKind, Mount, Setting, Syscalls

_TASKS = (
    "run/containerd/io.containerd.runtime.v2.task",
    "run/docker/containerd/daemon/io.containerd.runtime.v2.task",
    "run/k3s/containerd/io.containerd.runtime.v2.task",
    "run/user/*/docker/containerd/daemon/io.containerd.runtime.v2.task",
    "run/user/*/containerd/io.containerd.runtime.v2.task",
)
_DOCKER_NAMESPACE = "moby"
DRIVERS = ("overlay", "vfs")
"""Storage drivers of Podman and CRI-O that are looked at; vfs is what a user gets where overlay does not work."""
_ALLOWS = {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG"}
_ASKS = {"SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE"}
"""Another process decides."""
_MOST_MOUNTS = 5_000
_UNLIMITED = 1 << 62


class Place(NamedTuple):
    """Where a bundle lies, and whose it is."""

    id: str
    folder: str
    engine: EngineKind
    namespace: str = ""
    """containerd's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What one config.json says."""

    place: Place
    pid: int
    """Of its first process, as containerd or Podman noted it; 0 when they did not."""
    user: str
    capabilities: tuple[str, ...] | None
    effective: tuple[str, ...]
    no_new_privileges: bool | None
    syscalls: Syscalls
    apparmor: str
    selinux: str
    namespaces: tuple[str, ...]
    """Kinds that are not the host's, as the specification names them: ``network``, ``mount``, …"""
    devices: tuple[Device, ...]
    mounts: tuple[Mount, ...]
    masked_paths: tuple[str, ...]
    read_only: bool | None
    cgroup: str
    memory_limit: int | None
    cpu_shares: int | None
    cpu_limit: float | None
    pids_limit: int | None
    limits: tuple[Setting, ...]
    annotations: dict[str, str]


def places(look: Look, storages: Iterable[str], states: Iterable[str] = ()) -> Iterator[Place]:
    """Every bundle of containerd, and of the given storage folders of Podman and CRI-O.

    Args:
        look: The host.
        storages: Folders of containers/storage.
        states: State folders of containerd beyond the usual ones.
    """
    elsewhere = (f"{state}/io.containerd.runtime.v2.task" for state in states)
    for pattern in dict.fromkeys((*_TASKS, *elsewhere)):
        for folder in look.matching(pattern):
            for namespace in look.names(folder):
                engine = EngineKind.DOCKER if namespace == _DOCKER_NAMESPACE else EngineKind.CONTAINERD
                for name in look.names(f"{folder}/{namespace}"):
                    yield Place(name, f"{folder}/{namespace}/{name}", engine, namespace)
    for storage in storages:
        engine = EngineKind.CRI if storage.startswith("run/") else EngineKind.PODMAN
        for driver in DRIVERS:
            for name in look.names(f"{storage}/{driver}-containers"):
                folder = f"{storage}/{driver}-containers/{name}/userdata"
                if look.stat(f"{folder}/config.json"):
                    yield Place(name, folder, engine)


def bundle(look: Look, place: Place, known: dict[Syscalls, Syscalls]) -> Bundle | None:
    """What a bundle says; None, with a note, when it cannot be read, is too large, or is no JSON.

    Args:
        look: The host.
        place: The bundle.
        known: Filters that were seen before: the same one is kept once.
    """
    value = look.json(f"{place.folder}/config.json", limit=look.limits.bundle_bytes)
    if not isinstance(value, dict):
        if value is not None:
            look.miss(f"/{place.folder}/config.json", "it is no JSON object")
        return None
    said = Said(value, look, f"container:{place.id}:config.json")
    process, linux = said.at("process"), said.at("linux")
    syscalls = _syscalls(linux.at("seccomp"))
    resources = linux.at("resources")
    return Bundle(
        place=place,
        pid=_pid(look, place),
        user=_user(process.at("user")),
        capabilities=process.texts("capabilities", "bounding") if process.at("capabilities").value else (),
        effective=process.texts("capabilities", "effective"),
        no_new_privileges=bool(process.flag("noNewPrivileges")),
        syscalls=known.setdefault(syscalls, syscalls),
        apparmor=process.text("apparmorProfile"),
        selinux=process.text("selinuxLabel"),
        namespaces=tuple(one.text("type") for one in linux.items("namespaces")),
        devices=(*_devices(linux.at("devices")), *_rules(resources.at("devices"))),
        mounts=tuple(_mounts(look, said)),
        masked_paths=linux.texts("maskedPaths"),
        read_only=bool(said.flag("root", "readonly")),
        cgroup=linux.text("cgroupsPath"),
        memory_limit=_limit(resources.number("memory", "limit")),
        cpu_shares=resources.number("cpu", "shares"),
        cpu_limit=_processors(resources.at("cpu")),
        pids_limit=_limit(resources.number("pids", "limit")),
        limits=tuple(
            Setting(name=one.text("type"), value=f"{one.number('soft')}:{one.number('hard')}")
            for one in process.items("rlimits")
        ),
        annotations={name: one.text() for name, one in said.pairs("annotations")},
    )


def _pid(look: Look, place: Place) -> int:
    """Of the first process, as containerd, or Podman in the folder of its run, noted it; 0 for none."""
    files = [f"{place.folder}/init.pid"]
    if place.engine is EngineKind.PODMAN:
        tail = f"{place.folder.rsplit('/', 3)[1]}/{place.id}/userdata/pidfile"
        files = [f"run/containers/storage/{tail}", *look.matching(f"run/user/*/containers/{tail}")]
    return next((pid for file in files if (pid := _number(look.text(file, note=False)))), 0)


def _syscalls(seccomp: Said) -> Syscalls:
    """What a seccomp section allows; no section means that there is no filter."""
    if seccomp.value is None:
        return Syscalls(mode="disabled", profile="unconfined")
    allows = seccomp.text("defaultAction") in _ALLOWS
    free: set[str] = set()
    sometimes: set[str] = set()
    refused: set[str] = set()
    for rule in seccomp.items("syscalls"):
        action, bound = rule.text("action"), bool(rule.items("args"))
        if action in _ASKS or (bound and (allows or action in _ALLOWS)):
            into = sometimes
        else:
            into = free if action in _ALLOWS else refused
        into.update(rule.texts("names"))
        if name := rule.text("name"):
            into.add(name)
    return Syscalls(
        mode="filter",
        default_allows=allows,
        allowed=tuple(sorted(free)),
        conditional=tuple(sorted(sometimes - free)),
        refused=tuple(sorted(refused - free - sometimes)),
        refused_families=refused_families(seccomp, allowing=_ALLOWS),
    )


def _user(user: Said) -> str:
    if user.value is None:
        return ""
    return f"{user.number('uid')}:{user.number('gid')}"


def _devices(devices: Said) -> Iterator[Device]:
    for one in devices.items():
        yield Device(
            path=one.text("path"), kind=one.text("type"), major=one.number("major"), minor=one.number("minor")
        )


def _rules(rules: Said) -> Iterator[Device]:
    """What the device cgroup allows; a rule without a number is for all of them."""
    for one in rules.items():
        if one.flag("allow"):
            major, minor = one.at("major").value, one.at("minor").value
            yield Device(
                path="",
                kind=one.text("type") or "a",
                major=-1 if major is None else one.number("major"),
                minor=-1 if minor is None else one.number("minor"),
                access=one.text("access") or "rwm",
            )


def _mounts(look: Look, said: Said) -> Iterator[Mount]:
    mounts = said.items("mounts")
    if len(mounts) > _MOST_MOUNTS:
        look.miss("bundle:mounts", f"a bundle has {len(mounts)} mounts; only {_MOST_MOUNTS} were looked at")
    for one in mounts[:_MOST_MOUNTS]:
        options = one.texts("options")
        bind = "bind" in options or "rbind" in options
        yield Mount(
            target=one.text("destination"),
            source=one.text("source"),
            kind=one.text("type") or ("bind" if bind else ""),
            options=options,
            propagation=next((name for name in ("shared", "master") if f"r{name}" in options), ""),
        )


def is_bind(mount: Mount) -> bool:
    """Whether it brings a path of the host in."""
    return mount.kind == "bind" or bool({"bind", "rbind"} & set(mount.options))


def _limit(number: int) -> int:
    """0 for no limit: runtimes write -1, 0 or an absurdly high number for that."""
    return number if 0 < number < _UNLIMITED else 0


def _processors(cpu: Said) -> float:
    quota, period = cpu.number("quota"), cpu.number("period")
    return quota / period if quota > 0 and period > 0 else 0.0


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 else 0  # noqa: PLR2004
