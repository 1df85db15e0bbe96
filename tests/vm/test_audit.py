"""A real container host, set up wrong on purpose in many ways: each is found. Set up right, none of them is."""

import os
import sys

import pytest

from kmend.audit.check import Case
from kmend.audit.judge import audit
from kmend.audit.needless import RARE
from kmend.audit.registry import CHECKS
from kmend.audit.views.common import failed
from kmend.kit.progress import Silent
from kmend.lab.host import container_host
from makers.guest_docker import (
    DOCKERFILE_RIGHT,
    DOCKERFILE_WRONG,
    SLEEP,
    build,
    restart_docker,
    shell,
    start_careful,
)
from makers.guest_facts import AGENT, facts_of_guest, make_agent
from makers.guest_podman import install_podman, served

pytestmark = [
    pytest.mark.vm,
    pytest.mark.long,
    pytest.mark.kit,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root once"),
]

# Files: what makes them wrong, what makes them right again, and the checks that say so.
FILES = (
    ("/etc/docker/daemon.json", "0666", "1000:1000", "0644", "0:0", "file-daemon-json"),
    ("/etc/docker", "0777", "1000:0", "0755", "0:0", "file-docker-folder"),
    ("/etc/default/docker", "0666", "0:1000", "0644", "0:0", "file-default-docker"),
    ("/etc/docker/certs.d/made", "0666", "1000:0", "0444", "0:0", "file-registry-certificates"),
    ("/run/docker.sock", "0666", "1000:0", "0660", "0:docker", "file-docker-socket"),
    ("/run/containerd/containerd.sock", "0666", "0:1000", "0660", "0:0", "file-containerd-socket"),
    ("/etc/containers/policy.json", "0666", "1000:0", "0644", "0:0", "file-image-policy"),
    ("/etc/subuid", "0666", "1000:0", "0644", "0:0", "file-sub-ids"),
    ("/etc/cni/net.d", "0777", "1000:0", "0755", "0:0", "file-cni-config"),
    ("/root/.docker/config.json", "0644", "1000:0", "0600", "0:0", "file-registry-logins"),
    ("/var/lib/containerd", "0755", "1000:0", "0711", "0:0", "file-containerd-data"),
)
# Sysctls: wrong, and right.
SYSCTLS = {
    "kernel.kptr_restrict": ("0", "2"),
    "kernel.dmesg_restrict": ("0", "1"),
    "kernel.perf_event_paranoid": ("0", "3"),
    "kernel.sysrq": ("1", "0"),
    "kernel.randomize_va_space": ("0", "2"),
    "kernel.yama.ptrace_scope": ("0", "1"),
    "net.core.bpf_jit_harden": ("0", "2"),
    "fs.protected_hardlinks": ("0", "1"),
    "fs.protected_symlinks": ("0", "1"),
    "fs.protected_fifos": ("0", "2"),
    "fs.protected_regular": ("0", "2"),
    "fs.suid_dumpable": ("1", "0"),
    "dev.tty.ldisc_autoload": ("1", "0"),
    "net.ipv4.conf.all.accept_redirects": ("1", "0"),
    "net.ipv4.conf.all.accept_source_route": ("1", "0"),
    "net.ipv4.conf.all.rp_filter": ("0", "2"),
    "net.ipv4.conf.all.route_localnet": ("1", "0"),
    "net.ipv4.icmp_echo_ignore_broadcasts": ("0", "1"),
    "net.ipv4.tcp_syncookies": ("0", "1"),
}
# Containers: name, options, and the checks that find it.
CONTAINERS = (
    ("all", "--privileged", ("container-privileged", "container-capabilities", "container-cap-sys-module")),
    ("admin", "--cap-add SYS_ADMIN --cap-add NET_ADMIN", ("container-cap-sys-admin", "container-cap-net-admin")),
    ("trace", "--cap-add SYS_PTRACE --cap-add DAC_READ_SEARCH",
     ("container-cap-sys-ptrace", "container-cap-dac-read-search")),
    ("raw", "--cap-add SYS_RAWIO --cap-add SYSLOG", ("container-cap-sys-rawio", "container-cap-syslog")),
    ("clock", "--cap-add SYS_TIME --cap-add MAC_ADMIN", ("container-cap-sys-boot", "container-cap-mac-admin")),
    ("near", "--network host --pid host --ipc host --uts host --cgroupns host",
     ("container-host-network", "container-host-pids", "container-host-ipc", "container-host-uts",
      "container-host-cgroups")),
    ("loose", "--security-opt seccomp=unconfined --security-opt systempaths=unconfined",
     ("container-seccomp", "container-masks")),
    ("socket", "-v /run/docker.sock:/run/docker.sock", ("container-engine-socket",)),
    ("folders", "-v /etc:/host-etc", ("container-host-folders",)),
    ("shared", "-v /srv:/srv:shared", ("container-shared-mounts",)),
    ("disk", "--device /dev/vda", ("container-devices",)),
    ("ports", "-p 80:80 -p 16379:6379", ("container-low-ports", "container-one-address", "container-admin-ports")),
    ("careless", "--restart always",
     ("container-restart", "container-memory", "container-cpu", "container-pids", "container-health",
      "container-root", "container-read-only", "container-new-privileges", "container-default-bridge",
      "container-pinned", "container-ulimits")),
    ("parent", "--cgroup-parent elsewhere.slice", ("container-cgroup-parent",)),
)  # fmt: skip
# Those of other engines, by the name that their subject begins with.
OTHERS = {
    "container pod-all ": ("container-privileged", "container-cap-sys-module", "container-host-network",
                           "container-host-pids", "container-host-ipc", "container-host-uts", "container-seccomp",
                           "container-root", "container-memory"),
    "container pod-anna ": ("container-host-network", "container-seccomp", "container-memory"),
    "container by-ctr": ("container-cap-sys-admin", "container-host-network", "container-seccomp",
                         "container-root", "container-memory"),
}  # fmt: skip
HOST = (
    "daemon-log-level", "daemon-insecure-registries", "daemon-mirrors", "daemon-experimental",
    "daemon-userland-proxy", "daemon-live-restore", "daemon-icc", "daemon-no-new-privileges",
    "daemon-default-ulimits", "daemon-cgroup-parent", "daemon-socket-group", "daemon-tls", "host-listening",
    "host-engine-groups", "host-extra-root", "host-subordinate-ids", "host-audit-etc-docker",
    "host-audit-run-containerd", "host-audit-var-lib-docker", "host-audit-usr-bin-dockerd",
    "host-audit-usr-bin-runc", "host-audit-etc-docker-daemon-json", "runtime-replaced", "runtime-packaged",
    "runtime-once", "kernel-core-pattern", "swarm-off", "swarm-encrypted", "swarm-secrets", "swarm-autolock",
    "swarm-bound", "module-rare", "image-user", "image-health-check", "image-secrets", "image-add",
    "image-lone-update", "image-unverified", "image-set-user-id", "image-needless-packages",
    "image-distribution",
)  # fmt: skip

