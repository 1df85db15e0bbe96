"""What the gates ask of one container, made ready once."""

from __future__ import annotations

from functools import cached_property

from kmend.exposure.reach.answer import Answer, State, any_of, every, say
from kmend.exposure.reach.host import HostView
from kmend.model.facts import Container, EngineKind, Syscalls

DEFAULT_PROFILES = frozenset(("builtin", "default"))
"""Names of the profile that Docker, containerd and Podman bring along."""

# Calls that Docker's profile (profiles/seccomp/default.json) lets through only with a capability; what it never
# lets through has none. containerd's and Podman's agree with it on these.
LIFTED_BY = {
    "add_key": "",
    "keyctl": "",
    "request_key": "",
    "userfaultfd": "",
    "io_uring_setup": "",
    "init_module": "CAP_SYS_MODULE",
    "finit_module": "CAP_SYS_MODULE",
    "bpf": "CAP_BPF CAP_SYS_ADMIN",
    "perf_event_open": "CAP_PERFMON CAP_SYS_ADMIN",
    "unshare": "CAP_SYS_ADMIN",
    "clone3": "CAP_SYS_ADMIN",
    "mount": "CAP_SYS_ADMIN",
    "fsopen": "CAP_SYS_ADMIN",
    "setns": "CAP_SYS_ADMIN",
    "quotactl": "CAP_SYS_ADMIN",
}
# Docker 20.10 to 24 still let io_uring through: without the filter itself nobody knows.
_CHANGED_WITH_VERSIONS = frozenset(("io_uring_setup", "socket"))
# Docker 23.0 began with AF_VSOCK; AF_ALG came later.
_REFUSED_BY_SOME = frozenset((38, 40))
_OWN_KERNEL = ("kata", "runsc", "gvisor", "firecracker")


