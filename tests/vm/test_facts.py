"""Facts on a real container host: what the collector sees, beside what Docker, Podman and containerd say."""

import json
import os
import shlex

import pytest

from kmend.kit.progress import Silent
from kmend.lab.host import container_host
from kmend.linux.facts.processes import names
from kmend.model.facts import EngineKind
from makers.guest_cri import PACKAGES, make_pods, start_cri
from makers.guest_facts import AGENT, facts_of_guest, make_agent
from makers.guest_podman import install_podman, served

pytestmark = [
    pytest.mark.vm,
    pytest.mark.long,
    pytest.mark.kit,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root once"),
]

SLEEP = ("/bin/busybox", "sleep", "100000")
DOCKER = {
    "all": ("--privileged",),
    "admin": (
        *("--cap-add", "NET_ADMIN", "--security-opt", "seccomp=unconfined"),
        *("--security-opt", "apparmor=unconfined"),
    ),
    "near": ("--network", "host", "--pid", "host", "--ipc", "host"),
    "bound": (
        *("-v", "/var/run/docker.sock:/var/run/docker.sock", "-v", "/etc:/host-etc:ro", "--memory", "64m"),
        *("--cpus", "0.5", "--pids-limit", "50", "--user", "1234:1234", "--restart", "on-failure:5"),
    ),
    "plain": ("--device", "/dev/null:/dev/nothing"),
}
LAB = {"image": "docker.io/library/kmend-lab:latest", "command": SLEEP}
PODS = [
    {
        "namespace": "shop",
        "name": "web",
        "containers": [
            {"name": "app", **LAB, "user": 1234, "drop": ["ALL"], "mounts": {"/host-etc": "/etc"}},
            {"name": "side", **LAB, "unconfined": True, "add": ["NET_ADMIN"]},
        ],
    },
    {
        "namespace": "kube-system",
        "name": "net",
        "host_network": True,
        "containers": [{"name": "agent", **LAB, "privileged": True}],
    },
]
DOCKERFILE = """\
FROM kmend-lab
RUN /bin/busybox cp /bin/busybox /bin/su && /bin/busybox chmod 4755 /bin/su /bin/beat && \
    /bin/busybox mkdir -p /var/lib/dpkg /etc && \
    /bin/busybox printf 'Package: a\\nStatus: install ok installed\\nVersion: 1-2\\n' > /var/lib/dpkg/status && \
    /bin/busybox printf 'ID=made\\nVERSION_ID=7\\n' > /etc/os-release
RUN /bin/busybox rm /bin/beat
HEALTHCHECK CMD /bin/busybox true
USER 1000
"""


@pytest.fixture(scope="module")
def guest(kit, tmp_path_factory):
    """The running host with all its containers."""
    folder = tmp_path_factory.mktemp("debs")
    with served(folder) as port, container_host(kit, forward_port=port, progress=Silent()) as vm:
        start_docker(vm)
        start_containerd(vm)
        install_podman(vm, folder, also=PACKAGES)
        start_podman(vm)
        start_cri(vm)
        shell(vm, "cp /usr/bin/crun /usr/local/bin/crun")
        vm.put(AGENT, make_agent(tmp_path_factory.mktemp("agent")))
        yield vm


def shell(vm, script, *, timeout=300):
    """Run lines in the guest; the first that fails ends the test."""
    return vm.must(["sh", "-ec", script], timeout=timeout)


def start_docker(vm):
    """Containers of different rights, one that never ran, and an image with what layers can hide."""
    for name, args in DOCKER.items():
        vm.must(["docker", "run", "-d", "--name", name, *args, "kmend-lab", *SLEEP], timeout=180)
    vm.must(["docker", "create", "--name", "never", "kmend-lab", *SLEEP], timeout=120)
    shell(vm, "mkdir -p /srv/build /srv/rootfs")
    vm.put("/srv/build/Dockerfile", DOCKERFILE.encode())
    shell(vm, "docker build -t made:1 /srv/build", timeout=600)


def start_containerd(vm):
    """A container of a folder, one of an image."""
    sleep = " ".join(SLEEP)
    shell(vm, "docker save kmend-lab -o /srv/lab.tar; docker export plain -o /srv/flat.tar")
    shell(vm, "tar -C /srv/rootfs -xf /srv/flat.tar; ctr -n k8s.io images import /srv/lab.tar")
    shell(vm, f"ctr run -d --rootfs /srv/rootfs by-ctr {sleep}")
    shell(vm, f"ctr -n k8s.io run -d --cap-add CAP_SYS_ADMIN docker.io/library/kmend-lab:latest by-image {sleep}")


