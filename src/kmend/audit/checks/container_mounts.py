"""Checks of running containers: folders, sockets, devices and kernel interfaces of the host that are in them."""

from __future__ import annotations

import re
from functools import partial

from kmend.audit.check import (
    Case,
    Check,
    Verdict,
    bad,
    check,
    good,
    judged,
    not_here,
    of_containers,
    of_told_containers,
    unknown,
)
from kmend.audit.checks.containers import in_own_user_namespace
from kmend.audit.reading import one_name
from kmend.model.facts import Container, Mount
from kmend.model.finding import Area, Severity

_container = partial(check, Area.CONTAINERS)
_RUN = "Docker documentation, “docker container run”"
_SHOWN = 5
_SENSITIVE = ("/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/sys", "/usr", "/bin", "/sbin")
_SENSITIVE_DATA = (
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/kubelet",
    "/run",
    "/var/run",
    "/home",
    "/var/log",
)
# What engines themselves mount into containers, from folders of their own.
_OWN_FILES = re.compile(
    r"^/(var/lib/(docker|containers|containerd|kubelet/pods)|run/(containers|user/\d+/containers|netns))/"
)
_CRITICAL = frozenset(("/", "/etc", "/boot", "/proc", "/root", "/dev", "/sys", "/usr", "/bin", "/lib", "/sbin"))
# Harmless, and often mounted.
_TIME = frozenset(("/etc/localtime", "/etc/timezone"))
_SOCKETS = re.compile(r"(docker|containerd|podman|crio|cri-dockerd|buildkitd|dockershim)\.sock$")
_HARMLESS_DEVICES = frozenset(
    (
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
        "/dev/console",
        "/dev/ptmx",
        "/dev/net/tun",
        "/dev/fuse",
        "/dev/pts/ptmx",
    )
)
_MEMORY_DEVICES = frozenset(("/dev/mem", "/dev/kmem", "/dev/port", "/dev/kcore", "/dev/msr", "/dev/kmsg"))


def _binds(one: Container) -> tuple[Mount, ...]:
    """Folders and files of the host in it, as they were asked for; volumes are the engine's own."""
    return tuple(mount for mount in one.binds if mount.kind != "volume" and mount.source.startswith("/"))


def _writable(mount: Mount) -> bool:
    return "ro" not in mount.options


def _sensitive(one: Container, _: Case) -> Verdict:
    found = [(mount.source.rstrip("/") or "/", mount) for mount in _binds(one) if _is_sensitive(mount)]
    if not found:
        return good("No sensitive folder of the host is mounted.")
    seen = ", ".join(
        f"{path} at {mount.target} ({'rw' if _writable(mount) else 'ro'})" for path, mount in found[:_SHOWN]
    )
    critical = any(_writable(mount) and path in _CRITICAL for path, mount in found)
    return bad(f"Mounted from the host: {seen}.", severity=Severity.CRITICAL if critical else None)


def _is_sensitive(mount: Mount) -> bool:
    """A folder itself, or, writable, what is below one of the system's."""
    path = mount.source.rstrip("/") or "/"
    if path in {"/", *_SENSITIVE, *_SENSITIVE_DATA}:
        return True
    below = any(path.startswith(f"{folder}/") for folder in _SENSITIVE)
    return below and _writable(mount) and not _OWN_FILES.match(path) and path not in _TIME


def _socket(one: Container, case: Case) -> Verdict:
    sockets = [one_name(engine.socket) for engine in case.facts.engines if engine.socket.endswith(".sock")]
    found = [
        mount.source
        for mount in _binds(one)
        if _SOCKETS.search(mount.source)
        or _SOCKETS.search(mount.target)
        or any(socket.startswith(one_name(f"{mount.source.rstrip('/')}/")) for socket in sockets)
    ]
    return judged(not found, f"Sockets of engines in it: {', '.join(found) or 'none'}.")


def _shared_mounts(one: Container, _: Case) -> Verdict:
    found = [mount.target for mount in one.binds if "shared" in mount.propagation]
    return judged(not found, f"Mounts that it shares with the host: {', '.join(found[:_SHOWN]) or 'none'}.")


