"""containerd by its files: images, and what it notes about containers. Its socket is not asked.

Source: containerd's metadata store (io.containerd.metadata.v1.bolt/meta.db), its overlayfs snapshotter's
(metadata.db), its content store, and the OCI image specification (manifest, config, chain ids).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from kmend.linux.facts import bolt
from kmend.linux.facts.bolt import BoltError, Bucket
from kmend.linux.facts.docker import repository, without_values
from kmend.linux.facts.look import Look
from kmend.linux.facts.said import Said
from kmend.model.facts import Container, Engine, EngineKind, Image, Setting

STORES = (
    "var/lib/containerd",
    "var/lib/docker/containerd/daemon",
    "var/lib/rancher/k3s/agent/containerd",
)
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_BLOB = 4 << 20
_SNAPSHOTTER = b"overlayfs"
_DOCKER_NAMESPACE = b"moby"
_CRI_CONTAINER = b"io.cri-containerd.container.metadata"
_CRI_POD = b"io.cri-containerd.sandbox.metadata"
_MOST_LAYERS = 500


@dataclass(frozen=True, slots=True)
class _Store:
    look: Look
    folder: str
    meta: Bucket
    snapshots: dict[str, str]
    """The snapshotter's name of a snapshot → its number."""

    def blob(self, digest: str) -> Said:
        """A JSON document of the content store; nothing when it is not there."""
        found = _DIGEST.fullmatch(digest)
        path = f"{self.folder}/io.containerd.content.v1.content/blobs/sha256/{found[1] if found else ''}"
        return Said(self.look.json(path, limit=_BLOB) if found else None, self.look, f"/{path}")


def stores(engines: Iterable[Engine]) -> tuple[str, ...]:
    """The folders in which containerd keeps things: the usual ones, and what its settings say."""
    return tuple(dict.fromkeys((*STORES, *_folders(engines, "root"))))


def states(engines: Iterable[Engine]) -> tuple[str, ...]:
    """The folders in which containerd keeps what runs, beyond the usual ones."""
    return tuple(dict.fromkeys(_folders(engines, "state")))


def _folders(engines: Iterable[Engine], name: str) -> Iterator[str]:
    for engine in engines:
        if engine.kind is EngineKind.CONTAINERD:
            found = (one.value for one in engine.settings if one.name == name)
            yield from (value.strip("/") for value in found if value.startswith("/"))


def images(look: Look, folders: tuple[str, ...]) -> Iterator[Image]:
    """The images of every store and namespace but Docker's."""
    for folder in folders:
        store = _store(look, folder)
        if store is None:
            continue
        try:
            yield from _images(store)
        except BoltError as error:
            look.miss(f"containerd:/{folder}:images", str(error))


def with_records(look: Look, folders: tuple[str, ...], found: tuple[Container, ...]) -> tuple[Container, ...]:
    """Containers of containerd's with what its metadata says: image, runtime, labels; more of those of pods."""
    wanted = {one.id for one in found if one.engine is EngineKind.CONTAINERD}
    records: dict[str, Container] = {}
    for folder in folders if wanted else ():
        store = _store(look, folder)
        try:
            records |= {one.id: one for one in _containers(store, wanted)} if store else {}
        except BoltError as error:
            look.miss(f"containerd:/{folder}:containers", str(error))
    return tuple(_joined(one, records[one.id]) if one.id in records else one for one in found)


def _joined(one: Container, record: Container) -> Container:
    return replace(
        one,
        image=one.image or record.image,
        image_id=one.image_id or record.image_id,
        privileged=record.privileged if one.privileged is None else one.privileged,
        digest=one.digest or record.digest,
        runtime=one.runtime or record.runtime,
        labels=one.labels or record.labels,
        created=one.created or record.created,
    )


def _store(look: Look, folder: str) -> _Store | None:
    """The databases of a store; None when it is not there, and, with a note, when it cannot be read."""
    path = f"{folder}/io.containerd.metadata.v1.bolt/meta.db"
    try:
        meta = bolt.read(look, path)
        if meta is None:
            return None
        path = f"{folder}/io.containerd.snapshotter.v1.overlayfs/metadata.db"
        snapshots = bolt.read(look, path)
        return _Store(look, folder, meta.bucket(b"v1"), _numbers(snapshots) if snapshots else {})
    except BoltError as error:
        look.miss(f"/{path}", str(error))
        return None


def _numbers(top: Bucket) -> dict[str, str]:
    snapshots = top.bucket(b"v1", b"snapshots")
    found = {}
    for name in snapshots.names():
        number = snapshots.bucket(name).values.get(b"id", b"")
        found[name.decode(errors="replace")] = str(_varint(number))
    return found


