"""Images: what engines' stores and the layers say, laid over each other."""

import base64
import contextlib
import hashlib
import json
import os
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmend.linux.facts.bolt import BoltError, read
from kmend.linux.facts.collect import collect
from kmend.linux.facts.docker import repository, without_values
from kmend.linux.facts.look import Limits, looking
from kmend.model.facts import EngineKind, Package
from makers.bolt import Maker
from makers.container_host import ContainerHost, bundle, identity, status
from makers.fake_engine import FakeEngine

NOW = datetime(2026, 2, 3, tzinfo=UTC)
IMAGE = "sha256:" + identity(7)
LAYERS = "var/lib/docker/overlay2"


@pytest.fixture
def host(tmp_path):
    """A host on which dockerd runs."""
    made = ContainerHost(tmp_path)
    made.process(50, name="dockerd", cgroup="/system.slice/docker.service")
    return made


def set_user_id(host, path):
    """A file that runs as its owner."""
    host.write(path, "program").chmod(0o4755)


def seen(host, *, config=None, layers=2, limits=None, cache=None):
    """The image of Docker's that has these layers, from the top down: l1 is the upper one of two."""
    engine = FakeEngine()
    lower = ":".join(f"/{LAYERS}/l{number}/diff" for number in reversed(range(layers - 1)))
    data = {"LowerDir": lower, "UpperDir": f"/{LAYERS}/l{layers - 1}/diff"}
    for number in range(layers):
        (host.root / f"{LAYERS}/l{number}/diff").mkdir(parents=True, exist_ok=True)
    engine.image(
        IMAGE,
        {
            "RepoTags": ["web:1"],
            "Config": config or {},
            "GraphDriver": {"Name": "overlay2", "Data": data if layers > 1 else {"UpperDir": data["UpperDir"]}},
        },
        ("ARG TOKEN=geheim; RUN make", 'ENV PASS="ge heim" A=1'),
    )
    with engine.serving(host.root / "run/docker.sock"):
        found = collect(host.root, now=NOW, limits=limits, cache=cache)
    (image,) = found.images
    return image, found


def test_upper_layer_wins(host):
    """Packages and distribution are those of the uppermost file."""
    host.write(f"{LAYERS}/l0/diff/etc/os-release", "ID=debian\nVERSION_ID=11\n")
    host.write(f"{LAYERS}/l1/diff/etc/os-release", "ID=debian\nVERSION_ID=12\n")
    host.write(f"{LAYERS}/l0/diff/var/lib/dpkg/status", status(("old", "1")))
    host.write(f"{LAYERS}/l1/diff/var/lib/dpkg/status", status(("new", "2")))
    image, _ = seen(host)
    assert image.layers == (f"/{LAYERS}/l0/diff", f"/{LAYERS}/l1/diff")
    assert image.distribution == "debian 12"
    assert image.packages == (Package(name="new", version="2", source="new", source_version="2", origin="deb"),)
    assert image.history == ("ARG TOKEN=…; RUN make", "ENV PASS=… A=…")


@pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")
def test_whiteout_hides_what_lies_below(host):
    """A removed file, a removed folder and a folder that was made anew."""
    for path in ("usr/bin/kept", "usr/bin/gone", "opt/gone/a", "srv/anew/a", "usr/bin/tamed"):
        set_user_id(host, f"{LAYERS}/l0/diff/{path}")
    upper = host.root / f"{LAYERS}/l1/diff"
    for path in ("usr/bin", "opt", "srv/anew"):
        (upper / path).mkdir(parents=True)
    os.mknod(upper / "usr/bin/gone", 0o20000, 0)
    os.mknod(upper / "opt/gone", 0o20000, 0)
    os.setxattr(upper / "srv/anew", "trusted.overlay.opaque", b"y")
    (upper / "usr/bin/tamed").write_text("now without the bit")
    set_user_id(host, f"{LAYERS}/l1/diff/srv/anew/b")
    image, _ = seen(host)
    assert image.set_user_id == ("/srv/anew/b", "/usr/bin/kept")


