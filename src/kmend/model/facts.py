"""Facts: what was seen on one container host at one moment, without starting anything in a container.

They can be saved, carried and judged elsewhere: exposure and audit read nothing but these. What could not be seen
stands in ``unseen`` (and is None where a single value is meant), so that nobody takes it for absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

FORMAT = 1
"""Rises when a reader of an older format would misread newer facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """Something that could not be looked at, and why."""

    what: str
    """``docker``, ``container:ID:seccomp``, ``/etc/docker/daemon.json``, …"""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A name with its value, as the machine writes it: a sysctl or a line of a configuration."""

    name: str
    value: str
    source: str = ""
    """File in which it stands, when that is not the kernel itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedLivepatch:
    """A livepatch in the running kernel, ours or anybody's."""

    module: str
    enabled: bool
    in_transition: bool
    objects: tuple[str, ...] = ()
    """``vmlinux`` and modules whose functions it replaces."""
    number: int | None = None
    """Of ours only."""
    cves: tuple[str, ...] = ()
    """What its signed manifest says that it closes; of ours only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFacts:
    """The kernel that runs (of an image of a host: the one that would boot)."""

    release: str
    """As ``uname -r`` says."""
    version: str
    """As ``uname -v`` says; Debian's holds the package version."""
    architecture: str
    build_id: str
    """GNU build id from /sys/kernel/notes; empty when it cannot be read."""
    package: str = ""
    package_version: str = ""
    """Version of the package that holds it; empty for a kernel from no package."""
    stable: str = ""
    """The stable release that it contains, where the distribution says so (Ubuntu): ``5.15.143``."""
    command_line: tuple[str, ...] = ()
    config: tuple[Setting, ...] | None = None
    """Every CONFIG_ that is set, from /proc/config.gz or /boot/config-RELEASE; None when neither is there."""
    livepatches: tuple[LoadedLivepatch, ...] = ()
    taint: int | None = None
    lockdown: str = ""
    """``none``, ``integrity``, ``confidentiality``; empty when the kernel does not say."""
    security_modules: tuple[str, ...] = ()
    """/sys/kernel/security/lsm"""
    secure_boot: bool | None = None
    booted: datetime | None = None
    cpu_vulnerabilities: tuple[Setting, ...] = ()
    """What the kernel says about each hole of the processor: ``spectre_v2``, ``Mitigation: …``"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModule:
    """A line of /proc/modules."""

    name: str
    size: int
    users: int
    holders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedModule:
    """A module that modprobe.d keeps from being loaded."""

    name: str
    by_alias_only: bool
    """True for ``blacklist``: it is not loaded by an alias, but by name; False for ``install NAME /bin/false``."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A name under which the kernel or udev may ask for a module: ``net-pf-38``, ``fs-ext4``, ``pci:v…``."""

    pattern: str
    module: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleFacts:
    """The modules of the running kernel. Names as the kernel writes them, with ``_``."""

    loaded: tuple[LoadedModule, ...] = ()
    available: tuple[str, ...] | None = None
    """Modules in /lib/modules/RELEASE (modules.dep), by name; None when that is not there."""
    built_in: tuple[str, ...] = ()
    """modules.builtin"""
    aliases: tuple[Alias, ...] = ()
    """modules.alias"""
    needs: tuple[tuple[str, ...], ...] = ()
    """modules.dep: each module, then the modules that it needs; modules that need nothing are left out."""
    blocked: tuple[BlockedModule, ...] = ()
    at_boot: tuple[str, ...] = ()
    """/etc/modules and modules-load.d"""
    hardware: tuple[str, ...] = ()
    """Each modalias of /sys/devices once."""
    loading_disabled: bool | None = None
    """kernel.modules_disabled"""
    signed_only: bool | None = None
    """module.sig_enforce, or lockdown"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A line of a mountinfo file."""

    target: str
    source: str
    kind: str
    """File system: ``ext4``, ``overlay``, …"""
    options: tuple[str, ...]
    """Of the mount and of the file system together: ``ro``, ``nosuid``, ``lowerdir=…``"""
    root: str = "/"
    """What of the file system is mounted."""
    propagation: str = ""
    """``shared``, ``master``; empty for a private mount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A line of /etc/passwd."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A line of /etc/group."""

    name: str
    gid: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdRange:
    """A line of /etc/subuid (or subgid), or of a uid_map: ``count`` ids from ``inside`` are ``outside`` and up."""

    inside: int
    outside: int
    count: int
    owner: str = ""
    """Of /etc/subuid: whose they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An installed package."""

    name: str
    version: str
    source: str = ""
    source_version: str = ""
    origin: str = ""
    """``deb``, ``apk``, ``rpm``; whose version rules hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The binary of an engine, a runtime or a service: on the disk, or of a process that still runs it."""

    name: str
    """``runc``, ``containerd``, ``dockerd``, ``podman``, ``crun``, ``kubelet``, ``conmon``, …"""
    path: str
    package: str = ""
    """The package that owns the file; empty for none."""
    package_version: str = ""
    build_version: str = ""
    """What is written in the binary itself (Go build information, version string); empty when there is none."""
    toolchain: str = ""
    """``go1.19.8``: what a Go binary says that it was built with."""
    sha256: str = ""
    """Of files from no package only."""
    pids: tuple[int, ...] = ()
    """Processes that run it; empty for a file that nothing runs now."""
    replaced: bool = False
    """The running file is no longer the one at ``path``: an update that a restart has yet to bring in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """A file or folder that a check asks for."""

    path: str
    exists: bool
    kind: str = ""
    """``file``, ``folder``, ``socket``, ``link``, ``other``"""
    mode: int = 0
    """Permission bits only, with set-user-id and the like: 0o644"""
    uid: int = 0
    gid: int = 0
    text: str | None = None
    """Content where a check reads it, 256 KiB at most; secrets are never read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of a service or of a container, seen from the host."""

    pid: int
    name: str
    uid: int
    """Real uid, as the host counts."""
    effective_uid: int
    arguments: tuple[str, ...] = ()
    """Of services only: the command line of a container's process may hold secrets."""
    parent: int = 0
    user_namespace: int = 0
    """Inode; 0 when it cannot be read."""
    capabilities: tuple[str, ...] = ()
    """Effective ones: ``CAP_SYS_ADMIN``, …"""