def _devices(one: Container, _: Case) -> Verdict:
    # A rule for every device stands for a privileged one; a node that every container has is no finding.
    paths = [
        device.path
        for device in one.devices
        if device.path and device.path not in _HARMLESS_DEVICES and not device.path.startswith("/dev/pts/")
    ]
    wide = [device for device in one.devices if not device.path and device.major == -1 and "w" in device.access]
    wide = [device for device in wide if device.kind in {"a", "b"}]
    memory = sorted(_MEMORY_DEVICES.intersection(paths))
    seen = [*paths[:_SHOWN], *(["every device"] if wide else [])]
    severity = Severity.CRITICAL if memory or wide or any(_is_disk(path) for path in paths) else None
    return (
        bad(f"Devices of the host: {', '.join(seen)}.", severity=severity)
        if seen
        else good("No device of the host.")
    )


def _is_disk(path: str) -> bool:
    return bool(re.match(r"/dev/(sd|vd|xvd|nvme\d|dm-|mapper/|md\d)", path))


def _masked(one: Container, _: Case) -> Verdict:
    if any("systempaths=unconfined" in given or "unmask=all" in given.lower() for given in one.security):
        return bad("The masks over /proc and /sys were taken off.")
    if one.privileged:
        return not_here("It is privileged itself.")
    if one.masked_paths is None:
        return unknown("Which paths are covered was not seen.")
    return judged(bool(one.masked_paths), f"Covered: {', '.join(one.masked_paths[:_SHOWN]) or 'nothing'}.")


def _writable_kernel(one: Container, _: Case) -> Verdict:
    if not one.mounts:
        return unknown("Its mounts were not seen.")
    found = [
        f"{mount.target} ({mount.kind})"
        for mount in one.mounts
        if mount.kind in {"cgroup", "cgroup2", "sysfs", "securityfs", "debugfs", "tracefs", "bpf", "configfs"}
        and _writable(mount)
    ]
    if found and in_own_user_namespace(one):
        return good("What it may write belongs to its own user namespace.")
    return judged(not found, f"Writable interfaces of the kernel: {', '.join(found) or 'none'}.")


CHECKS: tuple[Check, ...] = (
    _container(
        "container-host-folders",
        "No container has a sensitive folder of the host",
        Severity.HIGH,
        of_told_containers(_sensitive),
        source="Docker documentation, “Bind mounts”",
        remedy="Mount only what it needs, read-only, or use a volume.",
        cis="5.6",
    ),
    _container(
        "container-devices",
        "No container has devices of the host",
        Severity.HIGH,
        of_told_containers(_devices),
        source=_RUN,
        remedy="Start it without `--device`, or with r only.",
        cis="5.18",
    ),
    _container(
        "container-shared-mounts",
        "No container shares its mounts with the host",
        Severity.MEDIUM,
        of_told_containers(_shared_mounts),
        source="Linux manual, mount_namespaces(7), “Shared subtrees”",
        remedy="Mount it without `:shared` (`bind-propagation=rprivate`).",
        cis="5.20",
    ),
    _container(
        "container-engine-socket",
        "No container has the socket of an engine",
        Severity.CRITICAL,
        of_told_containers(_socket),
        source="Docker documentation, “Docker daemon attack surface”",
        remedy="Start it without the socket; put a proxy before it that knows which calls are allowed.",
        cis="5.32",
        breaks="What manages containers from within one.",
    ),
    _container(
        "container-masks",
        "What /proc tells of the host is covered",
        Severity.HIGH,
        of_containers(_masked),
        source="OCI runtime specification, “Masked Paths”",
        remedy="Start it without `--security-opt systempaths=unconfined` (procMount: Unmasked).",
    ),
    _container(
        "container-kernel-writable",
        "Containers cannot write to the kernel's own file systems",
        Severity.HIGH,
        of_containers(_writable_kernel),
        source="Linux documentation, admin-guide/cgroup-v1, “release_agent”",
        remedy="Mount it read-only, or not at all.",
    ),
)