def test_links_in_layers_are_not_followed(host, tmp_path_factory):
    """A layer's file that leads out is not read."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "status").write_text(status(("secret", "1")))
    layer = host.root / f"{LAYERS}/l1/diff"
    (layer / "var/lib").mkdir(parents=True)
    (layer / "var/lib/dpkg").symlink_to(outside)
    (layer / "etc").symlink_to(outside)
    image, found = seen(host)
    assert image.packages is None
    assert "secret" not in repr(found)


def test_alpine_and_files_of_single_packages(host):
    """Apk's database; distroless' folder of files."""
    host.write(
        f"{LAYERS}/l0/diff/lib/apk/db/installed", "C:Q1\nP:musl\nV:1.2.5-r0\no:musl\n\nP:busybox\nV:1.36-r1\n"
    )
    image, _ = seen(host)
    assert image.packages
    assert [(one.name, one.version, one.origin) for one in image.packages] == [
        ("musl", "1.2.5-r0", "apk"),
        ("busybox", "1.36-r1", "apk"),
    ]
    (host.root / f"{LAYERS}/l0/diff/lib/apk/db/installed").unlink()
    host.write(
        f"{LAYERS}/l0/diff/var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12\nSource: base (11)\n"
    )
    host.write(f"{LAYERS}/l1/diff/var/lib/dpkg/status.d/tz", "Package: tzdata\nVersion: 2024a\n")
    image, _ = seen(host)
    assert image.packages
    assert [(one.name, one.source, one.source_version) for one in image.packages] == [
        ("base-files", "base", "11"),
        ("tzdata", "tzdata", "2024a"),
    ]


def test_what_cannot_be_told_is_said(host):
    """No database, a damaged one, layers that are not there, no time to walk."""
    image, found = seen(host)
    assert image.packages is None
    assert any("no package database" in one.why for one in found.unseen)
    host.write(f"{LAYERS}/l0/diff/var/lib/rpm/Packages.db", "RpmP")
    _, found = seen(host)
    assert any("Packages.db cannot be read: the database is cut off" in one.why for one in found.unseen)
    host.write(f"{LAYERS}/l0/diff/var/lib/rpm/rpmdb.sqlite", "x")
    _, found = seen(host)
    assert any("the database is damaged" in one.why for one in found.unseen)
    image, found = seen(host, limits=Limits(walk_seconds=0))
    assert image.set_user_id is None
    assert any(one.what == f"image:{IMAGE}:set-user-id" for one in found.unseen)


def test_walk_has_an_end(host):
    """A layer with more files than the limit is not walked to its end."""
    for number in range(50):
        host.write(f"{LAYERS}/l0/diff/many/{number}", "")
    image, _ = seen(host, limits=Limits(layer_files=20))
    assert image.set_user_id is None


def test_walks_are_kept_for_the_next_look(host, tmp_path_factory):
    """A second look needs no time for them; one that cannot be read, or written, is no error."""
    cache = tmp_path_factory.mktemp("cache") / "facts" / "layers.json"
    set_user_id(host, f"{LAYERS}/l0/diff/bin/su")
    assert seen(host, cache=cache)[0].set_user_id == ("/bin/su",)
    assert cache.stat().st_mode & 0o777 == 0o600
    assert seen(host, cache=cache, limits=Limits(walk_seconds=0))[0].set_user_id == ("/bin/su",)
    cache.write_text('{"format": 1, "layers": {"a": [7]}}')
    assert seen(host, cache=cache)[0].set_user_id == ("/bin/su",)
    cache.unlink()
    cache.mkdir()
    image, found = seen(host, cache=cache)
    assert image.set_user_id == ("/bin/su",)
    assert any(one.what == "cache" for one in found.unseen)


def test_user_and_health_check_are_the_configurations(host):
    """NONE is a health check that was switched off."""
    assert seen(host, config={"User": "app", "Healthcheck": {"Test": ["CMD", "x"]}})[0].has_health_check
    image, _ = seen(host, config={"User": "app", "Healthcheck": {"Test": ["NONE"]}})
    assert (image.user, image.has_health_check) == ("app", False)


def test_values_in_the_history_are_left_out():
    """Build arguments may be secrets."""
    assert (
        without_values("RUN |1 TOKEN=geheim /bin/sh -c make A='b c' x") == "RUN |1 TOKEN=… /bin/sh -c make A=… x"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("registry.example:5000/a/b:1", "registry.example:5000/a/b"),
        ("debian", "debian"),
        ("debian:12@sha256:ab", "debian"),
        ("registry.example:5000/a", "registry.example:5000/a"),
    ],
)
def test_repository_is_the_name_alone(name, expected):
    """A port is no tag."""
    assert repository(name) == expected


def podman(host, storage):
    """A storage with one image of two layers and a container of it."""
    key, below, above = identity(1), identity(2), identity(3)
    image = {
        "id": key,
        "digest": "sha256:" + identity(4),
        "names": ["registry.example/app:1"],
        "layer": above,
        "created": "2026-01-02T03:04:05Z",
    }
    host.write(f"{storage}/overlay-images/images.json", json.dumps([image]))
    name = "=" + base64.b64encode(f"sha256:{key}".encode()).decode()
    config = {"config": {"User": "web"}, "history": [{"created_by": "COPY a b"}]}
    host.write(f"{storage}/overlay-images/{key}/{name}", json.dumps(config))
    layers = [{"id": below}, {"id": above, "parent": below}]
    host.write(f"{storage}/overlay-layers/layers.json", json.dumps(layers))
    host.write(f"{storage}/overlay/{below}/diff/etc/os-release", "ID=alpine\nVERSION_ID=3.20\n")
    (host.root / f"{storage}/overlay/{above}/diff").mkdir(parents=True)
    metadata = json.dumps({"image-name": "registry.example/app:1", "image-id": key, "name": "web"})
    container = {"id": identity(9), "names": ["web"], "image": key, "metadata": metadata}
    builder = {"id": identity(8), "names": ["builder"], "image": key, "metadata": ""}
    host.write(f"{storage}/overlay-containers/containers.json", json.dumps([container, builder]))
    host.write(f"{storage}/overlay-containers/{identity(9)}/userdata/config.json", json.dumps(bundle()))


def test_podman_is_known_by_its_files(tmp_path):
    """Of root and of a user, without a service; a process found by its pid file is the container's."""
    host = ContainerHost(tmp_path)
    storage = "home/anna/.local/share/containers/storage"
    podman(host, storage)
    host.process(400, name="sleep", cgroup="/user.slice", own=("user", "pid", "mnt"), uid=1000, seccomp=2)
    host.process(401, name="other", cgroup="/user.slice")
    host.write(f"run/user/1000/containers/overlay-containers/{identity(9)}/userdata/pidfile", "400")
    found = collect(host.root, now=NOW)
    (one,) = found.containers
    assert (one.name, one.engine, one.image, one.pid, one.uid) == (
        "web",
        EngineKind.PODMAN,
        "registry.example/app:1",
        400,
        1000,
    )
    assert [process.pid for process in one.processes] == [400]
    assert one.syscalls
    assert one.syscalls.allowed == ("read", "write")
    (image,) = found.images
    assert (image.id, image.user, image.distribution) == ("sha256:" + identity(1), "web", "alpine 3.20")
    assert image.digests == ("registry.example/app@sha256:" + identity(4),)
    assert image.history == ("COPY a b",)