def _varint(data: bytes) -> int:
    value = 0
    for place, byte in enumerate(data[:10]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:  # noqa: PLR2004
            break
    return value


def _containers(store: _Store, wanted: set[str]) -> Iterator[Container]:
    for namespace in store.meta.names():
        records = store.meta.bucket(namespace, b"containers")
        names = store.meta.bucket(namespace, b"images")
        for key in records.names():
            if key.decode(errors="replace") not in wanted:
                continue
            record = records.bucket(key)
            image = record.text(b"image")
            labels = record.bucket(b"labels").values
            image_id, privileged = _of_cri(record.bucket(b"extensions").values, store.look, key)
            yield Container(
                id=key.decode(errors="replace"),
                name="",
                engine=EngineKind.CONTAINERD,
                image=image,
                image_id=image_id,
                privileged=privileged,
                digest=names.bucket(image.encode(), b"target").text(b"digest"),
                runtime=record.bucket(b"runtime").text(b"name"),
                labels=tuple(
                    Setting(name=name.decode(errors="replace"), value=value.decode(errors="replace"))
                    for name, value in sorted(labels.items())
                ),
            )


def _of_cri(extensions: dict[bytes, bytes], look: Look, key: bytes) -> tuple[str, bool | None]:
    """Id of the image, and whether it is privileged, as the CRI was asked for; a pod's own process never is."""
    if _CRI_POD in extensions:
        return "", False
    # A protocol buffer's Any: the name of a type, and JSON.
    _, brace, rest = extensions.get(_CRI_CONTAINER, b"").partition(b"{")
    if not brace:
        return "", None
    what = f"container:{key.decode(errors='replace')}:cri"
    try:
        said = Said(json.loads(brace + rest), look, what)
    except (ValueError, RecursionError) as error:
        look.miss(what, f"its metadata is no JSON: {error}")
        return "", None
    asked = said.at("Metadata", "Config", "linux", "security_context")
    return said.text("Metadata", "ImageRef"), bool(asked.flag("privileged"))


def _images(store: _Store) -> Iterator[Image]:
    for namespace in store.meta.names():
        if namespace == _DOCKER_NAMESPACE:
            continue  # Docker tells of its own, also where it keeps them here
        records = store.meta.bucket(namespace, b"images")
        named: dict[str, list[str]] = {}
        for name in records.names():
            digest = records.bucket(name, b"target").text(b"digest")
            named.setdefault(digest, []).append(name.decode(errors="replace"))
        for digest, names in list(named.items())[: store.look.limits.images]:
            yield _image(store, namespace, digest, names)


def _image(store: _Store, namespace: bytes, digest: str, names: list[str]) -> Image:
    manifest = _manifest(store, digest)
    key = manifest.text("config", "digest")
    config = store.blob(key)
    settings = config.at("config")
    tagged = [name for name in names if not _DIGEST.fullmatch(name)]
    return Image(
        id=key or digest,
        engine=EngineKind.CONTAINERD,
        store=f"/{store.folder}",
        names=tuple(name for name in tagged if "@" not in name),
        digests=tuple(dict.fromkeys(f"{repository(name)}@{digest}" for name in tagged)),
        created=config.moment("created"),
        size=sum(layer.number("size") for layer in manifest.items("layers")),
        user=settings.text("User"),
        has_health_check=bool(settings.texts("Healthcheck", "Test")) if config.value else None,
        layers=_layers(store, namespace, config),
        history=tuple(without_values(step.text("created_by")) for step in config.items("history")),
    )


def _manifest(store: _Store, digest: str) -> Said:
    """The manifest; of an index the first one whose configuration is here, which is this platform's."""
    found = store.blob(digest)
    if found.at("manifests").value is None:
        return found
    choices = (store.blob(one.text("digest")) for one in found.items("manifests"))
    here = (one for one in choices if one.value and store.blob(one.text("config", "digest")).value)
    return next(here, Said(None, store.look, f"image:{digest}"))


def _layers(store: _Store, namespace: bytes, config: Said) -> tuple[str, ...]:
    """Folders from the lowest up, by the chain ids of the layers; none when one of them is not unpacked."""
    known = store.meta.bucket(namespace, b"snapshots", _SNAPSHOTTER)
    found = []
    chain = ""
    for layer in config.texts("rootfs", "diff_ids")[:_MOST_LAYERS]:
        chain = f"sha256:{hashlib.sha256(f'{chain} {layer}'.encode()).hexdigest()}" if chain else layer
        number = store.snapshots.get(known.bucket(chain.encode()).text(b"name"))
        if number is None:
            return ()
        found.append(f"/{store.folder}/io.containerd.snapshotter.v1.overlayfs/snapshots/{number}/fs")
    return tuple(found)
