"""The gates: each stands before some kernel code and answers for one container. Data and one function each.

A gate's id, what it means and where the kernel says so are in ``GATES``, and in docs/reference/exposure.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kmend.exposure.reach.answer import Answer, State, any_of, every, say
from kmend.exposure.reach.box import Box

GATES = {
    "seccomp": (
        "The container's seccomp filter refuses the system call.",
        "seccomp(2); Docker: profiles/seccomp/default.json",
    ),
    "capability": (
        "The container lacks a capability, or has it only in a user namespace of its own.",
        "capabilities(7), user_namespaces(7)",
    ),
    "user-namespace": (
        "The capability would do in a user namespace, and the container cannot make one.",
        "user_namespaces(7); Documentation/admin-guide/sysctl/user.rst; Debian's add-sysctl-to-disallow-… patch",
    ),
    "host-network": (
        "Only in the host's network namespace is there something behind it.",
        "network_namespaces(7)",
    ),
    "network": ("The container has no network.", "docker-run(1), --network"),
    "module-missing": ("The module is not installed.", "depmod(8)"),
    "module-not-loaded": (
        "The module is not loaded, and nothing that the container may do loads it.",
        "modules.alias; modprobe(8)",
    ),
    "module-blocked": (
        "modprobe.d or the boot parameters keep the module from being loaded.",
        "modprobe.d(5); Documentation/admin-guide/kernel-parameters.txt, module_blacklist",
    ),
    "modules-disabled": (
        "No module can be loaded any more.",
        "Documentation/admin-guide/sysctl/kernel.rst, modules_disabled",
    ),
    "hardware": ("The driver's hardware is not here.", "modules.alias; Documentation/driver-api/driver-model"),
    "device-node": ("The container has no such device.", "Documentation/admin-guide/devices.txt; mknod(2)"),
    "mount": ("No such file system is mounted in the container.", "proc_pid_mountinfo(5)"),
    "io_uring_disabled": (
        "io_uring is switched off for it.",
        "Documentation/admin-guide/sysctl/kernel.rst, io_uring_disabled",
    ),
    "unprivileged_bpf_disabled": (
        "bpf(2) needs CAP_BPF on the host.",
        "Documentation/admin-guide/sysctl/kernel.rst, unprivileged_bpf_disabled",
    ),
    "perf_event_paranoid": (
        "perf_event_open(2) needs CAP_PERFMON on the host.",
        "Documentation/admin-guide/perf-security.rst; Debian: level 3 refuses all use without privileges",
    ),
    "ldisc_autoload": (
        "Line disciplines are not loaded for those without CAP_SYS_MODULE.",
        "drivers/tty/Kconfig, LDISC_AUTOLOAD",
    ),
    "security-module": ("Another security module is in use.", "Documentation/admin-guide/LSM/index.rst"),
    "own-kernel": ("The container runs on a kernel of its own.", "OCI runtimes: Kata Containers, gVisor"),
    "no-entry": ("Nothing that a container does comes there.", "the comment of the entry"),
    "not-known": ("No rule says how this code is entered.", "this table"),
}

Gate = Callable[[Box], Answer]


@dataclass(frozen=True, slots=True)
class Call:
    """One of some system calls."""

    names: tuple[str, ...]

    def __call__(self, box: Box) -> Answer:
        """Open when one of them is."""
        return any_of(box.call(name) for name in self.names)


@dataclass(frozen=True, slots=True)
class Family:
    """socket(2) of one address family."""

    number: int
    name: str

    def __call__(self, box: Box) -> Answer:
        """Open when the filter lets it through."""
        return box.family(self.number, self.name)


@dataclass(frozen=True, slots=True)
class OwnCapability:
    """A capability over namespaces of the container's own, or of a user namespace that it may make."""

    name: str

    def __call__(self, box: Box) -> Answer:
        """As ns_capable() in the kernel."""
        return box.own_capability(self.name)


