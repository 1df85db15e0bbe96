"""What lies, hangs, floods or vanishes: a clear note each, no traceback, an end in time and memory."""

import contextlib
import json
import os
import resource
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmend.kit.errors import MachineError
from kmend.kit.printable import printable
from kmend.linux.facts.collect import collect
from kmend.linux.facts.look import Limits, looking
from kmend.linux.facts.processes import container_of
from kmend.linux.facts.said import Said, flat
from kmend.model import wire
from kmend.model.facts import Facts
from makers.container_host import ContainerHost, bundle, identity, inspected
from makers.fake_engine import INFO, FakeEngine, raw_engine

NOW = datetime(2026, 2, 3, tzinfo=UTC)
ONE, TWO = identity(1), identity(2)
IMPATIENT = Limits(answer_seconds=0.3)
SOCKET = "run/docker.sock"
NAME = "docker:/run/docker.sock"


@pytest.fixture
def host(tmp_path):
    """A host on which dockerd runs, and one container."""
    made = ContainerHost(tmp_path)
    made.process(50, name="dockerd", cgroup="/system.slice/docker.service")
    made.container(ONE, pid=100)
    return made


def why(found: Facts, what: str) -> str:
    """Why something was not seen."""
    return next((unseen.why for unseen in found.unseen if unseen.what == what), "")


def silent(connection):
    """Reads and says nothing."""
    connection.settimeout(5)
    while connection.recv(4096):
        pass


def drip(connection):
    """Says one byte now and then, for ever."""
    connection.settimeout(5)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"y")
        time.sleep(0.02)