def start_podman(vm):
    """One container of root's, one of a user's without a session."""
    run = "podman --cgroup-manager=cgroupfs run -d --network none"
    sleep = " ".join(SLEEP)
    shell(vm, f"podman import /srv/flat.tar by-root; {run} --name rooted by-root {sleep}")
    shell(
        vm, "useradd -m -u 1000 anna; mkdir -p /run/user/1000; chown anna /run/user/1000; chmod 644 /srv/flat.tar"
    )
    script = (
        "set -e; cd; export XDG_RUNTIME_DIR=/run/user/1000; podman import /srv/flat.tar by-anna; "
        f"{run} --cgroups=disabled --name rootless by-anna {sleep}"
    )
    vm.must(["su", "anna", "-c", script], timeout=300)


@pytest.fixture(scope="module")
def pods(guest):
    """Ids of what runs in Kubernetes' way, by ``pod`` and ``pod/container``."""
    return make_pods(guest, PODS)


@pytest.fixture(scope="module")
def facts(guest, pods):
    """What the collector saw."""
    return facts_of_guest(guest)


def named(facts, name):
    """The container of this name."""
    (found,) = [one for one in facts.containers if one.name == name]
    return found


def inspected(guest, engine, kind="container"):
    """What the engine's own program says, by name or id."""
    ids = {"container": "ps -aq --no-trunc", "image": "images -q --no-trunc"}[kind]
    return json.loads(shell(guest, f"{engine} {kind} inspect $({engine} {ids})"))


def test_every_running_container_is_what_docker_says(guest, facts):
    """Rights, limits, network and state, one by one."""
    for said in inspected(guest, "docker"):
        one = named(facts, said["Name"].lstrip("/"))
        host = said["HostConfig"]
        assert (one.id, one.engine, one.state) == (said["Id"], EngineKind.DOCKER, said["State"]["Status"])
        assert one.pid == said["State"]["Pid"]
        assert one.privileged == host["Privileged"]
        assert one.network == host["NetworkMode"]
        assert one.memory_limit == host["Memory"]
        assert one.cpu_limit == host["NanoCpus"] / 1e9
        assert one.pids_limit == (host["PidsLimit"] or 0)
        assert one.image_id == said["Image"]
        assert {mount.source for mount in one.binds} == {mount["Source"] for mount in said["Mounts"]}


def test_every_running_container_is_what_its_process_is(guest, facts):
    """The kernel's own words of each first process."""
    running = [one for one in facts.containers if one.pid]
    assert len(running) >= len(DOCKER) + 3 + 2 + 2
    for one in running:
        text = guest.must(["cat", f"/proc/{one.pid}/status"])
        fields = dict(line.split(":", 1) for line in text.splitlines())
        assert one.uid == int(fields["Uid"].split()[0]), one.name
        assert one.capabilities == names(int(fields["CapBnd"], 16)), one.name
        assert one.syscalls
        assert one.syscalls.mode == {"0": "disabled", "2": "filter"}[fields["Seccomp"].strip()], one.name
        assert one.no_new_privileges == (fields["NoNewPrivs"].strip() == "1"), one.name
        label = guest.must(["cat", f"/proc/{one.pid}/attr/current"]).strip()
        assert one.apparmor == label, one.name
        for space in one.namespaces:
            link = guest.must(["readlink", f"/proc/{one.pid}/ns/{space.kind}"]).strip()
            assert link.endswith(f"[{space.inode}]"), one.name
        assert one.pid in {process.pid for process in one.processes}


def test_filters_are_those_of_the_bundles(facts):
    """Docker's default lets mount through for those with the capability only."""
    plain, everything, admin = named(facts, "plain"), named(facts, "all"), named(facts, "admin")
    assert plain.syscalls.default_allows is False
    assert "mount" not in plain.syscalls.allowed
    assert "openat" in plain.syscalls.allowed
    assert "personality" in plain.syscalls.conditional
    assert (everything.syscalls.mode, admin.syscalls.mode) == ("disabled", "disabled")
    assert admin.syscalls.profile == everything.syscalls.profile == "unconfined"


def test_rootless_podman_is_seen(guest, facts):
    """By its files: name, image, its user's uid, and a user namespace of its own."""
    one, other = named(facts, "rootless"), named(facts, "rooted")
    assert (one.engine, other.engine) == (EngineKind.PODMAN, EngineKind.PODMAN)
    assert (one.uid, other.uid) == (1000, 0)
    assert not next(space for space in one.namespaces if space.kind == "user").of_host
    assert one.uid_map[0].outside == 1000
    (said,) = [said for said in inspected(guest, "podman") if said["Name"] == "rooted"]
    assert (other.id, other.pid, other.image) == (said["Id"], said["State"]["Pid"], said["ImageName"])
    assert set(other.capabilities) == set(said["BoundingCaps"])
    assert other.privileged is said["HostConfig"]["Privileged"]


def test_containerd_is_seen(facts):
    """One from a folder, one from an image in another namespace."""
    one, other = named(facts, "by-ctr"), named(facts, "by-image")
    assert (one.engine, one.state, other.engine) == (EngineKind.CONTAINERD, "running", EngineKind.CONTAINERD)
    assert other.image == "docker.io/library/kmend-lab:latest"
    assert other.digest.startswith("sha256:")
    assert "CAP_SYS_ADMIN" in other.capabilities
    assert "CAP_SYS_ADMIN" not in one.capabilities


