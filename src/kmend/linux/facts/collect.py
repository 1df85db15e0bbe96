"""Collect: one look at a host, from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from kmend.linux.facts import (
    bundles,
    containerd,
    containers,
    docker,
    engines,
    files,
    host,
    kernel,
    modules,
    packages,
    podman,
    processes,
    programs,
    sysctls,
    walked,
)
from kmend.linux.facts.layers import Layers
from kmend.linux.facts.look import Limits, Look, looking
from kmend.model.facts import Container, Engine, EngineKind, Facts, Image, Syscalls, User


def collect(
    root: Path = Path("/"), *, now: datetime, limits: Limits | None = None, cache: Path | None = None
) -> Facts:
    """What can be seen of a host, without starting anything; what cannot stands in ``unseen``, with its reason.

    Args:
        root: ``/``, or the folder of an image of a host: one without processes is judged by its files alone.
        now: The time.
        limits: How long it may take and how much it reads.
        cache: A file that keeps what was found in layers of images, which do not change; None for none.

    Raises:
        MachineError: The folder is not there, or this kernel cannot open files safely below a folder (before 5.6).
    """
    with looking(root, limits=limits) as look:
        return _collected(look, now, cache)


def _collected(look: Look, now: datetime, cache: Path | None) -> Facts:
    live = look.stat("proc/1/status") is not None
    installed = packages.packages(look)
    running = kernel.kernel(look, live=live, packages=installed)
    accounts = host.users(look)
    seen = processes.processes(look)
    held = _held(look, seen, accounts, cache)
    return Facts(
        collected=now,
        root=str(look.root),
        host=host.host_name(look),
        machine_id=host.machine_id(look),
        distribution=host.distribution(look),
        kernel=running,
        modules=modules.modules(look, running),
        sysctls=sysctls.sysctls(look) if live else (),
        configured_sysctls=sysctls.configured(look),
        mounts=host.mounts(look, "proc/1/mountinfo") or (),
        users=accounts,
        groups=host.groups(look),
        sub_uids=host.id_ranges(look, "etc/subuid"),
        sub_gids=host.id_ranges(look, "etc/subgid"),
        packages=installed,
        programs=programs.programs(look, seen, installed),
        files=files.files(look),
        services=tuple(processes.service(look, one) for one in seen if processes.is_service(one)),
        engines=held.engines,
        containers=held.containers,
        images=held.images,
        audit_rules=host.audit_rules(look),
        listening=host.listening(look),
        unseen=look.notes.all(),
    )


class _Held(NamedTuple):
    engines: tuple[Engine, ...]
    containers: tuple[Container, ...]
    images: tuple[Image, ...]


def _held(look: Look, seen: tuple[processes.Seen, ...], accounts: tuple[User, ...], cache: Path | None) -> _Held:
    """What runs containers here, the containers, and the images."""
    told = [
        docker.ask(look, engine) if asked else docker.Told(engine) for engine, asked in engines.engines(look, seen)
    ]
    storages = podman.storages(look, accounts)
    here = tuple(answer.engine for answer in told)
    stores = containerd.stores(here)
    places = tuple(bundles.places(look, storages, containerd.states(here)))
    said = {one.id: one for storage in storages for one in podman.containers(look, storage, places)}
    said |= {one.id: one for answer in told for one in answer.containers}
    found = containers.containers(look, said.values(), _bundles(look, places), seen)
    return _Held(
        engines=here,
        containers=containerd.with_records(look, stores, found),
        images=_with_layers(look, tuple(_images(look, told, storages, stores)), cache),
    )


def _bundles(look: Look, places: tuple[bundles.Place, ...]) -> Iterator[bundles.Bundle]:
    known: dict[Syscalls, Syscalls] = {}
    for place in places:
        if not look.left:
            look.miss("bundles", "the time was over before all were read")
            return
        if found := bundles.bundle(look, place, known):
            yield found


def _images(
    look: Look, told: list[docker.Told], storages: tuple[str, ...], stores: tuple[str, ...]
) -> Iterator[Image]:
    """Each image once: what its storage shows, what an engine told."""
    stored = [one for storage in storages for one in podman.images(look, storage)]
    ids = {one.id for one in stored}
    # Podman's service tells of what its storage shows, with less.
    told_of = [one for answer in told for one in answer.images]
    said = [one for one in told_of if one.engine is EngineKind.DOCKER or one.id not in ids]
    yield from (*stored, *said, *containerd.images(look, stores))


def _with_layers(look: Look, images: tuple[Image, ...], cache: Path | None) -> tuple[Image, ...]:
    kept = walked.load(cache)
    layers = Layers(look, kept)
    found = tuple(layers.of(one) for one in images)
    if layers.walked != kept:
        walked.save(look, cache, layers.walked)
    return found