@dataclass(frozen=True, slots=True)
class HostCapability:
    """A capability in the host's user namespace."""

    name: str

    def __call__(self, box: Box) -> Answer:
        """As capable() in the kernel."""
        return box.host_capability(self.name)


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A sysctl that shuts code off, unless a capability on the host lifts it."""

    name: str
    shuts: tuple[str, ...]
    """Values that shut it."""
    lifted_by: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    """Values that no capability lifts."""

    def __call__(self, box: Box) -> Answer:
        """Open also where the kernel has no such sysctl: it is older than that."""
        gate = self.name.rpartition(".")[2]
        if not box.host.sysctls:
            return say(State.UNKNOWN, gate, "/proc/sys", "the sysctls could not be read")
        value = box.host.sysctls.get(self.name)
        if value is None:
            return say(State.OPEN, "", self.name, "this kernel has no such sysctl")
        if value in self.always:
            return say(State.SHUT, gate, self.name, value)
        if value not in self.shuts:
            return say(State.OPEN, "", self.name, value)
        lifted = any_of(box.host_capability(name) for name in self.lifted_by) if self.lifted_by else None
        if lifted is None or lifted.state is State.SHUT:
            return say(State.SHUT, gate, self.name, value)
        return lifted if lifted.state is State.OPEN else Answer(lifted.state, gate, lifted.evidence)


@dataclass(frozen=True, slots=True)
class Node:
    """A device node of one kind and major number, or with a certain minor number."""

    kind: str
    major: int
    minors: tuple[int, ...] = ()
    """Empty for all."""
    name: str = ""

    def __call__(self, box: Box) -> Answer:
        """Open when the container has the node, or may make it."""
        if box.container.privileged:
            return say(State.OPEN, "", "privileged", f"it has every device, {self.name} too")
        if not box.sees_devices:
            return say(State.UNKNOWN, "device-node", "devices", "its devices could not be seen")
        for one in box.container.devices:
            if one.path and self._is(one.kind, one.major, one.minor):
                return say(State.OPEN, "", "devices", f"it has {one.path}")
        for one in box.container.devices:
            makes = box.capability("CAP_MKNOD").state is State.OPEN
            if not one.path and makes and self._is(one.kind, one.major, one.minor) and _is_opened(one.access):
                return say(State.OPEN, "", "devices", f"it may make {self.name} (CAP_MKNOD and the device cgroup)")
        return say(State.SHUT, "device-node", "devices", f"it has no {self.name}")

    def _is(self, kind: str, major: int, minor: int) -> bool:
        if kind not in {self.kind, "a"} or major not in {self.major, -1}:
            return False
        return not self.minors or minor == -1 or minor in self.minors


def _is_opened(access: str) -> bool:
    """A rule that lets nodes be made only (``m``), which Docker gives for all devices, opens none."""
    return "r" in access or "w" in access or not access


@dataclass(frozen=True, slots=True)
class AnyNode:
    """Any device node beyond those that every container has."""

    def __call__(self, box: Box) -> Answer:
        """Majors 1 and 5 and the pseudo-terminals are in every container."""
        if box.container.privileged:
            return say(State.OPEN, "", "privileged", "it has every device")
        if not box.sees_devices:
            return say(State.UNKNOWN, "device-node", "devices", "its devices could not be seen")
        for one in box.container.devices:
            if one.path and one.major not in _EVERYWHERE:
                return say(State.UNKNOWN, "device-node", "devices", f"whether {one.path} leads there is not known")
        return say(State.SHUT, "device-node", "devices", "it has no device of the host")


_EVERYWHERE = frozenset((1, 5, 136, -1))


@dataclass(frozen=True, slots=True)
class Mounted:
    """A file system of one of some kinds is mounted in the container, or lies below its overlay."""

    kinds: tuple[str, ...]

    def __call__(self, box: Box) -> Answer:
        """By its mountinfo."""
        for kind in self.kinds:
            if kind in box.file_systems:
                return say(State.OPEN, "", "mounts", f"{kind} at {box.file_systems[kind]}")
        if not box.container.mounts:
            return say(State.UNKNOWN, "mount", "/proc/PID/mountinfo", "its mounts could not be read")
        return say(State.SHUT, "mount", "mounts", f"no {self.kinds[0]} is mounted in it")


@dataclass(frozen=True, slots=True)
class Mounts:
    """mount(2), or fsopen(2), with CAP_SYS_ADMIN: of the host, or in a user namespace where the kind allows it."""

    in_user_namespace: bool

    def __call__(self, box: Box) -> Answer:
        """Both the call and the capability."""
        capability = (OwnCapability if self.in_user_namespace else HostCapability)("CAP_SYS_ADMIN")
        return every((capability(box), Call(("mount", "fsopen"))(box)))


@dataclass(frozen=True, slots=True)
class SecurityModule:
    """A Linux security module that is in use."""

    name: str

    def __call__(self, box: Box) -> Answer:
        """By /sys/kernel/security/lsm."""
        known = box.host.facts.kernel.security_modules
        if not known:
            return say(State.UNKNOWN, "security-module", "/sys/kernel/security/lsm", "it could not be read")
        if self.name in known:
            return say(State.OPEN, "", "/sys/kernel/security/lsm", self.name)
        return say(State.ABSENT, "security-module", "/sys/kernel/security/lsm", ",".join(known))


@dataclass(frozen=True, slots=True)
class Never:
    """Nothing that a container does leads there, and why."""

    why: str

    def __call__(self, box: Box) -> Answer:  # noqa: ARG002 - a gate like the others
        """Always absent."""
        return say(State.ABSENT, "no-entry", "rule", self.why)


@dataclass(frozen=True, slots=True)
class NotKnown:
    """No rule speaks of this code."""

    def __call__(self, box: Box) -> Answer:  # noqa: ARG002 - a gate like the others
        """Always unknown."""
        return say(State.UNKNOWN, "not-known", "rule", "no rule says how this code is entered")


def always(box: Box) -> Answer:  # noqa: ARG001 - a gate like the others
    """Every process comes there."""
    return say(State.OPEN, "", "rule", "every process comes to this code")


def host_network(box: Box) -> Answer:
    """The container is in the host's network namespace."""
    return box.host_network


def has_network(box: Box) -> Answer:
    """The container sends and receives packets."""
    return box.network