def flood(connection):
    """Says that 100 MB will come, and sends them."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    for _ in range(100):
        connection.sendall(b"[" * 1_000_000)


def endless(connection):
    """Sends pieces without an end."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"[" * 0x10000 + b"\r\n")


def garbage(connection):
    """Is no HTTP server."""
    connection.recv(4096)
    connection.sendall(b"\x00\xff\x1b[2J" * 100)


def deep(connection):
    """Sends JSON that is nested without end."""
    connection.recv(4096)
    body = b"[" * 200_000
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def lists(connection):
    """Answers everything with millions of empty lists."""
    body = b"[" + b"[]," * 300_000 + b"[]]"
    while connection.recv(4096):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def refuses(connection):
    """Forbids everything."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (silent, "did not answer in 0.3 s"),
        (drip, "did not answer in 0.3 s"),
        (flood, "100000000 bytes"),
        (endless, "more than"),
        (garbage, "does not answer"),
        (deep, "no JSON"),
        (refuses, "status 403"),
        (lists, "no container engine's"),
    ],
)
def test_engine_that_misbehaves_is_noted_and_the_rest_is_seen(host, answer, reason):
    """The container comes from its bundle and /proc."""
    with raw_engine(host.root / SOCKET, answer):
        found = collect(host.root, now=NOW, limits=IMPATIENT)
    assert reason in why(found, NAME)
    assert [one.id for one in found.containers] == [ONE]
    assert found.containers[0].capabilities
    assert not found.engines[0].answers


def test_engine_that_falls_silent_is_not_asked_again(host):
    """A thousand containers that do not answer cost one wait, and it is said how many were not seen."""
    engine = FakeEngine()
    for number in range(1, 1001):
        engine.container(identity(number), inspected(f"c{number}"))
    asked = []

    def answer(connection):
        while question := connection.recv(4096):
            path = question.split()[1].decode()
            asked.append(path)
            if path.endswith("/json") and "/containers/" in path and len(asked) > 6:
                time.sleep(1)
                return
            body = json.dumps(engine.answers[path]).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with raw_engine(host.root / SOCKET, answer):
        found = collect(host.root, now=NOW, limits=IMPATIENT)
    assert "of 1000 were not seen" in why(found, f"{NAME}:containers")
    assert len(asked) < 12


def test_answers_of_millions_of_entries_are_cut(host):
    """Each answer is as large as it may be; what is kept, and the memory for it, have an end."""
    engine = FakeEngine()
    engine.container(ONE, inspected("web", State={"Pid": 100}))
    many = [[] for _ in range(500_000)]
    engine.answers["/info"] = {"Plugins": many, "Labels": ["x"] * 300_000}
    engine.answers["/networks"] = many
    engine.answers["/images/json"] = many
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with engine.serving(host.root / SOCKET):
        found = collect(host.root, now=NOW)
    assert [one.name for one in found.containers] == ["web"]
    assert len(found.engines[0].says) < 7000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10


def test_slow_engine_leaves_time_for_the_rest(host):
    """Each answer comes in time, all of them would take a minute."""
    engine = FakeEngine()
    for number in range(1, 1001):
        engine.container(identity(number), inspected(f"c{number}"))

    def answer(connection):
        while question := connection.recv(4096):
            time.sleep(0.05)
            body = json.dumps(engine.answers.get(question.split()[1].decode(), [])).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with raw_engine(host.root / SOCKET, answer):
        found = collect(host.root, now=NOW, limits=Limits(engine_seconds=1))
    assert "of 1000 were not seen" in why(found, f"{NAME}:containers")
    assert 1 < len(found.containers) < 100
    assert next(one for one in found.containers if one.id == ONE).capabilities


def test_answers_with_wrong_types_are_noted(host):
    """Every place in the answer says something else than it should."""
    engine = FakeEngine()
    engine.answers["/containers/json?all=1"] = [{"Id": ONE}, {"Id": 5}, {"Id": "../../secrets"}, "x", None]
    engine.answers[f"/containers/{ONE}/json"] = {
        "Name": ["web"],
        "State": "running",
        "Config": {"Image": 7, "Labels": ["a"], "Healthcheck": {"Test": "true"}},
        "HostConfig": {"Memory": "1g", "Privileged": "no", "PidsLimit": 1e300, "SecurityOpt": [1, None]},
        "NetworkSettings": {"Ports": {"80/tcp": [{"HostPort": 80}]}},
        "Created": "yesterday",
    }
    with engine.serving(host.root / SOCKET):
        found = collect(host.root, now=NOW)
    (one,) = found.containers
    assert (one.name, one.image, one.privileged, one.created) == ("", "", None, None)
    what = {unseen.what for unseen in found.unseen}
    for place in ("Name", "State.Status", "Config.Image", "HostConfig.Memory", "HostConfig.Privileged", "Created"):
        assert any(one.startswith(f"container:{ONE}:inspect") and place.rpartition(".")[2] in one for one in what)
    assert "an id that it lists is none" in why(found, f"{NAME}:containers")
    assert not any("secrets" in asked for asked in engine.asked)


def test_bundle_with_a_million_mounts_is_refused(host):
    """It is larger than any runtime writes; the container is seen all the same."""
    mount = '{"destination":"/a","source":"/b"}'
    path = f"run/containerd/io.containerd.runtime.v2.task/moby/{ONE}/config.json"
    host.write(path, '{"mounts":[' + ",".join([mount] * 1_000_000) + "]}")
    found = collect(host.root, now=NOW)
    assert "more than 2097152 bytes" in why(found, f"/{path}")
    assert [one.id for one in found.containers] == [ONE]
    assert found.containers[0].syscalls
    assert found.containers[0].syscalls.default_allows is None


@pytest.mark.parametrize(
    "content",
    ["[]", "7", "{", '{"process":7,"linux":[],"mounts":{}}', "[" * 100_000, '{"linux":{"seccomp":3}}', "\xff"],
)
def test_bundle_that_is_no_bundle_is_noted(host, content):
    """The reader goes on with what /proc shows."""
    path = f"run/containerd/io.containerd.runtime.v2.task/moby/{ONE}/config.json"
    host.write(path, content)
    found = collect(host.root, now=NOW)
    assert any(ONE in unseen.what for unseen in found.unseen)
    assert [one.pid for one in found.containers] == [100]


def test_processes_that_vanish_are_left_out(host):
    """Files of /proc that go while they are read, each at another moment."""
    for pid, gone in ((200, "status"), (201, "cgroup"), (202, "mountinfo"), (203, "ns"), (204, "uid_map")):
        host.process(pid, name="sh", cgroup=f"/docker/{identity(pid)}", inside=1)
        path = host.root / f"proc/{pid}/{gone}"
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (host.root / "proc/205").mkdir()
    found = collect(host.root, now=NOW)
    assert {one.id for one in found.containers} == {ONE, identity(202), identity(203), identity(204)}
    assert why(found, f"container:{identity(202)}:mounts")
    assert why(found, f"container:{identity(203)}:namespaces")


@pytest.mark.parametrize("damage", ["fifo", "link", "loop", "folder", "large"])
@pytest.mark.parametrize(
    "path", ["etc/passwd", "etc/os-release", "var/lib/dpkg/status", "proc/modules", "etc/docker/daemon.json"]
)
def test_file_of_another_kind_is_noted(host, path, damage, tmp_path_factory):
    """Nothing hangs on it, nothing outside of the root is read, no memory is filled."""
    secret = tmp_path_factory.mktemp("outside") / "secret"
    secret.write_text("geheim:x:0:0:geheim:/:/")
    file = host.write(path, "")
    file.unlink()
    if damage == "fifo":
        os.mkfifo(file)
    elif damage == "link":
        file.symlink_to(secret)
    elif damage == "loop":
        file.symlink_to(file.name)
    elif damage == "folder":
        file.mkdir()
    else:
        with file.open("wb") as large:
            large.truncate(1 << 40)
    found = collect(host.root, now=NOW)
    assert "geheim" not in repr(found)
    if damage != "link":  # which leads nowhere inside the root
        assert any(unseen.what == f"/{path}" for unseen in found.unseen)


def test_root_that_is_no_folder_is_an_error(tmp_path):
    """There is nothing to look at."""
    with pytest.raises(MachineError):
        collect(tmp_path / "nowhere", now=NOW)


def test_look_that_is_out_of_time_says_so(host):
    """What was not reached is unseen, and does not count as absent."""
    found = collect(host.root, now=NOW, limits=replace(Limits(), seconds=0))
    assert "the time was over" in why(found, "processes")
    assert "the time was over" in why(found, "containers") + why(found, "bundles")


def test_link_up_and_out_stays_inside(host, tmp_path_factory):
    """.. and absolute links end at the root that is looked at."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "name").write_text("outside")
    host.link("etc/up", "../" * 40 + str(outside).lstrip("/") + "/name")
    host.write("etc/inside", "inside")
    host.link("etc/absolute", "/etc/inside")
    with looking(host.root) as look:
        assert look.read("etc/up") is None
        assert look.text("etc/absolute") == "inside"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_PLACES = ["Name", "State", "Config", "HostConfig", "Mounts", "NetworkSettings", "Created", "Image", "GraphDriver"]
_INNER = [
    "Labels",
    "Memory",
    "SecurityOpt",
    "Ports",
    "Pid",
    "Status",
    "Devices",
    "Ulimits",
    "RestartPolicy",
    "Data",
]


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(
    answer=st.dictionaries(
        st.sampled_from(_PLACES), _json | st.dictionaries(st.sampled_from(_INNER), _json, max_size=5), max_size=9
    ),
    listed=_json,
    config=st.dictionaries(st.sampled_from(list(bundle())), _json, max_size=5) | _json,
)
def test_whatever_is_said_facts_come_out(tmp_path_factory, answer, listed, config):
    """Any JSON as answers and bundle: facts that can be saved and read again."""
    root = tmp_path_factory.mktemp("h")
    made = ContainerHost(root)
    made.process(50, name="dockerd", cgroup="/system.slice/docker.service")
    made.container(ONE, pid=100, made=config)
    engine = FakeEngine()
    key = "sha256:" + TWO
    engine.container(ONE, answer)
    engine.image(key, answer)
    engine.answers[f"/images/{key}/history"] = listed
    engine.answers["/info"] = listed if listed is not None else INFO
    with engine.serving(root / SOCKET):
        found = collect(root, now=NOW)
    shutil.rmtree(root)
    assert [one.id for one in found.containers] == [ONE]
    text = wire.dump(found)
    assert wire.load(Facts, text, what="facts") == found


@settings(max_examples=100)
@given(value=_json)
def test_flat_settings_have_names_and_texts(value):
    """Whatever is flattened, names and values are texts."""
    assert all(isinstance(one.name, str) and isinstance(one.value, str) for one in flat(value))


def test_flat_settings_have_an_end():
    """No more than 3,000 are kept."""
    assert len(flat([{"a": number} for number in range(5000)])) == 3000


@given(text=st.text(max_size=300))
def test_printable_text_moves_no_cursor(text):
    """It is one line of printable letters, however it came."""
    assert printable(text).isprintable()


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (f"/system.slice/docker-{ONE}.scope", ONE),
        (f"/docker/{ONE}", ONE),
        (f"/docker/{ONE}/docker/{TWO}", TWO),
        (f"/system.slice/docker-{ONE}.scope/init.scope", ONE),
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/cri-containerd-{ONE}.scope", ONE),
        (f"/kubepods/besteffort/pod1/{ONE}", ONE),
        (f"/kubepods.slice/crio-{ONE}.scope", ONE),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ONE}.scope/container", ONE),
        (f"/machine.slice/libpod-conmon-{ONE}.scope", ""),
        ("/lxc.payload.web/system.slice", "web"),
        ("/machine.slice/systemd-nspawn@web.service/payload/init.scope", "web"),
        ("/machine.slice/systemd-nspawn@web.service/supervisor", ""),
        ("/user.slice/user-0.slice/session-1.scope", ""),
        ("", ""),
    ],
)
def test_cgroup_names_its_container(cgroup, container):
    """As engines name cgroups; the innermost one counts, monitors do not."""
    assert container_of(cgroup)[0] == container


def test_said_reads_absent_things_as_empty(tmp_path):
    """Null and nothing are no mistake, and so are not noted."""
    with looking(tmp_path) as look:
        said = Said({"a": None, "b": {"c": 3}}, look, "it")
        assert (said.text("a"), said.number("b", "c"), said.items("x", "y"), said.flag("a")) == ("", 3, [], None)
        assert look.notes.all() == ()
        with contextlib.suppress(OSError):
            look.take("nothing")
