"""Made facts of a container host that is set up right, and small changes to them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kmend.audit.check import Case
from kmend.audit.checks.files import PLACES
from kmend.model.facts import (
    Container,
    Engine,
    EngineKind,
    Facts,
    FileFacts,
    Group,
    IdRange,
    Image,
    KernelFacts,
    LoadedLivepatch,
    LoadedModule,
    ModuleFacts,
    Mount,
    Namespace,
    Package,
    Port,
    Process,
    Program,
    Setting,
    Syscalls,
    User,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
IMAGE_ID = "sha256:" + "a" * 64
CONTAINER_ID = "c" * 64
DOCKER_CAPABILITIES = ("CAP_CHOWN", "CAP_NET_BIND_SERVICE")
WATCHED = ("/usr/bin", "/run/containerd", "/run/docker.sock", "/var/lib/docker", "/etc", "/usr/lib/systemd/system")

SYSCTLS = {
    "kernel.kptr_restrict": "2",
    "kernel.dmesg_restrict": "1",
    "kernel.unprivileged_bpf_disabled": "2",
    "net.core.bpf_jit_harden": "2",
    "kernel.perf_event_paranoid": "3",
    "kernel.yama.ptrace_scope": "1",
    "kernel.kexec_load_disabled": "1",
    "kernel.sysrq": "0",
    "kernel.io_uring_disabled": "2",
    "kernel.randomize_va_space": "2",
    "vm.unprivileged_userfaultfd": "0",
    "vm.mmap_min_addr": "65536",
    "fs.protected_hardlinks": "1",
    "fs.protected_symlinks": "1",
    "fs.protected_fifos": "2",
    "fs.protected_regular": "2",
    "fs.suid_dumpable": "0",
    "dev.tty.ldisc_autoload": "0",
    "kernel.panic_on_oops": "1",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv6.conf.all.accept_redirects": "0",
    "net.ipv4.conf.all.accept_source_route": "0",
    "net.ipv4.conf.all.rp_filter": "2",
    "net.ipv4.conf.all.route_localnet": "0",
    "net.ipv4.icmp_echo_ignore_broadcasts": "1",
    "kernel.ftrace_enabled": "1",
    "kernel.unprivileged_userns_clone": "0",
    "kernel.core_pattern": "core",
}
ON = (
    "STRICT_KERNEL_RWX", "STRICT_MODULE_RWX", "STACKPROTECTOR_STRONG", "FORTIFY_SOURCE", "HARDENED_USERCOPY",
    "VMAP_STACK", "SLAB_FREELIST_RANDOM", "SLAB_FREELIST_HARDENED", "SHUFFLE_PAGE_ALLOCATOR", "RANDOMIZE_BASE",
    "BUG_ON_DATA_CORRUPTION", "SCHED_STACK_END_CHECK", "SECCOMP_FILTER", "USER_NS", "SECURITY_LOCKDOWN_LSM",
    "MODULE_SIG", "LIVEPATCH", "MODULES",
)  # fmt: skip
COMMAND_LINE = (
    "root=/dev/vda1", "init_on_alloc=1", "slab_nomerge", "page_alloc.shuffle=1", "randomize_kstack_offset=on",
    "vsyscall=none", "intel_iommu=on", "debugfs=no-mount",
)  # fmt: skip
KUBELET = """\
apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous:
    enabled: false
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
authorization:
  mode: Webhook
