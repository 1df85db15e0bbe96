"""Containers: engine, bundle and /proc joined to one."""

import os
import sys
from datetime import UTC, datetime

import pytest

from kmend.linux.facts.collect import collect
from kmend.model.facts import EngineKind, Mount, Namespace, Port, Setting
from makers.container_host import ContainerHost, bundle, identity, inspected
from makers.fake_engine import FakeEngine

NOW = datetime(2026, 2, 3, tzinfo=UTC)
ONE, TWO = identity(1), identity(2)


@pytest.fixture
def host(tmp_path):
    """A host on which dockerd runs."""
    made = ContainerHost(tmp_path)
    made.process(
        50, name="dockerd", cgroup="/system.slice/docker.service", arguments=("/usr/sbin/dockerd", "-H", "fd://")
    )
    return made


def look(host, engine=None):
    """The facts of the host, with Docker's service up where one is given."""
    if engine is None:
        return collect(host.root, now=NOW)
    with engine.serving(host.root / "run/docker.sock"):
        return collect(host.root, now=NOW)


def only(found):
    """The only container."""
    assert [unseen for unseen in found.unseen if "container" in unseen.what] == []
    (one,) = found.containers
    return one


def test_engine_bundle_and_kernel_say_one_thing(host):
    """Name and image are the engine's words, the filter is the bundle's, what it may do is the kernel's."""
    engine = FakeEngine()
    host.container(ONE, pid=100)
    engine.container(ONE, inspected("web", State={"Pid": 100}))
    one = only(look(host, engine))
    assert (one.id, one.name, one.engine, one.state, one.pid) == (ONE, "web", EngineKind.DOCKER, "running", 100)
    assert (one.image, one.restart, one.runtime, one.network) == ("debian:12", "on-failure:5", "runc", "default")
    assert one.created == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert one.capabilities
    assert len(one.capabilities) == 14
    assert "CAP_NET_RAW" in one.capabilities
    assert "CAP_SYS_ADMIN" not in one.capabilities
    assert one.syscalls
    assert (one.syscalls.mode, one.syscalls.profile, one.syscalls.default_allows) == ("filter", "builtin", False)
    assert one.syscalls.allowed == ("read", "write")
    assert one.syscalls.conditional == ("personality",)
    assert one.syscalls.refused == ("clone3",)
    assert one.apparmor == "docker-default (enforce)"
    assert Namespace(kind="net", inode=4026531836 + 1000, of_host=False) in one.namespaces
    assert Namespace(kind="user", inode=4026531835, of_host=True) in one.namespaces
    assert one.mounts[1] == Mount(
        target="/data", source="/dev/vda1", kind="ext4", options=("ro", "relatime", "rw"), root="/srv/my data"
    )
    assert one.binds[0].source == "/srv/data"
    assert one.ports == (Port(address="", host=8080, container=80, protocol="tcp"),)
    assert one.limits == (Setting(name="nofile", value="10:20"),)
    assert one.masked_paths == ("/proc/kcore",)
    assert [(device.path, device.major, device.minor) for device in one.devices] == [
        ("/dev/fuse", 10, 229),
        ("", 1, 3),
        ("", 136, -1),
    ]
    assert [process.pid for process in one.processes] == [100]


def test_what_the_engine_binds_itself_was_not_asked_for(host):
    """A bundle has /etc/hosts and the like; the engine's own list counts where it tells one."""
    engine = FakeEngine()
    host.container(ONE, pid=100)
    engine.container(ONE, inspected("web", State={"Pid": 100}, Mounts=[]))
    assert only(look(host, engine)).binds == ()


def test_nothing_of_the_environment_or_the_arguments_is_kept(host):
    """Secrets stand there."""
    engine = FakeEngine()
    host.container(ONE, pid=100)
    engine.container(ONE, inspected("web", State={"Pid": 100}))
    found = repr(look(host, engine))
    assert "geheim" not in found
    assert "secret" not in found


def test_engine_is_asked_for_reading_only(host):
    """The questions are a closed list of GETs."""
    engine = FakeEngine()
    engine.container(ONE, inspected("web"))
    engine.image("sha256:" + "a" * 64, {"RepoTags": ["debian:12"], "RepoDigests": ["debian@sha256:" + "b" * 64]})
    found = look(host, engine)
    assert set(engine.asked) == {
        "GET /version",
        "GET /info",
        "GET /containers/json?all=1",
        f"GET /containers/{ONE}/json",
        "GET /images/json",
        "GET /networks",
        f"GET /images/sha256:{'a' * 64}/json",
        f"GET /images/sha256:{'a' * 64}/history",
    }
    assert found.containers[0].digest == "sha256:" + "b" * 64
    (docker,) = found.engines
    assert docker.answers
    assert docker.version == "20.10.24+dfsg1"
    assert Setting(name="HttpProxy", value="http://…@proxy.example:3128") in docker.says
    assert Setting(name="Networks.0.Options.icc", value="true") in docker.says
    assert Setting(name="H", value="fd://", source="/proc/50/cmdline") in docker.settings