class EngineKind(StrEnum):
    """Who runs containers here."""

    DOCKER = "docker"
    PODMAN = "podman"
    CONTAINERD = "containerd"
    CRI = "cri"
    """A CRI socket that is not containerd's: CRI-O."""
    NONE = "none"
    """Found by cgroup and /proc alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A container engine that answered, or whose files are here."""

    kind: EngineKind
    socket: str = ""
    answers: bool = False
    version: str = ""
    api_version: str = ""
    uid: int = 0
    """Whose it is: 0, or the user's of a rootless engine."""
    settings: tuple[Setting, ...] = ()
    """Flat, by dotted names: of daemon.json, containers.conf, containerd's config.toml, its arguments."""
    says: tuple[Setting, ...] = ()
    """What the engine says about itself (Docker's ``/info``), flat, by dotted names."""
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Syscalls:
    """What a seccomp filter does with system calls; the lists are empty where only the mode is known."""

    mode: str
    """``disabled``, ``strict``, ``filter``; empty when it cannot be read."""
    profile: str = ""
    """``unconfined``, ``builtin``, ``default``, a path; empty when nothing says."""
    default_allows: bool | None = None
    """What happens with calls that no list names; None when the filter itself is not known."""
    allowed: tuple[str, ...] = ()
    """Names that are let through without a condition on their arguments."""
    conditional: tuple[str, ...] = ()
    """Names that are let through for some arguments."""
    refused: tuple[str, ...] = ()
    refused_families: tuple[int, ...] | None = None
    """Address families for which socket(2) is refused; None where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """One namespace of a container's first process."""

    kind: str
    """``user``, ``net``, ``pid``, ``mnt``, ``ipc``, ``uts``, ``cgroup``, ``time``"""
    inode: int
    of_host: bool
    """The same as that of the host's process 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device node in a container, or a rule of its device cgroup."""

    path: str
    """Empty for a rule."""
    kind: str
    """``c``, ``b``, or ``a`` for all"""
    major: int
    """-1 for all."""
    minor: int
    access: str = ""
    """Some of ``rwm``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port that is published on the host."""

    address: str
    """Empty for all."""
    host: int
    container: int
    protocol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container as engine, OCI bundle and /proc show it. None and empty text: that could not be seen."""

    id: str
    name: str
    engine: EngineKind
    socket: str = ""
    """Of the engine that has it."""
    state: str = ""
    """``running``, ``created``, ``paused``, ``exited``, …"""
    pid: int = 0
    """Of its first process; 0 when it does not run."""
    created: datetime | None = None
    pod: str = ""
    """``namespace/name`` of the Kubernetes pod."""
    image: str = ""
    """As it was asked for."""
    image_id: str = ""
    digest: str = ""
    """``sha256:…`` of the manifest when it is known."""
    user: str = ""
    """As configured, inside."""
    uid: int | None = None
    """Real uid of its first process as the host counts."""
    uid_map: tuple[IdRange, ...] = ()
    gid_map: tuple[IdRange, ...] = ()
    privileged: bool | None = None
    capabilities: tuple[str, ...] | None = None
    """Bounding set of its first process: what any process in it can ever have."""
    effective: tuple[str, ...] = ()
    """Effective set of its first process."""
    no_new_privileges: bool | None = None
    syscalls: Syscalls | None = None
    apparmor: str = ""
    """``docker-default (enforce)``, ``unconfined``"""
    selinux: str = ""
    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[Device, ...] = ()
    mounts: tuple[Mount, ...] = ()
    """Of a running one as its first process sees them: ``root`` is a path in the file system ``source``."""
    binds: tuple[Mount, ...] = ()
    """What was asked for: ``source`` is the path on the host, ``options`` has ``ro`` or ``rw``."""
    masked_paths: tuple[str, ...] | None = None
    """Paths in /proc and /sys that are hidden from it; empty when none is."""
    read_only: bool | None = None
    """The root file system."""
    network: str = ""
    """``host``, ``none``, ``bridge``, ``container:ID``, a network's name"""
    ports: tuple[Port, ...] = ()
    memory_limit: int | None = None
    """Bytes; 0 for none."""
    cpu_shares: int | None = None
    cpu_limit: float | None = None
    """Processors; 0 for none."""
    pids_limit: int | None = None
    """0 for none."""
    restart: str = ""
    """``no``, ``always``, ``on-failure:5``, …"""
    has_health_check: bool | None = None
    runtime: str = ""
    """``runc``, ``crun``, ``kata``, …; another kernel than the host's runs in some."""
    security: tuple[str, ...] = ()
    """Docker's SecurityOpt and the like, as given."""
    labels: tuple[Setting, ...] = ()
    cgroup: str = ""
    cgroup_parent: str = ""
    processes: tuple[Process, ...] = ()
    limits: tuple[Setting, ...] = ()
    """Ulimits that were given."""
    engine_says: tuple[Setting, ...] = ()
    """More of the engine's own words, flat, that single checks read (``HostConfig.PidMode``, …)."""

    @property
    def title(self) -> str:
        """What people call it: its name, of a pod's container ``namespace/pod/name``."""
        name = self.name.lstrip("/")
        return f"{self.pod}/{name}" if self.pod else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image in an engine's store."""

    id: str
    engine: EngineKind
    store: str = ""
    """The engine's socket, or the folder of its files."""
    names: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    created: datetime | None = None
    size: int = 0
    user: str = ""
    has_health_check: bool | None = None
    layers: tuple[str, ...] = ()
    """Folders of its layers, from the lowest up; empty when the store does not show them."""
    packages: tuple[Package, ...] | None = None
    """From the layers' package state; None when it could not be read."""
    distribution: str = ""
    """``debian 12``, ``alpine 3.20``, from os-release in the layers."""
    set_user_id: tuple[str, ...] | None = None
    """Files with the set-user-id or set-group-id bit."""
    history: tuple[str, ...] = ()
    """How it was built, one command each, without values of arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one look at a host saw."""

    format: int = FORMAT
    collected: datetime
    root: str = "/"
    """``/`` for the running host; anything else is an image of one, which has no processes."""
    host: str = ""
    """Host name."""
    machine_id: str = ""
    distribution: str = ""
    """``debian 12``: ID and VERSION_ID of os-release."""
    kernel: KernelFacts
    modules: ModuleFacts = ModuleFacts()
    sysctls: tuple[Setting, ...] = ()
    configured_sysctls: tuple[Setting, ...] = ()
    """What sysctl.conf and sysctl.d set at the next boot; the last one of a name holds."""
    mounts: tuple[Mount, ...] = ()
    users: tuple[User, ...] = ()
    groups: tuple[Group, ...] = ()
    sub_uids: tuple[IdRange, ...] = ()
    sub_gids: tuple[IdRange, ...] = ()
    packages: tuple[Package, ...] | None = None
    """All installed ones; None when there is no package database that is known."""
    programs: tuple[Program, ...] = ()
    files: tuple[FileFacts, ...] = ()
    services: tuple[Process, ...] = ()
    """Processes of engines, runtimes and Kubernetes."""
    engines: tuple[Engine, ...] = ()
    containers: tuple[Container, ...] = ()
    images: tuple[Image, ...] = ()
    audit_rules: tuple[str, ...] | None = None
    """Lines of the audit system's rules, as configured."""
    listening: tuple[str, ...] = ()
    """``tcp 0.0.0.0:2375`` and the like, of the host's own network namespace."""
    unseen: tuple[Unseen, ...] = ()

    def sysctl(self, name: str) -> str | None:
        """The value of a sysctl; None when it was not seen."""
        return next((one.value for one in self.sysctls if one.name == name), None)

    def file(self, path: str) -> FileFacts | None:
        """What is known of a file; None when it was not looked at."""
        return next((one for one in self.files if one.path == path), None)