@pytest.mark.parametrize(("said", "expected"), [(None, False), ("FALSE", False), ("TRUE", True)])
def test_podman_notes_who_is_privileged(tmp_path, said, expected):
    """In the bundle, as the newer versions do only where it is so; without a service nobody else tells."""
    host = ContainerHost(tmp_path)
    storage = "var/lib/containers/storage"
    podman(host, storage)
    notes = {"io.podman.annotations.privileged": said} if said else {}
    path = f"{storage}/overlay-containers/{identity(9)}/userdata/config.json"
    host.write(path, json.dumps(bundle(annotations=notes)))
    (one,) = collect(host.root, now=NOW).containers
    assert one.privileged is expected


def test_podman_with_vfs_is_known_too(tmp_path):
    """What a user gets where overlay does not work: each layer is a whole tree."""
    host = ContainerHost(tmp_path)
    storage = "home/anna/.local/share/containers/storage"
    podman(host, storage)
    for kind in ("containers", "images", "layers"):
        (host.root / f"{storage}/overlay-{kind}").rename(host.root / f"{storage}/vfs-{kind}")
    host.write(f"{storage}/vfs/dir/{identity(3)}/etc/os-release", "ID=alpine\nVERSION_ID=3.21\n")
    host.process(400, name="sleep", cgroup="/user.slice", own=("user", "pid", "mnt"), uid=1000, seccomp=2)
    host.write(f"run/user/1000/containers/vfs-containers/{identity(9)}/userdata/pidfile", "400")
    found = collect(host.root, now=NOW)
    assert [(one.name, one.pid) for one in found.containers] == [("web", 400)]
    assert [one.distribution for one in found.images] == ["alpine 3.21"]


def blob(host, content):
    """A blob in containerd's content store: its digest."""
    data = json.dumps(content).encode()
    digest = hashlib.sha256(data).hexdigest()
    host.write(f"var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/{digest}", data)
    return f"sha256:{digest}"