class Box:
    """A container as the gates see it."""

    def __init__(self, container: Container, host: HostView) -> None:
        self.container = container
        self.host = host
        self._namespaces = {one.kind: one.of_host for one in container.namespaces}

    @property
    def has_own_kernel(self) -> bool:
        """Runtimes that run another kernel than the host's, or stand before it."""
        return any(word in self.container.runtime for word in _OWN_KERNEL)

    @cached_property
    def likeness(self) -> tuple[object, ...]:
        """Everything that gates look at: containers that are alike in it are judged once."""
        box = self.container
        return (
            self.capabilities,
            box.privileged,
            box.syscalls,
            box.apparmor,
            box.network,
            bool(box.pod),
            box.devices,
            self.sees_devices,
            tuple(sorted(self._namespaces.items())),
            tuple(sorted(self.file_systems.items())),
        )

    @cached_property
    def capabilities(self) -> frozenset[str] | None:
        """What a process in it can ever have; None when that could not be seen.

        Without new privileges it stays with what its processes have now, when none of them is root.
        """
        box = self.container
        if box.capabilities is None:
            return None
        has_root = not box.processes or any(one.capabilities for one in box.processes)
        if box.no_new_privileges and box.uid and not box.effective and not has_root:
            return frozenset()
        return frozenset(box.capabilities)

    def capability(self, name: str) -> Answer:
        """A capability in the container's own user namespace."""
        if self.capabilities is None:
            return say(State.UNKNOWN, "capability", "/proc/PID/status", "its capabilities could not be read")
        if name in self.capabilities:
            return say(State.OPEN, "", "capabilities", f"{name} is in the bounding set")
        return say(State.SHUT, "capability", "capabilities", f"{name} is not in the bounding set")

    def host_capability(self, name: str) -> Answer:
        """A capability in the user namespace of the host."""
        own = self.capability(name)
        if own.state is not State.OPEN:
            return own
        of_host = self._namespaces.get("user")
        if of_host is None:
            return say(State.UNKNOWN, "capability", "/proc/PID/ns/user", "its user namespace could not be read")
        if not of_host:
            return say(
                State.SHUT, "capability", "/proc/PID/ns/user", f"{name} counts only in a user namespace of its own"
            )
        return own

    @cached_property
    def loads_modules(self) -> Answer:
        """Whether it may load any module that it likes; what modprobe.d says is for modprobe."""
        calls = any_of(self.call(name) for name in ("finit_module", "init_module"))
        return every((self.host_capability("CAP_SYS_MODULE"), calls))

    def call(self, name: str) -> Answer:
        """A system call before the container's seccomp filter."""
        seccomp, source = self.container.syscalls, "seccomp"
        if seccomp is None or not (seccomp.mode or seccomp.profile):
            return say(State.UNKNOWN, "seccomp", source, "its filter could not be read")
        if self._unfiltered:
            return say(State.OPEN, "", source, f"no filter: {name} is allowed")
        if seccomp.mode == "strict":
            return say(State.SHUT, "seccomp", source, f"strict mode refuses {name}")
        return self._by_profile(name) if seccomp.default_allows is None else _by_lists(seccomp, name)

    @property
    def _unfiltered(self) -> bool:
        seccomp = self.container.syscalls
        return seccomp is not None and (seccomp.mode == "disabled" or seccomp.profile == "unconfined")

    def _by_profile(self, name: str) -> Answer:
        """What is known of a filter of which only the name is."""
        seccomp = self.container.syscalls
        profile = seccomp.profile if seccomp else ""
        if profile not in DEFAULT_PROFILES or name in _CHANGED_WITH_VERSIONS:
            why = f"whether profile {profile or '?'} allows {name} is not known"
            return say(State.UNKNOWN, "seccomp", "seccomp", why)
        if name not in LIFTED_BY:
            return say(State.OPEN, "", "seccomp", f"profile {profile} allows {name}")
        lifting = LIFTED_BY[name].split()
        if self.capabilities is None and lifting:
            return say(State.UNKNOWN, "seccomp", "seccomp", f"profile {profile} allows {name} with {lifting[0]}")
        if any(one in (self.capabilities or ()) for one in lifting):
            return say(State.OPEN, "", "seccomp", f"profile {profile} allows {name} with {' or '.join(lifting)}")
        return say(State.SHUT, "seccomp", "seccomp", f"profile {profile} refuses {name}")

    def family(self, number: int, name: str) -> Answer:
        """socket(2) of one address family."""
        found = self.call("socket")
        seccomp = self.container.syscalls
        if seccomp is None or self._unfiltered or found.state is State.SHUT:
            return found
        if seccomp.refused_families is not None:
            refused = number in seccomp.refused_families
            state, word = (State.SHUT, "refuses") if refused else (State.OPEN, "allows")
            return say(state, "seccomp" if refused else "", "seccomp", f"the filter {word} socket({name}, …)")
        if seccomp.profile in DEFAULT_PROFILES and found.state is State.UNKNOWN:
            return _by_default_family(number, name)
        return found

    @cached_property
    def user_namespace(self) -> Answer:
        """Whether a process in it can make a user namespace, in which it has every capability."""
        gate, sysctls = "user-namespace", self.host.sysctls
        if self.host.config is not None and "CONFIG_USER_NS" not in self.host.config:
            return say(State.ABSENT, gate, "kernel config", "CONFIG_USER_NS is not set")
        if not sysctls:
            return say(State.UNKNOWN, gate, "/proc/sys", "the sysctls could not be read")
        if sysctls.get("user.max_user_namespaces") == "0":
            return say(State.SHUT, gate, "user.max_user_namespaces", "0")
        admin = self.capability("CAP_SYS_ADMIN").state is State.OPEN
        if sysctls.get("kernel.unprivileged_userns_clone") == "0" and not admin:
            return say(State.SHUT, gate, "kernel.unprivileged_userns_clone", "0")
        if sysctls.get("kernel.apparmor_restrict_unprivileged_userns") == "1" and not admin:
            confined = self.container.apparmor not in {"", "unconfined"}
            state = State.UNKNOWN if confined else State.SHUT
            return say(state, gate, "kernel.apparmor_restrict_unprivileged_userns", "1")
        return self._unshare(gate)

    def _unshare(self, gate: str) -> Answer:
        calls = {name: self.call(name) for name in ("unshare", "clone3", "clone")}
        for name, found in calls.items():
            # The default profiles let clone through only without the flags for namespaces.
            looks_at_flags = name == "clone" and self._default_by_name
            if found.state is State.OPEN and not looks_at_flags:
                value = f"{found.evidence[0].value}: it may make a user namespace"
                return say(State.OPEN, "", found.evidence[0].source, value)
        seccomp = self.container.syscalls
        looks_at_flags = self._default_by_name or (seccomp is not None and "clone" in seccomp.conditional)
        if all(one.state is State.SHUT for name, one in calls.items() if not (looks_at_flags and name == "clone")):
            value = "unshare and clone3 are refused, and clone with flags for namespaces"
            return say(State.SHUT, gate, "seccomp", value)
        return say(State.UNKNOWN, gate, "seccomp", "whether clone(CLONE_NEWUSER) is allowed is not known")

    @property
    def _default_by_name(self) -> bool:
        seccomp = self.container.syscalls
        return seccomp is not None and seccomp.default_allows is None and seccomp.profile in DEFAULT_PROFILES

    def own_capability(self, name: str) -> Answer:
        """A capability over namespaces of its own: its own one, or any in a user namespace that it makes."""
        own = self.capability(name)
        if own.state is State.OPEN:
            return own
        made = self.user_namespace
        if made.state is State.OPEN:
            return made
        state = State.UNKNOWN if State.UNKNOWN in {own.state, made.state} else State.SHUT
        first = own if own.state is state or state is State.SHUT else made
        return Answer(state, first.gate, own.evidence + made.evidence)

    @cached_property
    def host_network(self) -> Answer:
        """Whether it is in the network namespace of the host."""
        of_host = self._namespaces.get("net")
        if of_host is None and self.container.network:
            of_host = self.container.network == "host"
        if of_host is None:
            return say(
                State.UNKNOWN, "host-network", "/proc/PID/ns/net", "its network namespace could not be read"
            )
        if of_host:
            return say(State.OPEN, "", "/proc/PID/ns/net", "the host's network namespace")
        return say(State.SHUT, "host-network", "/proc/PID/ns/net", "a network namespace of its own")

    @cached_property
    def network(self) -> Answer:
        """Whether it has a network to send to at all."""
        mode = self.container.network
        if mode == "none":
            return say(State.SHUT, "network", "network", "none")
        if mode or self.host_network.state is State.OPEN:
            return say(State.OPEN, "", "network", mode or "host")
        if self.container.pod:
            return say(State.OPEN, "", "network", "that of its pod")
        # Without an engine's word, a namespace of its own may have no interface but loopback.
        return say(State.UNKNOWN, "network", "network", "the engine does not say")

    @cached_property
    def file_systems(self) -> dict[str, str]:
        """Kind of file system → where it is mounted; also what lies below an overlay."""
        found: dict[str, str] = {}
        for mount in self.container.mounts:
            found.setdefault(mount.kind, mount.target)
            upper = next((one[9:] for one in mount.options if one.startswith("upperdir=")), "")
            below = self.host.backing(upper) if upper else None
            if below is not None:
                found.setdefault(below.kind, f"below {mount.target}")
        return found

    @property
    def sees_devices(self) -> bool:
        """Whether its devices are known: an engine or a bundle told."""
        return (
            bool(self.container.devices)
            or self.container.privileged is not None
            or (self.container.engine is not EngineKind.NONE and bool(self.container.mounts))
        )


def _by_lists(seccomp: Syscalls, name: str) -> Answer:
    """What a filter whose lists are known does with a call."""
    if name in seccomp.allowed:
        return say(State.OPEN, "", "seccomp", f"{name} is allowed")
    if name in seccomp.conditional:
        return say(State.UNKNOWN, "seccomp", "seccomp", f"{name} is allowed for some arguments only")
    if name in seccomp.refused or not seccomp.default_allows:
        return say(State.SHUT, "seccomp", "seccomp", f"{name} is refused")
    return say(State.OPEN, "", "seccomp", f"{name} is not refused")


def _by_default_family(number: int, name: str) -> Answer:
    """What the default profiles do with a family, where nobody read the filter: it depends on their version."""
    if number in _REFUSED_BY_SOME:
        return say(State.UNKNOWN, "seccomp", "seccomp", f"newer default profiles refuse socket({name}, …)")
    return say(State.OPEN, "", "seccomp", f"the default profile allows socket({name}, …)")