def test_pods_are_seen(guest, facts, pods):
    """As the runtime made them for a kubelet: names, pods, rights, network; the pods' own processes, too."""
    by_id = {one.id: one for one in facts.containers}
    found = {name: by_id[key] for name, key in pods.items()}
    app, side, agent = found["web/app"], found["web/side"], found["net/agent"]
    assert [(one.name, one.pod, one.state) for one in found.values()] == [
        ("POD", "shop/web", "running"),
        ("app", "shop/web", "running"),
        ("side", "shop/web", "running"),
        ("POD", "kube-system/net", "running"),
        ("agent", "kube-system/net", "running"),
    ]
    assert {one.engine for one in found.values()} == {EngineKind.CONTAINERD}
    assert {one.image for one in (app, side, agent)} == {LAB["image"]}
    assert all(one.digest.startswith("sha256:") for one in (app, side, agent))
    assert (app.uid, app.user, app.capabilities) == (1234, "1234:0", ())
    assert "CAP_NET_ADMIN" in side.capabilities
    assert app.syscalls.mode == "filter"
    assert "mount" not in app.syscalls.allowed
    assert (side.syscalls.mode, agent.syscalls.mode) == ("disabled", "disabled")
    assert [agent.network, app.network] == ["host", ""]
    assert ("/etc", "/host-etc") in {(mount.source, mount.target) for mount in app.binds}
    assert [one.privileged for one in found.values()] == [False, False, False, False, True]
    assert "/proc/kcore" in app.masked_paths
    assert agent.masked_paths == ()
    assert {app.image_id, agent.image_id} <= {one.id for one in facts.images}
    assert app.cgroup.startswith("/kubepods/besteffort/podweb")
    assert guest.must(["cat", f"/proc/{app.pid}/comm"]).strip() == "busybox"


def test_images_are_what_their_layers_hold(guest, facts):
    """Docker's, containerd's and Podman's; what a layer hides is not there."""
    (made,) = [one for one in facts.images if "made:1" in one.names]
    assert [(package.name, package.version) for package in made.packages] == [("a", "1-2")]
    assert (made.distribution, made.set_user_id, made.user) == ("made 7", ("/bin/su",), "1000")
    assert made.has_health_check
    ids = {said["Id"] for said in inspected(guest, "docker", "image")}
    assert ids <= {one.id for one in facts.images}
    stores = {(one.engine, bool(one.layers)) for one in facts.images}
    assert stores == {(EngineKind.DOCKER, True), (EngineKind.PODMAN, True), (EngineKind.CONTAINERD, True)}


def test_host_is_what_its_programs_say(guest, facts):
    """Kernel, sysctls, modules, packages, versions of programs."""
    assert facts.kernel.release == guest.must(["uname", "-r"]).strip()
    assert facts.kernel.build_id == guest.build_id()
    assert {one.name for one in facts.modules.loaded} == {
        line.split()[0] for line in guest.must(["lsmod"]).splitlines()[1:]
    }
    assert facts.sysctl("kernel.kptr_restrict") == guest.must(["sysctl", "-n", "kernel.kptr_restrict"]).strip()
    installed = guest.must(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\\n"]).splitlines()
    assert {f"installed {one.name} {one.version}" for one in facts.packages} == {
        line for line in installed if line.startswith("installed ")
    }
    programs = {one.name: one for one in facts.programs if not one.path.startswith("/usr/local/")}
    for name, package in (
        ("runc", "runc"),
        ("dockerd", "docker.io"),
        ("containerd", "containerd"),
        ("crun", "crun"),
    ):
        version = guest.must(["dpkg-query", "-W", "-f", "${Version}", package])
        assert (programs[name].package, programs[name].package_version) == (package, version)
    # No package owns the copy, so its bytes say what it is.
    (copy,) = [one for one in facts.programs if one.path == "/usr/local/bin/crun"]
    assert (copy.package, copy.package_version) == ("", "")
    assert copy.sha256 == guest.must(["sha256sum", "/usr/bin/crun"]).split()[0]
    assert programs["dockerd"].pids == (int(guest.must(["pidof", "dockerd"])),)
    assert programs["dockerd"].toolchain.startswith("go1.")
    (docker,) = [one for one in facts.engines if one.kind is EngineKind.DOCKER]
    assert docker.version == guest.must(["docker", "version", "-f", "{{.Server.Version}}"]).strip()


def test_nothing_was_started_in_a_container(guest, facts):
    """Docker noticed no exec, and every container has as many processes as before."""
    events = shell(guest, "docker events --since 30m --until $(date +%s) --format '{{.Action}}'")
    assert "exec" not in events
    assert all(len(one.processes) == 1 for one in facts.containers if one.name in DOCKER), shlex.join(DOCKER)