@pytest.mark.parametrize("inline", [True, False])
def test_containerd_is_known_by_its_files(tmp_path, inline):
    """An image behind an index, its unpacked layers, and the record of a container."""
    host = ContainerHost(tmp_path)
    layers = ["sha256:" + identity(11), "sha256:" + identity(12)]
    chain = "sha256:" + hashlib.sha256(" ".join(layers).encode()).hexdigest()
    config = blob(
        host, {"config": {"User": "app"}, "rootfs": {"diff_ids": layers}, "created": "2026-01-02T03:04:05Z"}
    )
    manifest = blob(host, {"config": {"digest": config}, "layers": [{"size": 5}, {"size": 6}]})
    index = blob(host, {"manifests": [{"digest": "sha256:" + identity(99)}, {"digest": manifest}]})
    images = {name: {b"target": {b"digest": index.encode()}} for name in (b"registry.example/a:1", index.encode())}
    snapshots = {layers[0].encode(): {b"name": b"k8s.io/1/a"}, chain.encode(): {b"name": b"k8s.io/2/b"}}
    record = {
        b"image": b"registry.example/a:1",
        b"runtime": {b"name": b"io.containerd.runc.v2"},
        b"labels": {b"a": b"b"},
    }
    more = {b"name-%d" % number: b"x" * 3000 for number in range(20)}
    space = {
        b"images": images,
        b"snapshots": {b"overlayfs": snapshots},
        b"containers": {b"web": record},
        b"more": more,
    }
    store = "var/lib/containerd"
    made = Maker(inline=inline).database({b"v1": {b"k8s.io": space}})
    host.write(f"{store}/io.containerd.metadata.v1.bolt/meta.db", made)
    numbers = {b"k8s.io/1/a": {b"id": b"\x05"}, b"k8s.io/2/b": {b"id": b"\xac\x02"}}
    made = Maker(inline=inline).database({b"v1": {b"snapshots": numbers}})
    host.write(f"{store}/io.containerd.snapshotter.v1.overlayfs/metadata.db", made)
    folder = f"{store}/io.containerd.snapshotter.v1.overlayfs/snapshots"
    host.write(f"{folder}/5/fs/etc/os-release", "ID=debian\nVERSION_ID=12\n")
    (host.root / f"{folder}/300/fs").mkdir(parents=True)
    host.container("web", pid=100, engine="k8s.io")
    found = collect(host.root, now=NOW)
    (image,) = found.images
    assert (image.id, image.names, image.user, image.size) == (config, ("registry.example/a:1",), "app", 11)
    assert image.digests == (f"registry.example/a@{index}",)
    assert image.layers == (f"/{folder}/5/fs", f"/{folder}/300/fs")
    assert image.distribution == "debian 12"
    (one,) = found.containers
    assert (one.image, one.digest, one.runtime) == ("registry.example/a:1", index, "io.containerd.runc.v2")
    assert one.socket == "/run/containerd/containerd.sock"


CRI = b"\n\x36example/store/container/Metadata\x12\x9e\x05"
ASKED = {"ImageRef": "sha256:" + identity(7), "Config": {"linux": {"security_context": {"privileged": True}}}}


@pytest.mark.parametrize(
    ("kind", "said", "expected"),
    [
        ("container", json.dumps({"Metadata": ASKED}), (True, ASKED["ImageRef"])),
        ("container", json.dumps({"Metadata": {"ImageRef": "a", "Config": {}}}), (False, "a")),
        ("container", json.dumps({"Metadata": {"ImageRef": 7, "Config": {"linux": "x"}}}), (False, "")),
        ("container", "{", (None, "")),
        ("container", '{"a":' * 100_000, (None, "")),
        ("container", "", (None, "")),
        ("sandbox", json.dumps({"Metadata": ASKED}), (False, "")),
        ("other", "{}", (None, "")),
    ],
)
def test_what_a_kubelet_asked_for(tmp_path, kind, said, expected):
    """By the metadata of containerd's CRI: whether a container is privileged, and its image."""
    host = ContainerHost(tmp_path)
    extensions = {f"io.cri-containerd.{kind}.metadata".encode(): CRI + said.encode()}
    record = {b"image": b"registry.example/a:1", b"extensions": extensions}
    made = Maker(inline=False).database({b"v1": {b"k8s.io": {b"containers": {b"web": record}}}})
    host.write("var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db", made)
    host.container("web", pid=100, engine="k8s.io")
    (one,) = collect(host.root, now=NOW).containers
    assert (one.privileged, one.image_id) == expected


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_database_is_an_error_or_readable(tmp_path_factory, data):
    """Bytes that are changed at random: never another exception, never without an end."""
    tree = {b"v1": {b"n%d" % number: {b"a": b"b", b"c": {b"d": b"e"}} for number in range(9)}}
    content = bytearray(Maker(inline=True).database(tree))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("db")
    (folder / "meta.db").write_bytes(content)
    with looking(folder) as look, contextlib.suppress(BoltError):
        top = read(look, "meta.db")
        assert top is not None
        for name in top.names():
            inner = top.bucket(name)
            for other in inner.names():
                inner.bucket(other).text(b"a")


def test_database_that_points_at_itself_has_an_end(tmp_path):
    """A branch whose child is the branch."""
    maker = Maker(inline=True)
    content = bytearray(maker.database({b"k%d" % number: b"v" for number in range(9)}))
    root = maker.next - 1
    place = root * 4096 + 16 + 8
    content[place : place + 8] = root.to_bytes(8, "little")
    (tmp_path / "meta.db").write_bytes(content)
    with looking(tmp_path) as look, pytest.raises(BoltError, match="damaged"):
        read(look, "meta.db")