def test_swarm_is_counted_by_its_managers(host):
    """Services and secrets are numbers; their contents are not asked for."""
    engine = FakeEngine()
    engine.answers["/info"] = {"Swarm": {"LocalNodeState": "active", "ControlAvailable": True, "Managers": 1}}
    engine.answers |= {"/services": [{"ID": "a"}, {"ID": "b"}], "/secrets": [{"ID": "c"}]}
    (docker,) = look(host, engine).engines
    says = {one.name: one.value for one in docker.says}
    assert (says["Swarm.Managers"], says["Swarm.Services"], says["Secrets"]) == ("1", "2", "1")


def test_engine_that_does_not_run_is_not_asked(tmp_path):
    """Connecting to the socket of an engine would start it."""
    host = ContainerHost(tmp_path)
    engine = FakeEngine()
    found = look(host, engine)
    assert engine.asked == []
    assert [(one.kind, one.answers) for one in found.engines] == [(EngineKind.DOCKER, False)]


def test_privileged_container_has_no_filter(host):
    """Its mode is the kernel's word; its profile says why."""
    engine = FakeEngine()
    host.container(ONE, pid=100, made=bundle(linux={"seccomp": None, "maskedPaths": None}))
    host.process(100, name="sh", cgroup=f"/docker/{ONE}", seccomp=0, inside=1)
    engine.container(ONE, inspected("web", State={"Pid": 100}, HostConfig={"Privileged": True, "MaskedPaths": []}))
    one = only(look(host, engine))
    assert one.privileged
    assert one.syscalls
    assert (one.syscalls.mode, one.syscalls.profile, one.syscalls.allowed) == ("disabled", "unconfined", ())
    assert one.masked_paths == ()
    assert one.capabilities
    assert len(one.capabilities) == 41


def test_bundle_alone_is_enough(host):
    """A container that no engine tells of: containerd's, with what its bundle says."""
    host.container("web-1", pid=100, engine="default", made=bundle(annotations={"nerdctl/name": "web"}))
    one = only(look(host))
    assert (one.id, one.name, one.engine, one.state, one.pid) == (
        "web-1",
        "web",
        EngineKind.CONTAINERD,
        "running",
        100,
    )
    assert (one.memory_limit, one.cpu_shares, one.cpu_limit, one.pids_limit) == (67108864, 512, 0.5, 100)
    assert one.binds[0].source == "/srv/data"


def test_pod_is_known_by_the_annotations(host):
    """Containerd's CRI writes pod, container and image into the bundle."""
    says = {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": "app",
        "io.kubernetes.cri.sandbox-name": "app-7f9",
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.image-name": "registry.example/app:1",
    }
    host.container(ONE, pid=100, engine="k8s.io", made=bundle(annotations=says))
    one = only(look(host))
    assert (one.name, one.pod, one.image) == ("app", "shop/app-7f9", "registry.example/app:1")


def test_cgroup_alone_gives_a_container_away(host):
    """Neither an engine nor a bundle knows it, but its processes run."""
    host.process(
        300, name="sh", cgroup=f"/machine.slice/libpod-{TWO}.scope/container", inside=1, own=("pid",), seccomp=2
    )
    host.process(301, name="worker", cgroup=f"/machine.slice/libpod-{TWO}.scope/container", parent=300, uid=33)
    host.process(299, name="conmon", cgroup=f"/machine.slice/libpod-conmon-{TWO}.scope")
    one = only(look(host))
    assert (one.id, one.engine, one.pid, one.network) == (TWO, EngineKind.PODMAN, 300, "host")
    assert [(process.pid, process.uid) for process in one.processes] == [(300, 0), (301, 33)]
    assert one.syscalls
    assert (one.syscalls.mode, one.syscalls.default_allows) == ("filter", None)
    assert [service.name for service in look(host).services] == ["dockerd", "conmon"]


def test_stopped_container_has_the_engines_words_only(host):
    """No process, no bundle: rights are those that it would get, as far as anybody says."""
    engine = FakeEngine()
    engine.container(ONE, inspected("old", State={"Status": "exited"}))
    one = only(look(host, engine))
    assert (one.state, one.pid, one.capabilities, one.namespaces) == ("exited", 0, None, ())


def test_image_of_a_host_has_no_processes(tmp_path):
    """Its containers are those of the files, and nothing is asked."""
    host = ContainerHost(tmp_path)
    host.container(ONE, pid=100)
    for name in ("1", "100"):
        (host.root / "proc" / name).rename(host.root / f"gone{name}")
    one = only(look(host))
    assert (one.id, one.state, one.pid) == (ONE, "", 0)
    assert one.capabilities == ("CAP_CHOWN", "CAP_NET_RAW")


def test_no_program_is_started(host):
    """Neither in a container nor for one: the interpreter reports each start of a program to an audit hook."""
    started = []
    watching = [True]

    def hook(event, _):
        if watching and event in {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.system"}:
            started.append(event)

    sys.addaudithook(hook)  # it cannot be taken out again, so it only listens for a while
    engine = FakeEngine()
    for number in range(20):
        host.container(identity(number), pid=100 + number)
        engine.container(identity(number), inspected(f"c{number}", State={"Pid": 100 + number}))
    found = look(host, engine)
    assert len(found.containers) == 20
    assert started == []
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    watching.clear()
    assert started == ["os.posix_spawn"]
