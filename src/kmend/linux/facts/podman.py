"""Podman and CRI-O by the files of their storage, which say what there is when no service answers.

Source: containers/storage: overlay-containers/containers.json, overlay-images/images.json,
overlay-layers/layers.json and the folders beside them. Newer ones have volatile-containers.json too.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import PurePosixPath

from kmend.linux.facts.bundles import DRIVERS, Place
from kmend.linux.facts.docker import repository, without_values
from kmend.linux.facts.look import Look
from kmend.linux.facts.said import Said
from kmend.model.facts import Container, EngineKind, Image, User

ROOT_STORAGE = "var/lib/containers/storage"
USER_STORAGE = ".local/share/containers/storage"
CRIO_RUN = "run/containers/storage"
_TABLE = 8 << 20
_MOST_DEEP = 500
_MANIFEST = 4 << 20


def storages(look: Look, users: tuple[User, ...]) -> tuple[str, ...]:
    """The storage folders of this host: root's, and those in homes."""
    homes = {user.home.strip("/") for user in users if user.home.startswith("/") and user.home != "/"}
    places = [ROOT_STORAGE, CRIO_RUN, *(f"{home}/{USER_STORAGE}" for home in sorted(homes))]
    return tuple(dict.fromkeys(place for place in places if look.stat(place)))


def containers(look: Look, storage: str, places: tuple[Place, ...]) -> Iterator[Container]:
    """The containers of a storage that have a bundle; what only builds images has none."""
    started = {place.id for place in places}
    tables = ("containers.json", "volatile-containers.json")
    for path in (f"{storage}/{driver}-containers/{table}" for driver in DRIVERS for table in tables):
        for one in Said(look.json(path, limit=_TABLE), look, f"/{path}").items():
            key = one.text("id")
            if key in started:
                metadata = _metadata(look, one, f"/{path}")
                yield Container(
                    id=key,
                    name=metadata.text("name") or next(iter(one.texts("names")), ""),
                    engine=EngineKind.CRI if metadata.text("pod-id") else EngineKind.PODMAN,
                    socket=f"/{storage}",
                    created=one.moment("created"),
                    image=metadata.text("image-name"),
                    image_id=metadata.text("image-id") or one.text("image"),
                )


def _metadata(look: Look, one: Said, what: str) -> Said:
    """JSON in a text in JSON."""
    try:
        return Said(json.loads(one.text("metadata") or "{}"), look, what)
    except (ValueError, RecursionError):
        look.miss(what, "the metadata of a container is no JSON")
        return Said(None, look, what)


def images(look: Look, storage: str) -> Iterator[Image]:
    """The images of a storage, with the folders of their layers."""
    for driver in DRIVERS:
        yield from _images(look, storage, driver)


def _images(look: Look, storage: str, driver: str) -> Iterator[Image]:
    path = f"{storage}/{driver}-images/images.json"
    listed = Said(look.json(path, limit=_TABLE), look, f"/{path}").items()
    parents = _parents(look, storage, driver) if listed else {}
    for one in listed[: look.limits.images]:
        key = one.text("id")
        config = _config(look, f"{storage}/{driver}-images", key)
        names = one.texts("names")
        yield Image(
            id=f"sha256:{key}",
            engine=EngineKind.PODMAN,
            store=f"/{storage}",
            names=tuple(name for name in names if "@" not in name),
            digests=_digests(names, one.text("digest")),
            created=one.moment("created"),
            user=config.text("config", "User"),
            has_health_check=bool(config.texts("config", "Healthcheck", "Test")) if config.value else None,
            layers=_layers(f"{storage}/{driver}", one.text("layer"), parents),
            history=tuple(without_values(step.text("created_by")) for step in config.items("history")),
        )


def _digests(names: tuple[str, ...], digest: str) -> tuple[str, ...]:
    if not digest:
        return tuple(name for name in names if "@" in name)
    return tuple(dict.fromkeys(f"{repository(name)}@{digest}" for name in names)) or (digest,)


def _config(look: Look, folder: str, key: str) -> Said:
    """The image's configuration, which lies beside it under the digest that is its id."""
    if not _is_name(key):
        return Said(None, look, "image")
    # What a store keeps under a name that is no plain word lies in a file named by "=" and base64.
    name = "=" + _base64(f"sha256:{key}")
    path = f"{folder}/{key}/{name}"
    return Said(look.json(path, limit=_MANIFEST), look, f"/{path}")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _is_name(key: str) -> bool:
    return bool(key) and PurePosixPath(key).name == key


def _parents(look: Look, storage: str, driver: str) -> dict[str, str]:
    """Layer → the layer below."""
    path = f"{storage}/{driver}-layers/layers.json"
    listed = Said(look.json(path, limit=_TABLE), look, f"/{path}").items()
    return {one.text("id"): one.text("parent") for one in listed}


def _layers(folder: str, top: str, parents: dict[str, str]) -> tuple[str, ...]:
    """Folders from the lowest up; of vfs each holds everything that is in the lower ones too."""
    if folder.endswith("/vfs"):
        return (f"/{folder}/dir/{top}",) if _is_name(top) and top in parents else ()
    found: list[str] = []
    while _is_name(top) and top in parents and len(found) < _MOST_DEEP:
        found.append(f"/{folder}/{top}/diff")
        top = parents[top]
    return tuple(reversed(found))