protectKernelDefaults: true
rotateCertificates: true
seccompDefault: true
podPidsLimit: 4096
"""
SWARM = {
    "Swarm.LocalNodeState": "active",
    "Swarm.ControlAvailable": "true",
    "Swarm.Managers": "3",
    "Swarm.Nodes": "5",
    "Swarm.Cluster.CreatedAt": "2026-10-01T00:00:00Z",
    "Swarm.Cluster.UpdatedAt": "2026-10-02T00:00:00Z",
    "Swarm.Cluster.Spec.EncryptionConfig.AutoLockManagers": "true",
    "Swarm.Cluster.Spec.CAConfig.NodeCertExpiry": str(48 * 3600 * 10**9),
    "Networks.ingress.Driver": "overlay",
    "Networks.ingress.Options.encrypted": "",
    "Secrets": "2",
}


def settings(given: dict[str, str]) -> tuple[Setting, ...]:
    """Settings of these names and values."""
    return tuple(Setting(name=name, value=value) for name, value in given.items())


def user(name: str, uid: int, *, home: str = "/") -> User:
    """A line of /etc/passwd."""
    return User(name=name, uid=uid, gid=uid, home=home, shell="/bin/sh")  # noqa: S604 - a login shell's path


def docker() -> Engine:
    """A Docker daemon that is set up right."""
    return Engine(
        kind=EngineKind.DOCKER,
        socket="/run/docker.sock",
        answers=True,
        version="29.4.0",
        settings=settings({
            "icc": "false", "userland-proxy": "false", "no-new-privileges": "true", "live-restore": "true",
            "log-driver": "syslog", "authorization-plugins": "opa", "default-ulimits.nofile.Hard": "4096",
            "userns-remap": "default", "tlscacert": "/etc/docker/ca.pem", "tlscert": "/etc/docker/cert.pem",
            "tlskey": "/etc/docker/key.pem",
        }),
        says=settings({
            "Driver": "overlay2", "DockerRootDir": "/var/lib/docker", "LiveRestoreEnabled": "true",
            "SecurityOptions": "name=apparmor name=seccomp,profile=builtin name=userns name=rootless",
            "Swarm.LocalNodeState": "inactive", "ExperimentalBuild": "false",
            "RegistryConfig.InsecureRegistryCIDRs": "::1/128 127.0.0.0/8",
        }),
    )  # fmt: skip


def container(**changes: Any) -> Container:
    """A container that is confined."""
    right: dict[str, Any] = {
        "id": CONTAINER_ID,
        "name": "/web",
        "engine": EngineKind.DOCKER,
        "socket": "/run/docker.sock",
        "state": "running",
        "pid": 4000,
        "image": f"nginx@{IMAGE_ID}",
        "image_id": IMAGE_ID,
        "user": "101",
        "uid": 100101,
        "uid_map": (IdRange(inside=0, outside=100000, count=65536),),
        "privileged": False,
        "capabilities": DOCKER_CAPABILITIES,
        "no_new_privileges": True,
        "syscalls": Syscalls(mode="filter", profile="builtin", default_allows=False, allowed=("read", "write")),
        "apparmor": "docker-default (enforce)",
        "selinux": "system_u:system_r:container_t:s0:c1,c2",
        "namespaces": tuple(
            Namespace(kind=kind, inode=number, of_host=False)
            for number, kind in enumerate(("user", "net", "pid", "mnt", "ipc", "uts", "cgroup"), 10)
        ),
        "mounts": (Mount(target="/", source="overlay", kind="overlay", options=("ro",)),),
        "binds": (
            Mount(target="/data", source="/srv/data", kind="bind", options=("ro",), propagation="rprivate"),
        ),
        "masked_paths": ("/proc/kcore", "/proc/keys"),
        "read_only": True,
        "network": "front",
        "ports": (Port(address="192.0.2.1", host=8080, container=80, protocol="tcp"),),
        "memory_limit": 1 << 28,
        "cpu_shares": 512,
        "cpu_limit": 0.0,
        "pids_limit": 512,
        "restart": "on-failure:5",
        "has_health_check": True,
        "limits": (Setting(name="nofile", value="1024:4096"),),
        "processes": (
            Process(pid=4000, name="nginx", uid=100101, effective_uid=100101, parent=3999, capabilities=()),
            Process(pid=4001, name="nginx", uid=100101, effective_uid=100101, parent=4000, capabilities=()),
        ),
        "engine_says": settings({"HostConfig.UsernsMode": ""}),
    }
    return Container(**(right | changes))


def image(**changes: Any) -> Image:
    """An image that was built with care."""
    right: dict[str, Any] = {
        "id": IMAGE_ID,
        "engine": EngineKind.DOCKER,
        "names": ("nginx:1.27",),
        "digests": (f"nginx@{IMAGE_ID}",),
        "created": NOW - timedelta(days=3),
        "user": "101",
        "has_health_check": True,
        "packages": (Package(name="libc6", version="2.36-9+deb12u13", source="glibc", origin="deb"),),
        "distribution": "debian 12",
        "set_user_id": (),
        "history": (
            "/bin/sh -c #(nop) ADD file:abc in / ",
            "RUN /bin/sh -c apt-get update && apt-get install -y nginx # buildkit",
            "COPY site /srv # buildkit",
        ),
    }
    return Image(**(right | changes))


def _files() -> tuple[FileFacts, ...]:
    """Every file that a check asks for, owned and closed as it should be."""
    given = {
        "@tlscacert": "/etc/docker/ca.pem",
        "@tlscert": "/etc/docker/cert.pem",
        "@tlskey": "/etc/docker/key.pem",
    }
    found = {}
    for place in PLACES:
        path = given.get(place.paths[0], place.paths[0]).replace("*", "one")
        gid = 998 if place.group == "docker" else 0
        found[path] = FileFacts(path=path, exists=True, kind="file", mode=place.mode, uid=0, gid=gid)
    for path, mode in (
        ("/etc/kubernetes/kubelet.conf", 0o600),
        ("/etc/systemd/system/kubelet.service.d/10.conf", 0o644),
        ("/var/lib/kubelet/pki/kubelet.key", 0o600),
        ("/etc/kubernetes/pki/ca.crt", 0o644),
        ("/etc/kubernetes/pki/apiserver.key", 0o600),
        ("/etc/kubernetes/admin.conf", 0o600),
        ("/etc/kubernetes/manifests/etcd.yaml", 0o600),
        ("/var/lib/etcd", 0o700),
        ("/usr/lib/systemd/system/docker.service", 0o644),
        ("/run/containerd", 0o711),
        ("/opt/verifiers", 0o755),
    ):
        found[path] = FileFacts(path=path, exists=True, kind="file", mode=mode)
    for path, mode, text in (
        ("/var/lib/kubelet/config.yaml", 0o600, KUBELET),
        ("/etc/containers/policy.json", 0o644, '{"default": [{"type": "reject"}]}'),
        ("/etc/environment", 0o644, 'PATH="/usr/bin"\nDOCKER_CONTENT_TRUST=1\n'),
        (
            "/var/lib/docker/swarm/docker-state.json", 0o600,
            '{"AdvertiseAddr": "192.0.2.1:2377", "DataPathAddr": "198.51.100.1"}',
        ),
    ):  # fmt: skip
        found[path] = FileFacts(path=path, exists=True, kind="file", mode=mode, text=text)
    socket = "/run/user/1000/docker.sock"
    found[socket] = FileFacts(path=socket, exists=True, kind="socket", mode=0o660, uid=1000, gid=1000)
    return tuple(found.values())


PROGRAMS = {
    "runc": "1.4.2", "containerd": "2.3.2", "dockerd": "29.4.0", "buildkitd": "0.20.0", "podman": "5.7.0",
    "crun": "1.25", "crio": "1.34.0", "kubelet": "1.34.1",
}  # fmt: skip


def right_host(**changes: Any) -> Facts:
    """Facts of a host on which every check that applies passes."""
    right: dict[str, Any] = {
        "collected": NOW,
        "host": "made-host",
        "machine_id": "0" * 32,
        "distribution": "debian 12",
        "kernel": KernelFacts(
            release="6.1.0-42-cloud-amd64",
            version="#1 SMP Debian 6.1.159-1",
            architecture="x86_64",
            build_id="00",
            command_line=COMMAND_LINE,
            config=settings({f"CONFIG_{name}": "y" for name in ON}),
            livepatches=(LoadedLivepatch(module="livepatch_kmend_1", enabled=True, in_transition=False),),
            taint=1 << 15 | 1 << 12,
            lockdown="integrity",
            security_modules=("lockdown", "capability", "yama", "apparmor", "selinux"),
            cpu_vulnerabilities=settings({"meltdown": "Mitigation: PTI", "retbleed": "Not affected"}),
        ),
        "modules": ModuleFacts(
            loaded=(LoadedModule(name="overlay", size=1, users=2),),
            available=("overlay", "ext4"),
            blocked=(),
            signed_only=True,
        ),
        "sysctls": settings(SYSCTLS),
        "mounts": (
            Mount(target="/", source="/dev/vda1", kind="ext4", options=("rw",)),
            Mount(target="/var/lib/docker", source="/dev/vdb1", kind="ext4", options=("rw",)),
        ),
        "users": (
            user("root", 0, home="/root"),
            user("anna", 1000, home="/home/anna"),
        ),
        "groups": (Group(name="root", gid=0, members=()), Group(name="docker", gid=998, members=())),
        "sub_uids": (
            IdRange(inside=0, outside=100000, count=65536, owner="anna"),
            IdRange(inside=0, outside=165536, count=65536, owner="dockremap"),
        ),
        "packages": tuple(Package(name=name, version=version, origin="deb") for name, version in PROGRAMS.items()),
        "programs": tuple(
            Program(
                name=name,
                path=f"/usr/bin/{name}",
                package=name,
                package_version=version,
                build_version=version,
                sha256=name,
                pids=(100 + number,),
            )
            for number, (name, version) in enumerate(PROGRAMS.items())
        )
        + tuple(
            Program(name=name, path=f"/usr/bin/{name}", package="containerd", sha256=name)
            for name in ("containerd-shim", "containerd-shim-runc-v1", "containerd-shim-runc-v2")
        ),
        "files": _files(),
        "services": (
            Process(pid=200, name="kubelet", uid=0, effective_uid=0,
                    arguments=("kubelet", "--config=/var/lib/kubelet/config.yaml")),
            Process(pid=201, name="podman", uid=0, effective_uid=0, arguments=("podman", "system", "service")),
        ),
        "engines": (
            docker(),
            Engine(
                kind=EngineKind.CONTAINERD,
                socket="/run/containerd/containerd.sock",
                settings=settings({
                    "plugins.io.containerd.grpc.v1.cri.disable_apparmor": "false",
                    "plugins.io.containerd.image-verifier.v1.bindir.bin_dir": "/opt/verifiers",
                }),
            ),
            Engine(
                kind=EngineKind.PODMAN,
                socket="/run/podman/podman.sock",
                settings=settings({"containers.default_capabilities": "CHOWN KILL"}),
            ),
        ),
        "containers": (container(),),
        "images": (image(),),
        "audit_rules": tuple(f"-w {path} -p wa -k engine" for path in WATCHED),
        "listening": ("tcp 0.0.0.0:22", "tcp 192.0.2.1:2377"),
    }  # fmt: skip
    return Facts(**(right | changes))


def case_of(facts: Facts, **more: Any) -> Case:
    """The case of these facts alone."""
    return Case(facts=facts, **more)


def with_container(facts: Facts, **changes: Any) -> Facts:
    """The facts with its first container changed."""
    first, *rest = facts.containers
    return replace(facts, containers=(replace(first, **changes), *rest))


def with_image(facts: Facts, **changes: Any) -> Facts:
    """The facts with its first image changed."""
    first, *rest = facts.images
    return replace(facts, images=(replace(first, **changes), *rest))


def with_engine(
    facts: Facts,
    kind: EngineKind = EngineKind.DOCKER,
    *,
    given: dict[str, str | None] | None = None,
    says: dict[str, str | None] | None = None,
    **changes: Any,
) -> Facts:
    """The facts with the settings and words of the engines of a kind changed; None takes one out."""
    return replace(
        facts,
        engines=tuple(
            replace(
                one,
                settings=_changed(one.settings, given or {}),
                says=_changed(one.says, says or {}),
                **changes,
            )
            if one.kind is kind and not one.uid
            else one
            for one in facts.engines
        ),
    )


def with_file(facts: Facts, path: str, **changes: Any) -> Facts:
    """The facts with one file changed, or added."""
    old = facts.file(path) or FileFacts(path=path, exists=True, kind="file", mode=0o644)
    others = tuple(one for one in facts.files if one.path != path)
    return replace(facts, files=(*others, replace(old, **changes)))


def with_program(facts: Facts, name: str, **changes: Any) -> Facts:
    """The facts with one program changed."""
    programs = tuple(replace(one, **changes) if one.name == name else one for one in facts.programs)
    return replace(facts, programs=programs)


def with_sysctl(facts: Facts, name: str, value: str | None) -> Facts:
    """The facts with one sysctl changed, or not there."""
    return replace(facts, sysctls=_changed(facts.sysctls, {name: value}))


def with_kernel(facts: Facts, **changes: Any) -> Facts:
    """The facts with the kernel changed."""
    return replace(facts, kernel=replace(facts.kernel, **changes))


def with_modules(facts: Facts, **changes: Any) -> Facts:
    """The facts with the modules changed."""
    return replace(facts, modules=replace(facts.modules, **changes))


def _changed(old: tuple[Setting, ...], given: dict[str, str | None]) -> tuple[Setting, ...]:
    known = {one.name: one.value for one in old} | given
    return settings({name: value for name, value in known.items() if value is not None})
