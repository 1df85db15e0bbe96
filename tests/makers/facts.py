"""Made facts: a Debian host with the modules, sysctls and containers that the gates ask for."""

from dataclasses import replace
from datetime import UTC, datetime

from kmend.model.facts import (
    Alias,
    Container,
    Device,
    EngineKind,
    Facts,
    IdRange,
    KernelFacts,
    LoadedModule,
    ModuleFacts,
    Mount,
    Namespace,
    Package,
    Setting,
    Syscalls,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
BUILD_ID = "ab" * 20
RELEASE = "6.1.0-50-cloud-amd64"
DOCKER_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
)  # fmt: skip
NEW_CALLS = ("unshare", "clone3", "mount", "fsopen", "bpf", "perf_event_open", "add_key", "keyctl", "request_key")
LOADED = ("overlay", "veth", "bridge", "nf_tables", "nf_conntrack", "ext4", "virtio_net", "virtio_blk")
AVAILABLE = (
    *LOADED, "tipc", "sctp", "af_alg", "algif_hash", "vsock", "can", "sch_htb", "nfnetlink", "btusb", "bluetooth",
    "amdgpu", "n_gsm", "kvm", "xfs", "nfs", "tls", "llc", "helper", "udp_tunnel",
)  # fmt: skip
ALIASES = {
    "net-pf-30": "tipc",
    "net-pf-2-proto-132-type-1": "sctp",
    "net-pf-10-proto-132-type-1": "sctp",
    "net-pf-38": "af_alg",
    "algif-hash": "algif_hash",
    "net-pf-40": "vsock",
    "net-pf-29": "can",
    "net-pf-26": "llc",
    "net-pf-31": "bluetooth",
    "net-pf-16-proto-12": "nfnetlink",
    "nfnetlink-subsys-10": "nf_tables",
    "tty-ldisc-21": "n_gsm",
    "devname:kvm": "kvm",
    "fs-xfs": "xfs",
    "fs-nfs": "nfs",
    "tcp-ulp-tls": "tls",
    "usb:v*p*d*dcE0dsc01dp01ic*isc*ip*in*": "btusb",
    "pci:v00001002d000073BFsv*sd*bc*sc*i*": "amdgpu",
}
SYSCTLS = {
    "kernel.unprivileged_userns_clone": "1",
    "user.max_user_namespaces": "15000",
    "kernel.io_uring_disabled": "0",
    "kernel.unprivileged_bpf_disabled": "2",
    "kernel.perf_event_paranoid": "3",
    "dev.tty.ldisc_autoload": "1",
}


def default_filter(**changes) -> Syscalls:
    """Docker's default profile as the facts show it when its bundle was read."""
    made = Syscalls(
        mode="filter",
        profile="builtin",
        default_allows=False,
        allowed=("io_uring_setup", "landlock_create_ruleset", "read", "write"),
        conditional=("clone", "personality", "socket"),
        refused=NEW_CALLS,
        refused_families=(40,),
    )
    return replace(made, **changes)


def no_filter() -> Syscalls:
    """What ``seccomp=unconfined`` gives."""
    return Syscalls(mode="disabled", profile="unconfined")


def container(name="web", **changes) -> Container:
    """An unprivileged container of Docker with its defaults."""
    kinds = ("user", "net", "pid", "mnt", "ipc", "uts", "cgroup")
    made = Container(
        id=f"{name}-0123456789abcdef",
        name=name,
        engine=EngineKind.DOCKER,
        state="running",
        pid=100,
        privileged=False,
        capabilities=DOCKER_CAPABILITIES,
        effective=DOCKER_CAPABILITIES,
        uid=0,
        uid_map=(IdRange(inside=0, outside=0, count=2**32 - 1),),
        syscalls=default_filter(),
        apparmor="docker-default (enforce)",
        namespaces=tuple(
            Namespace(kind=kind, inode=at, of_host=kind == "user") for at, kind in enumerate(kinds, 4026531840)
        ),
        devices=(
            Device(path="/dev/null", kind="c", major=1, minor=3, access="rwm"),
            Device(path="", kind="c", major=-1, minor=-1, access="m"),
        ),
        mounts=(
            Mount(
                target="/",
                source="overlay",
                kind="overlay",
                options=("rw", "upperdir=/var/lib/docker/overlay2/x/diff"),
            ),
            Mount(target="/proc", source="proc", kind="proc", options=("rw",)),
        ),
        network="bridge",
        runtime="runc",
    )
    return replace(made, **changes)


def of_host(name="web", kinds=("user", "net"), **changes) -> Container:
    """A container that shares namespaces with the host."""
    made = container(name, **changes)
    namespaces = tuple(replace(one, of_host=one.kind in kinds) for one in made.namespaces)
    return replace(made, namespaces=namespaces, network="host" if "net" in kinds else made.network)


def modules(**changes) -> ModuleFacts:
    """Some of a Debian kernel's modules."""
    made = ModuleFacts(
        loaded=tuple(LoadedModule(name=name, size=1, users=1) for name in LOADED),
        available=AVAILABLE,
        built_in=("unix",),
        aliases=tuple(Alias(pattern=pattern, module=module) for pattern, module in ALIASES.items()),
        needs=(("tipc", "udp_tunnel"), ("btusb", "bluetooth")),
        hardware=("pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00",),
        loading_disabled=False,
        signed_only=False,
    )
    return replace(made, **changes)


def facts(*containers: Container, sysctls=None, **changes) -> Facts:
    """A Debian 12 host with some containers; ``sysctls`` replace single ones."""
    made = Facts(
        collected=NOW,
        host="node-1",
        distribution="debian 12",
        kernel=KernelFacts(
            release=RELEASE,
            version="#1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-07-01)",
            architecture="x86_64",
            build_id=BUILD_ID,
            package=f"linux-image-{RELEASE}",
            package_version="6.1.176-1",
            config=(Setting(name="CONFIG_USER_NS", value="y"),),
            security_modules=("lockdown", "capability", "landlock", "yama", "apparmor"),
        ),
        modules=modules(),
        sysctls=tuple(Setting(name=name, value=value) for name, value in (SYSCTLS | (sysctls or {})).items()),
        mounts=(Mount(target="/", source="/dev/vda1", kind="ext4", options=("rw",)),),
        packages=(Package(name=f"linux-image-{RELEASE}", version="6.1.176-1", origin="deb"),),
        containers=containers,
    )
    return replace(made, **changes)