DAEMON_WRONG = """{
  "log-level": "error", "insecure-registries": ["registry.example:5000"], "experimental": true,
  "registry-mirrors": ["http://mirror.example"], "cgroup-parent": "made.slice", "group": "games"
}"""
DAEMON_RIGHT = """{
  "log-level": "info", "icc": false, "userland-proxy": false, "live-restore": true, "no-new-privileges": true,
  "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 4096}}
}"""
MAKE_PLACES = """
mkdir -p /etc/docker/certs.d /etc/containers /etc/cni/net.d /root/.docker /etc/audit/rules.d
touch /etc/docker/certs.d/made /etc/default/docker
echo '{"default": [{"type": "reject"}]}' > /etc/containers/policy.json
echo '{}' > /root/.docker/config.json
"""
ACCOUNTS_WRONG = """
useradd -u 1000 -m anna; useradd -u 1001 -m ben; groupadd -f docker; usermod -aG docker anna
useradd -o -u 0 -g 0 -M toor
printf 'anna:100000:65536\\nben:120000:65536\\n' | tee /etc/subuid > /etc/subgid
echo '-w /srv -p wa' > /etc/audit/rules.d/made.rules
"""
ACCOUNTS_RIGHT = """
gpasswd -d anna docker; sed -i '/^toor:/d' /etc/passwd /etc/shadow
printf 'anna:100000:65536\\nben:165536:65536\\n' | tee /etc/subuid > /etc/subgid
for path in /etc/docker /run/containerd /var/lib/docker /usr/bin /usr/sbin; do echo "-w $path -p wa"; done \
    > /etc/audit/rules.d/made.rules
"""
ROOT_FOLDERS = """
docker export all -o /srv/flat.tar
for name in all anna ctr; do mkdir /srv/$name; tar -C /srv/$name -xf /srv/flat.tar; done
chown -R anna:anna /srv/anna; chmod 755 /srv
mkdir -p /run/user/1000; chown anna /run/user/1000
"""
PODMAN = "podman --cgroup-manager=cgroupfs"
OPEN = "--network host --security-opt seccomp=unconfined"
OF_ROOT = f"{PODMAN} run -d --name pod-all --privileged --pid host --ipc host --uts host {OPEN} --rootfs /srv/all"
OF_ANNA = f"{PODMAN} run -d --name pod-anna --cgroups=disabled {OPEN} --rootfs /srv/anna"
OF_CONTAINERD = "ctr run -d --net-host --cap-add CAP_SYS_ADMIN --rootfs /srv/ctr by-ctr"
AS_ANNA = "cd; export XDG_RUNTIME_DIR=/run/user/1000"
STOP_OTHERS = f"""
{PODMAN} rm -f -t 0 pod-all
su anna -c '{AS_ANNA}; {PODMAN} rm -f -t 0 pod-anna'
ctr task kill -s KILL by-ctr
until ctr container rm by-ctr; do sleep 1; done
"""
TCP = "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// -H tcp://0.0.0.0:2375\n"


