"""Every check: passes on a host that is set up right, and fails on the same host with one thing wrong."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from kmend.audit.check import Advisory, Case, Demand
from kmend.audit.checks.files import PLACES
from kmend.audit.judge import audit
from kmend.audit.pods import REMEDIES
from kmend.audit.registry import CHECKS
from kmend.model.facts import (
    Alias,
    BlockedModule,
    Container,
    Device,
    Engine,
    EngineKind,
    Facts,
    Group,
    IdRange,
    LoadedLivepatch,
    LoadedModule,
    Mount,
    Namespace,
    Package,
    Port,
    Process,
    Syscalls,
)
from kmend.model.finding import Area, Outcome
from makers import audited
from makers.audited import (
    NOW,
    case_of,
    container,
    image,
    right_host,
    with_container,
    with_engine,
    with_file,
    with_image,
    with_kernel,
    with_modules,
    with_program,
    with_sysctl,
)

Change = Callable[[Facts], Facts]
PODMAN, CONTAINERD = EngineKind.PODMAN, EngineKind.CONTAINERD
RULES = {one.rule.id: one for one in CHECKS}


def _docker(**given: str | None) -> Change:
    """A setting of the daemon; ``_`` stands for ``-``."""
    return lambda facts: with_engine(facts, given={name.replace("_", "-"): text for name, text in given.items()})


def _says(name: str, text: str | None) -> Change:
    return lambda facts: with_engine(facts, says={name: text})


def _swarm(name: str = "Swarm.Managers", text: str | None = "3") -> Change:
    return lambda facts: with_engine(facts, says={**audited.SWARM, name: text})


def _of(kind: EngineKind, name: str, text: str) -> Change:
    return lambda facts: with_engine(facts, kind, given={name: text})


def _container(**changes: object) -> Change:
    return lambda facts: with_container(facts, **changes)


def _image(**changes: object) -> Change:
    return lambda facts: with_image(facts, **changes)


def _history(line: str) -> Change:
    return lambda facts: with_image(facts, history=(*facts.images[0].history, line))


def _bind(source: str, **more: object) -> Change:
    mount = Mount(target="/in", source=source, kind="bind", options=("rw",), **more)
    return _container(binds=(mount,))


def _host_has(kind: str) -> Change:
    spaces = tuple(
        Namespace(kind=one, inode=number, of_host=one == kind)
        for number, one in enumerate(("user", "net", "pid", "ipc", "uts", "cgroup"))
    )
    return _container(namespaces=spaces)


def _capability(name: str) -> Change:
    shared = (Namespace(kind="user", inode=1, of_host=True),)
    return _container(capabilities=(*audited.DOCKER_CAPABILITIES, f"CAP_{name}"), namespaces=shared)


def _process(**changes: object) -> Change:
    def change(facts: Facts) -> Facts:
        base = Process(pid=4050, name="sh", uid=100101, effective_uid=100101, parent=3999)
        return with_container(facts, processes=(*facts.containers[0].processes, replace(base, **changes)))

    return change


def _kubelet(line: str, instead: str) -> Change:
    text = audited.KUBELET.replace(line, instead)
    assert text != audited.KUBELET
    return lambda facts: with_file(facts, "/var/lib/kubelet/config.yaml", text=text)


def _kubelet_adds(line: str) -> Change:
    return lambda facts: with_file(facts, "/var/lib/kubelet/config.yaml", text=audited.KUBELET + line + "\n")


def _file(path: str, **changes: object) -> Change:
    return lambda facts: with_file(facts, path, **changes)


def _old(name: str, version: str = "0.0.1") -> Change:
    """A program from no package, of an old version."""
    return lambda facts: with_program(facts, name, package="", package_version="", build_version=version)


def _boot(*words: str, without: str = "") -> Change:
    kept = tuple(word for word in audited.COMMAND_LINE if word.partition("=")[0] != without)
    return lambda facts: with_kernel(facts, command_line=(*kept, *words))


def _config(option: str, text: str | None) -> Change:
    def change(facts: Facts) -> Facts:
        known = {one.name: one.value for one in facts.kernel.config or ()} | {option: text}
        given = {name: value for name, value in known.items() if value is not None}
        return with_kernel(facts, config=audited.settings(given))

    return change


def _rare(facts: Facts) -> Facts:
    return with_modules(facts, available=("overlay", "dccp"))


def _rootless(mode: int) -> Change:
    def change(facts: Facts) -> Facts:
        path = "/run/user/1000/podman/podman.sock"
        engine = Engine(kind=PODMAN, socket=path, uid=1000)
        return replace(
            with_file(facts, path, kind="socket", mode=mode, uid=1000), engines=(*facts.engines, engine)
        )

    return change


WRONG: dict[str, Change] = {
    "host-partition": lambda facts: replace(facts, mounts=facts.mounts[:1]),
    "host-engine-groups": lambda facts: replace(facts, groups=(Group(name="docker", gid=998, members=("anna",)),)),
    "host-security-module": lambda facts: with_kernel(facts, security_modules=("capability", "yama")),
    "host-docker-series": lambda facts: with_engine(
        with_program(facts, "dockerd", package="docker-ce"), version="20.10.7"
    ),
    "host-extra-root": lambda facts: replace(
        facts, users=(*facts.users, audited.user("toor", 0))
    ),
    "host-listening": lambda facts: replace(facts, listening=("tcp 0.0.0.0:2375",)),
    "host-subordinate-ids": lambda facts: replace(
        facts, sub_uids=(*facts.sub_uids, IdRange(inside=0, outside=120000, count=65536, owner="ben"))
    ),
    **{
        f"host-audit-{path.strip('/').replace('/', '-').replace('.', '-')}": (
            lambda facts: replace(facts, audit_rules=("-w /srv -p wa",))
        )
        for path in (
            "/usr/bin/dockerd", "/run/containerd", "/var/lib/docker", "/etc/docker",
            "/usr/lib/systemd/system/docker.service", "/run/containerd/containerd.sock", "/run/docker.sock",
            "/etc/default/docker", "/etc/docker/daemon.json", "/etc/containerd/config.toml",
            "/etc/sysconfig/docker", "/usr/bin/containerd", "/usr/bin/containerd-shim",
            "/usr/bin/containerd-shim-runc-v1", "/usr/bin/containerd-shim-runc-v2", "/usr/bin/runc",
        )
    },
    "daemon-rootless": _says("SecurityOptions", "name=seccomp,profile=builtin"),
    "daemon-icc": _docker(icc=None),
    "daemon-log-level": _docker(log_level="error"),
    "daemon-iptables": _docker(iptables="false"),
    "daemon-insecure-registries": _docker(insecure_registries="registry.example:5000 127.0.0.1:5000"),
    "daemon-aufs": _says("Driver", "aufs"),
    "daemon-devicemapper": _says("Driver", "devicemapper"),
    "daemon-tls": _docker(hosts="unix:///run/docker.sock tcp://0.0.0.0:2375"),
    "daemon-default-ulimits": lambda facts: with_engine(facts, given={"default-ulimits.nofile.Hard": None}),
    "daemon-userns-remap": lambda facts: with_engine(
        facts, given={"userns-remap": None}, says={"SecurityOptions": "name=seccomp,profile=builtin"}
    ),
    "daemon-cgroup-parent": _docker(cgroup_parent="/elsewhere"),
    "daemon-base-size": _docker(storage_opts="dm.basesize=20G"),
    "daemon-authorization": _docker(authorization_plugins=None),
    "daemon-remote-log": _docker(log_driver="json-file"),
    "daemon-no-new-privileges": _docker(no_new_privileges=None),
    "daemon-live-restore": _says("LiveRestoreEnabled", "false"),
    "daemon-userland-proxy": _docker(userland_proxy="true"),
    "daemon-seccomp": _docker(seccomp_profile="unconfined"),
    "daemon-experimental": _says("ExperimentalBuild", "true"),
    "daemon-legacy-registry": lambda facts: with_engine(
        facts, version="17.09.0-ce", given={"disable-legacy-registry": "false"}
    ),
    "daemon-mirrors": _docker(registry_mirrors="http://mirror.example"),
    "daemon-socket-group": _docker(group="users"),
    "daemon-containerd-confined": _of(CONTAINERD, "plugins.io.containerd.grpc.v1.cri.disable_apparmor", "true"),
    "daemon-containerd-registry": _of(CONTAINERD, "registry.configs.a.tls.insecure_skip_verify", "true"),
    "daemon-containerd-tcp": _of(CONTAINERD, "grpc.tcp_address", "0.0.0.0:7000"),
    "daemon-podman-capabilities": _of(PODMAN, "containers.default_capabilities", "CHOWN SYS_ADMIN"),
    "daemon-podman-namespaces": _of(PODMAN, "containers.pidns", "host"),
    "daemon-podman-confined": _of(PODMAN, "containers.seccomp_profile", "unconfined"),
    "daemon-podman-service": lambda facts: replace(
        facts,
        services=(
            Process(
                pid=1, name="podman", uid=0, effective_uid=0, arguments=("podman", "system", "service", "tcp::99")
            ),
        ),
    ),
    "file-rootless-socket": _rootless(0o666),
    "image-user": _image(user="root:root"),
    "image-policy": _file("/etc/containers/policy.json", text='{"default": [{"type": "insecureAcceptAnything"}]}'),
    "image-needless-packages": _image(packages=(Package(name="gcc", version="12"),)),
    "image-age": _image(created=NOW - timedelta(days=400)),
    "image-known-holes": _image(packages=(Package(name="libc6", version="2.36-9", source="glibc"),)),
    "image-distribution": _image(distribution="alpine 3.9"),
    "image-trust": _file("/etc/environment", text="PATH=/usr/bin\n"),
    "image-health-check": _image(has_health_check=False),
    "image-lone-update": _history("RUN /bin/sh -c apt-get -q update # buildkit"),
    "image-set-user-id": _image(set_user_id=("/opt/tool",)),
    "image-add": _history("ADD http://example.net/tool /usr/bin/ # buildkit"),
    "image-secrets": _history("ENV DB_PASSWORD= # buildkit"),
    "image-unverified": _history("RUN /bin/sh -c curl -sSL http://example.net/install | sh # buildkit"),
    "image-unused": lambda facts: replace(
        facts, images=(*facts.images, image(id="sha256:1"), image(id="sha256:2"))
    ),
    "image-named": _image(names=("<none>:<none>",), digests=()),
    "container-root": _container(uid=0),
    "container-apparmor": _container(apparmor="unconfined"),
    "container-selinux": _container(selinux="system_u:system_r:spc_t:s0"),
    "container-capabilities": _capability("SYSLOG"),
    "container-privileged": _container(privileged=True),
    "container-host-folders": _bind("/etc"),
    "container-logins": _process(name="sshd"),
    "container-low-ports": _container(ports=(Port(address="192.0.2.1", host=80, container=80, protocol="tcp"),)),
    "container-admin-ports": _container(
        ports=(Port(address="", host=16379, container=6379, protocol="tcp"),)
    ),
    "container-host-network": _host_has("net"),
    "container-memory": _container(memory_limit=0),
    "container-cpu": _container(cpu_shares=0, cpu_limit=0.0),
    "container-read-only": _container(read_only=False),
    "container-one-address": _container(ports=(Port(address="", host=8080, container=80, protocol="tcp"),)),
    "container-restart": _container(restart="always"),
    "container-host-pids": _host_has("pid"),
    "container-host-ipc": _host_has("ipc"),
    "container-devices": _container(devices=(Device(path="/dev/sda", kind="b", major=8, minor=0, access="rwm"),)),
    "container-ulimits": lambda facts: with_container(
        with_engine(facts, given={"default-ulimits.nofile.Hard": None}), limits=()
    ),
    "container-shared-mounts": _bind("/srv/data", propagation="rshared"),
    "container-host-uts": _host_has("uts"),
    "container-seccomp": _container(syscalls=Syscalls(mode="disabled")),
    "container-strong-exec": _process(capabilities=("CAP_SYS_ADMIN",)),
    "container-root-exec": _process(uid=100000),
    "container-cgroup-parent": _container(cgroup_parent="/elsewhere"),
    "container-new-privileges": _container(no_new_privileges=False),
    "container-health": _container(has_health_check=False),
    "container-current": _container(image="nginx:1.27", image_id="sha256:" + "b" * 64),
    "container-pids": _container(pids_limit=0),
    "container-default-bridge": _container(network="bridge"),
    "container-host-users": lambda facts: with_container(
        facts, engine_says=audited.settings({"HostConfig.UsernsMode": "host"})
    ),
    "container-engine-socket": _bind("/run/docker.sock"),
    "container-pinned": _container(image="nginx:1.27"),
    **{
        f"container-cap-{name.lower().replace('_', '-')}": _capability(name)
        for name in (
            "DAC_READ_SEARCH", "SYS_MODULE", "SYS_ADMIN", "SYS_PTRACE", "SYS_RAWIO", "NET_ADMIN", "BPF",
            "SYS_BOOT",
            "SYSLOG", "MAC_ADMIN",
        )
    },
    "container-open-filter": _container(syscalls=Syscalls(mode="filter", default_allows=True)),
    "container-host-cgroups": _host_has("cgroup"),
    "container-masks": _container(masked_paths=()),
    "container-kernel-writable": lambda facts: with_container(
        facts,
        namespaces=(Namespace(kind="user", inode=1, of_host=True),),
        mounts=(Mount(target="/sys/fs/cgroup", source="cgroup", kind="cgroup", options=("rw",)),),
    ),
    "container-known": _container(engine=EngineKind.NONE),
    "container-stopped": lambda facts: replace(
        facts, containers=(*facts.containers, *(container(id=key, state="exited", pid=0) for key in "ab"))
    ),
    "swarm-off": _swarm(),
    "swarm-managers": _swarm(text="4"),
    "swarm-bound": lambda facts: replace(_swarm()(facts), listening=("tcp 0.0.0.0:2377",)),
    "swarm-encrypted": _swarm("Networks.ingress.Options.encrypted", None),
    "swarm-secrets": _swarm("Secrets", "0"),
    "swarm-autolock": _swarm("Swarm.Cluster.Spec.EncryptionConfig.AutoLockManagers", "false"),
    "swarm-key-age": _swarm("Swarm.Cluster.UpdatedAt", "2021-01-01T00:00:00Z"),
    "swarm-node-certificates": _swarm("Swarm.Cluster.Spec.CAConfig.NodeCertExpiry", str(10**18)),
    "swarm-ca-age": _swarm("Swarm.Cluster.CreatedAt", "2021-01-01T00:00:00Z"),
    "swarm-planes": lambda facts: with_file(
        _swarm()(facts), "/var/lib/docker/swarm/docker-state.json", text='{"AdvertiseAddr": "192.0.2.1:2377"}'
    ),
    "kubelet-anonymous": _kubelet("enabled: false", "enabled: true"),
    "kubelet-authorization": _kubelet("Webhook", "AlwaysAllow"),
    "kubelet-client-ca": _kubelet("    clientCAFile: /etc/kubernetes/pki/ca.crt\n", ""),
    "kubelet-read-only-port": _kubelet_adds("readOnlyPort: 10255"),
    "kubelet-streaming": _kubelet_adds("streamingConnectionIdleTimeout: 0s"),
    "kubelet-kernel-defaults": _kubelet("protectKernelDefaults: true\n", ""),
    "kubelet-iptables": _kubelet_adds("makeIPTablesUtilChains: false"),
    "kubelet-rotation": _kubelet("rotateCertificates: true", "rotateCertificates: false"),
    "kubelet-ciphers": _kubelet_adds("tlsCipherSuites:\n- TLS_RSA_WITH_RC4_128_SHA"),
    "kubelet-seccomp-default": _kubelet("seccompDefault: true\n", ""),
    "kubelet-pids": _kubelet("podPidsLimit: 4096\n", ""),
    "kubelet-unsafe-sysctls": _kubelet_adds("allowedUnsafeSysctls:\n  - kernel.*"),
    **{
        f"kubernetes-file-{name}": _file(path, mode=0o666)
        for name, path in (
            ("kubelet-kubeconfig", "/etc/kubernetes/kubelet.conf"),
            ("kubelet-config", "/var/lib/kubelet/config.yaml"),
            ("kubelet-service", "/etc/systemd/system/kubelet.service.d/10.conf"),
            ("kubelet-pki", "/var/lib/kubelet/pki/kubelet.key"),
            ("kubelet-ca", "/etc/kubernetes/pki/ca.crt"),
            ("cluster-keys", "/etc/kubernetes/pki/apiserver.key"),
            ("admin-config", "/etc/kubernetes/admin.conf"),
            ("manifests", "/etc/kubernetes/manifests/etcd.yaml"),
            ("etcd-data", "/var/lib/etcd"),
        )
    },
    **{f"runtime-{name}": _old(name) for name in audited.PROGRAMS},
    "runtime-replaced": lambda facts: with_program(facts, "runc", replaced=True),
    "runtime-packaged": lambda facts: with_program(facts, "runc", package=""),
    "runtime-once": lambda facts: replace(
        facts, programs=(*facts.programs, replace(facts.programs[0], path="/usr/local/bin/runc", sha256="other"))
    ),
    "module-rare": _rare,
    "module-idle": lambda facts: with_modules(
        facts, loaded=(*facts.modules.loaded, LoadedModule(name="odd", size=1, users=0))
    ),
    "module-on-demand": lambda facts: with_modules(
        facts,
        available=("overlay", "strange"),
        aliases=(Alias(pattern="net-pf-99", module="strange"),),
    ),
    "module-by-name": lambda facts: with_modules(
        facts, blocked=(BlockedModule(name="dccp", by_alias_only=True, source="a.conf"),)
    ),
    "module-signed-only": lambda facts: with_modules(facts, signed_only=False),
    "module-taint": lambda facts: with_kernel(facts, taint=1 << 1),
    **{
        f"kernel-sysctl-{name.replace('.', '-').replace('_', '-')}": (
            lambda facts, name=name: with_sysctl(facts, name, "99")
        )
        for name in audited.SYSCTLS
        if name not in {"kernel.unprivileged_userns_clone", "kernel.core_pattern"}
    },
    "kernel-user-namespaces": lambda facts: with_sysctl(facts, "kernel.unprivileged_userns_clone", "1"),
    "kernel-core-pattern": lambda facts: with_sysctl(facts, "kernel.core_pattern", "|/tmp/handler %P"),
    "kernel-boot-mitigations": _boot("mitigations=off"),
    "kernel-boot-addresses": _boot("nokaslr"),
    "kernel-boot-smep-smap": _boot("nosmap"),
    "kernel-boot-security-modules": _boot("apparmor=0"),
    "kernel-boot-zero-memory": _boot("init_on_alloc=0", without="init_on_alloc"),
    "kernel-boot-slab-merge": _boot(without="slab_nomerge"),
    "kernel-boot-page-shuffle": _boot(without="page_alloc.shuffle"),
    "kernel-boot-stack-offset": _boot(without="randomize_kstack_offset"),
    "kernel-boot-vsyscall": _boot("vsyscall=emulate", without="vsyscall"),
    "kernel-boot-iommu": _boot(without="intel_iommu"),
    "kernel-boot-debugfs": _boot(without="debugfs"),
    **{f"kernel-config-{name.lower().replace('_', '-')}": _config(f"CONFIG_{name}", None)
        for name in audited.ON
        if name != "MODULES"
    },
    **{
        f"kernel-config-{name.lower().replace('_', '-')}": _config(f"CONFIG_{name}", "y")
        for name in (
            "DEVMEM", "DEVKMEM", "PROC_KCORE", "COMPAT_BRK", "LEGACY_PTYS", "X86_X32_ABI", "MODIFY_LDT_SYSCALL",
            "BINFMT_AOUT",
        )
    },
    "kernel-config-randstruct-none": _config("CONFIG_RANDSTRUCT", "y"),
    "kernel-lockdown": lambda facts: with_kernel(facts, lockdown="none"),
    "kernel-processor": lambda facts: with_kernel(
        facts, cpu_vulnerabilities=audited.settings({"mds": "Vulnerable: no microcode"})
    ),
    "kernel-second-opinion": lambda facts: facts,
    "kernel-livepatches": lambda facts: with_kernel(
        facts, livepatches=(LoadedLivepatch(module="livepatch_kmend_1", enabled=True, in_transition=True),)
    ),
}  # fmt: skip


for _place in PLACES:
    _named = {
        "@tlscacert": "/etc/docker/ca.pem",
        "@tlscert": "/etc/docker/cert.pem",
        "@tlskey": "/etc/docker/key.pem",
    }
    _path = _named.get(_place.paths[0], _place.paths[0]).replace("*", "one")
    WRONG[f"file-{_place.name}-owner"] = _file(_path, uid=1000)
    WRONG[f"file-{_place.name}-mode"] = _file(_path, mode=0o777)

# What passes only on a host that has something which another check would not like.
RIGHT: dict[str, Change] = {
    **{name: _swarm() for name in RULES if name.startswith("swarm-") and name != "swarm-off"},
    "file-rootless-socket": _rootless(0o660),
    "module-by-name": lambda facts: with_modules(
        facts, blocked=(BlockedModule(name="dccp", by_alias_only=False, source="a.conf"),)
    ),
}
OPINIONS = {
    name: (
        Demand(
            "CONFIG_X", "kconfig", "y", "self_protection", name == "right", "OK" if name == "right" else "FAIL"
        ),
    )
    for name in ("right", "wrong")
}
ADVISORIES = {"glibc": (Advisory("CVE-2024-2961", "glibc", "debian 12", "2.36-9+deb12u6"),)}


def _case(facts: Facts, opinion: str = "right") -> Case:
    return case_of(facts, advisories=ADVISORIES, demands=OPINIONS[opinion])


def test_every_check_has_a_wrong_host():
    """A check that was never seen to fail is no check."""
    assert set(WRONG) == set(RULES)


def test_every_check_has_an_id_of_its_own():
    """Waivers and reports name checks by id."""
    assert len(RULES) == len(CHECKS)


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_host_set_up_right_passes(name: str):
    """Every check passes, and neither fails nor doubts."""
    facts = RIGHT.get(name, lambda same: same)(right_host())
    outcomes = {one.outcome for one in RULES[name].judge(_case(facts))}
    assert Outcome.PASS in outcomes
    assert outcomes <= {Outcome.PASS, Outcome.NOT_APPLICABLE}


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_host_set_up_wrong_fails(name: str):
    """One thing wrong is found, with evidence."""
    verdicts = [
        one for one in RULES[name].judge(_case(WRONG[name](right_host()), "wrong")) if one.outcome is Outcome.FAIL
    ]
    assert verdicts
    assert all(one.evidence and one.subject for one in verdicts)


@pytest.mark.parametrize("name", sorted(RULES))
def test_nothing_seen_is_no_pass(name: str):
    """Facts that show nothing give neither a pass nor a failure, but for what is read from absence."""
    empty = replace(
        right_host(), sysctls=(), mounts=(), users=(), groups=(), sub_uids=(), packages=None, programs=(),
        files=(),
        services=(), engines=(), containers=(), images=(), audit_rules=None, listening=(),
    )  # fmt: skip
    empty = with_kernel(
        empty, command_line=(), config=None, livepatches=(), taint=None, lockdown="", security_modules=(),
        cpu_vulnerabilities=(),
    )  # fmt: skip
    empty = with_modules(empty, loaded=(), available=None, aliases=(), blocked=(), signed_only=None)
    outcomes = {one.outcome for one in RULES[name].judge(case_of(empty))}
    assert outcomes <= {Outcome.UNKNOWN, Outcome.NOT_APPLICABLE}
    assert outcomes


@pytest.mark.parametrize("name", sorted(one for one in RULES if one.startswith("container-")))
def test_a_container_of_which_nothing_is_known_passes_nothing(name: str):
    """A container that only its cgroup gave away: what is not known of it is no pass."""
    bare = Container(id="d" * 64, name="", engine=EngineKind.NONE, state="running", pid=77)
    facts = replace(right_host(), containers=(bare,))
    outcomes = {one.outcome for one in RULES[name].judge(case_of(facts))}
    if name == "container-known":
        assert outcomes == {Outcome.FAIL}
    elif name == "container-stopped":
        assert outcomes == {Outcome.PASS}
    else:
        assert outcomes <= {Outcome.UNKNOWN, Outcome.NOT_APPLICABLE}


def test_every_number_of_the_docker_benchmark_has_a_check():
    """117 numbers, each with a counterpart here."""
    numbers = {
        *(f"1.1.{one}" for one in range(1, 19)), "1.2.1", "1.2.2",
        *(f"2.{one}" for one in range(1, 19)),
        *(f"3.{one}" for one in range(1, 25)),
        *(f"4.{one}" for one in range(1, 13)),
        *(f"5.{one}" for one in range(1, 33)),
        "6.1", "6.2",
        *(f"7.{one}" for one in range(1, 10)),
    }  # fmt: skip
    assert len(numbers) == 117
    assert numbers <= {one.rule.cis for one in CHECKS}


def test_every_rule_says_what_it_asks_where_from_and_what_to_do():
    """No rule is without a title, a source and a remedy; every area has some."""
    for one in CHECKS:
        assert one.rule.title
        assert one.rule.source
        assert one.rule.remedy
    assert {one.rule.area for one in CHECKS} == set(Area)


def test_what_to_do_in_a_pod():
    """A pod's container is told of by its pod, and the remedy is the pod's field; every such check is there."""
    assert set(REMEDIES) <= set(RULES)
    for pod in ("shop/web", ""):
        for change, check, inside, outside in (
            (
                {"privileged": True},
                "container-privileged",
                "`securityContext.privileged: false`",
                "`--privileged`",
            ),
            ({"capabilities": ("CAP_SYS_TIME",)}, "container-capabilities", "capabilities.add", "--cap-add"),
        ):
            facts = with_container(right_host(), pod=pod, **change)
            report = audit(case_of(facts), CHECKS, version="1", now=NOW)
            (found,) = [one for one in report.findings if one.check == check and one.outcome is Outcome.FAIL]
            assert (inside in found.remedy, outside in found.remedy) == (bool(pod), not pod)
            assert found.subject.startswith(f"container {pod}/web (" if pod else "container web (")


def test_a_program_is_watched_where_it_is():
    """Debian has dockerd in /usr/sbin: a rule for /usr/bin does not watch it."""
    facts = with_program(right_host(), "dockerd", path="/usr/sbin/dockerd")
    (verdict,) = RULES["host-audit-usr-bin-dockerd"].judge(case_of(facts))
    assert verdict.outcome is Outcome.FAIL
    assert "/usr/sbin/dockerd" in verdict.evidence


def test_a_rule_that_leaves_a_path_out_watches_nothing():
    """``-a never`` on a folder is the contrary of a watch."""
    facts = replace(right_host(), audit_rules=("-a never,exit -F dir=/etc/docker",))
    (verdict,) = RULES["host-audit-etc-docker"].judge(case_of(facts))
    assert verdict.outcome is Outcome.FAIL


@pytest.mark.parametrize("place", ["/lib/systemd/system/docker.service", "/usr/lib/systemd/system"])
def test_a_file_is_watched_by_whichever_of_its_names(place: str):
    """As /lib is /usr/lib, a rule for one watches the other."""
    facts = replace(right_host(), audit_rules=(f"-w {place} -p wa",))
    facts = with_file(facts, "/lib/systemd/system/docker.service")
    facts = with_file(facts, "/etc/systemd/system/docker.service", exists=False)
    (verdict,) = RULES["host-audit-usr-lib-systemd-system-docker-service"].judge(case_of(facts))
    assert verdict.outcome is Outcome.PASS


def test_a_file_with_two_names_is_judged_once():
    """The unit file in /lib is the one in /usr/lib."""
    facts = with_file(right_host(), "/lib/systemd/system/docker.service", mode=0o666)
    facts = with_file(facts, "/usr/lib/systemd/system/docker.service", mode=0o666)
    facts = with_file(facts, "/etc/systemd/system/docker.service", exists=False)
    verdicts = list(RULES["file-docker-service-mode"].judge(case_of(facts)))
    assert [one.outcome for one in verdicts] == [Outcome.FAIL]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [("/", Outcome.FAIL), ("/run", Outcome.FAIL), ("/var/run/", Outcome.FAIL), ("/run/user", Outcome.PASS)],
)
def test_a_folder_with_the_socket_of_an_engine_is_the_socket(source: str, wanted: Outcome):
    """Who has /run of the host has /run/docker.sock, whatever the name of the mount."""
    verdicts = RULES["container-engine-socket"].judge(case_of(_bind(source)(right_host())))
    assert {one.outcome for one in verdicts} == {wanted}


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [("", "ab", Outcome.FAIL), ("", "", Outcome.FAIL), ("cd", "ab", Outcome.FAIL), ("ab", "ab", Outcome.PASS)],
)
def test_a_copy_of_a_program_counts_unless_it_is_the_same(first: str, second: str, wanted: Outcome):
    """Files of packages are not hashed: what is not known to be the same is another."""
    facts = with_program(right_host(), "runc", sha256=first)
    runc = next(one for one in facts.programs if one.name == "runc")
    copy = replace(runc, path="/usr/local/bin/runc", package="", sha256=second)
    found = RULES["runtime-once"].judge(case_of(replace(facts, programs=(*facts.programs, copy))))
    assert next(one.outcome for one in found if one.subject == "runc") is wanted