@pytest.fixture(scope="module")
def guest(kit, tmp_path_factory):
    """The running host, with the program that looks."""
    folder = tmp_path_factory.mktemp("debs")
    with (
        served(folder) as port,
        container_host(kit, forward_port=port, progress=Silent(), silence=300, limit=3000) as vm,
    ):
        install_podman(vm, folder)
        vm.put(AGENT, make_agent(tmp_path_factory.mktemp("agent")))
        shell(vm, MAKE_PLACES)
        yield vm


def set_files(vm, *, right):
    """Owners, modes and sysctls."""
    lines = [
        f"chown {owner if right else bad_owner} {path}; chmod {mode if right else bad_mode} {path}"
        for path, bad_mode, bad_owner, mode, owner, _ in FILES
    ]
    lines += [f"sysctl -q -w {name}={pair[right]}" for name, pair in SYSCTLS.items()]
    shell(vm, "\n".join(lines))


def make_wrong(vm):
    """Everything that the table names."""
    shell(vm, ACCOUNTS_WRONG)
    vm.put("/etc/docker/daemon.json", DAEMON_WRONG.encode())
    shell(vm, "mkdir -p /etc/systemd/system/docker.service.d")
    vm.put("/etc/systemd/system/docker.service.d/tcp.conf", TCP.encode())
    shell(vm, "docker rm -f web database queue")
    restart_docker(vm)
    build(vm, "wrong", DOCKERFILE_WRONG)
    for name, options, _ in CONTAINERS:
        shell(vm, f"docker run -d --name {name} {options} wrong:1 {SLEEP}", timeout=300)
    start_others(vm)
    shell(vm, "cp -p /usr/bin/containerd /srv/c && mv /srv/c /usr/bin/containerd")
    shell(vm, "cp -p /usr/sbin/runc /usr/local/bin/runc; echo >> /usr/local/bin/runc")
    shell(vm, "sysctl -q -w 'kernel.core_pattern=|/tmp/handler %P'")
    set_files(vm, right=False)


def start_others(vm):
    """Containers of Podman, root's and a user's, and of containerd."""
    shell(vm, ROOT_FOLDERS)
    shell(vm, f"{OF_ROOT} {SLEEP}; {OF_CONTAINERD} {SLEEP}")
    shell(vm, f"su anna -c '{AS_ANNA}; {OF_ANNA} {SLEEP}'")


def make_right(vm):
    """And all of it put right."""
    shell(vm, "docker swarm leave --force")
    shell(vm, STOP_OTHERS)
    shell(vm, "docker rm -f $(docker ps -aq)", timeout=900)
    build(vm, "right", DOCKERFILE_RIGHT)
    shell(vm, "docker rmi -f wrong:1 kmend-lab", timeout=900)
    shell(vm, ACCOUNTS_RIGHT)
    vm.put("/etc/docker/daemon.json", DAEMON_RIGHT.encode())
    shell(vm, "rm -r /etc/systemd/system/docker.service.d /usr/local/bin/runc; systemctl restart containerd")
    restart_docker(vm)
    shell(vm, "sysctl -q -w kernel.core_pattern=core")
    set_files(vm, right=True)


def judged(facts):
    """What failed, as (check, subject)."""
    report = audit(Case(facts=facts), CHECKS, version="test", now=facts.collected)
    return {(one.check, one.subject) for one in failed(report)}


def expected():
    """What is wrong, as (check, part of the subject)."""
    yield from ((name, "") for name in HOST)
    for path, *_, name in FILES:
        yield from ((f"{name}-{part}", path) for part in ("owner", "mode"))
    for name, _, checks in CONTAINERS:
        yield from ((check, f"container {name} ") for check in checks)
    for subject, checks in OTHERS.items():
        yield from ((check, subject) for check in checks)
    yield from ((f"kernel-sysctl-{name.replace('.', '-').replace('_', '-')}", "") for name in SYSCTLS)


def test_every_wrong_thing_is_found_and_gone_when_it_is_right(guest):
    """More than 100 ways to be wrong; what cannot be put right on a running kernel is not among them."""
    wanted = list(expected())
    assert len(wanted) >= 120
    make_wrong(guest)
    wrong = judged(facts_of_guest(guest))
    # Live-restore and swarm mode exclude each other, so a host cannot be wrong in both at once.
    shell(guest, "docker swarm init --listen-addr 0.0.0.0:2377 --advertise-addr 10.0.2.15")
    wrong |= judged(facts_of_guest(guest))
    missed = [
        (check, part) for check, part in wanted if not any(one == check and part in who for one, who in wrong)
    ]
    sys.stdout.write(f"{len(wanted) - len(missed)} of {len(wanted)} wrong settings found\n")
    assert missed == []
    make_right(guest)
    guest.put("/etc/modprobe.d/made.conf", "".join(f"install {name} /bin/false\n" for name in RARE).encode())
    start_careful(guest)
    right = judged(facts_of_guest(guest))
    checks = {check for check, _ in wanted}
    assert sorted((check, who) for check, who in right if check in checks) == []
