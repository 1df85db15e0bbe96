"""Container engines of a host: which are here, whose they are, how they are set up, and which of them run."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kmend.linux.facts.look import Look, without_credentials
from kmend.linux.facts.processes import Seen, arguments
from kmend.linux.facts.said import flat
from kmend.model.facts import Engine, EngineKind, Setting

_SETTINGS = 1 << 20
_CONTAINERS_CONF = ("usr/share/containers/containers.conf", "etc/containers/containers.conf")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A socket that may be an engine's."""

    kind: EngineKind
    socket: str
    process: str
    """Name of the process that answers on it."""
    words: tuple[str, ...] = ()
    """Those of the command line, one of which it has then."""


_KNOWN = (
    _Known(kind=EngineKind.DOCKER, socket="run/docker.sock", process="dockerd"),
    _Known(kind=EngineKind.DOCKER, socket="run/user/*/docker.sock", process="dockerd"),
    _Known(kind=EngineKind.PODMAN, socket="run/podman/podman.sock", process="podman", words=("service",)),
    _Known(kind=EngineKind.PODMAN, socket="run/user/*/podman/podman.sock", process="podman", words=("service",)),
    _Known(kind=EngineKind.CONTAINERD, socket="run/containerd/containerd.sock", process="containerd"),
    _Known(kind=EngineKind.CONTAINERD, socket="run/k3s/containerd/containerd.sock", process="containerd"),
    _Known(kind=EngineKind.CRI, socket="run/crio/crio.sock", process="crio"),
)


# Files of an engine that has no socket now.
_TRACES = {
    EngineKind.DOCKER: ("usr/bin/dockerd", "usr/sbin/dockerd", "usr/local/bin/dockerd", "etc/docker/daemon.json"),
    EngineKind.PODMAN: ("usr/bin/podman", "usr/local/bin/podman", "var/lib/containers/storage"),
    EngineKind.CONTAINERD: ("usr/bin/containerd", "usr/local/bin/containerd", "etc/containerd/config.toml"),
    EngineKind.CRI: ("usr/bin/crio", "usr/local/bin/crio", "etc/crio/crio.conf"),
}


def engines(look: Look, processes: tuple[Seen, ...]) -> Iterator[tuple[Engine, bool]]:
    """Each engine that is here, and whether a process is there that can be asked without starting it."""
    found = list(_elsewhere(look, processes))
    for known in _KNOWN:
        for socket in look.matching(known.socket):
            if look.link(socket):  # podman-docker's, or another name of one that is listed itself
                continue
            found.append(_engine(look, known, socket, processes))
    yield from found
    kinds = {engine.kind for engine, _ in found}
    for kind, traces in _TRACES.items():
        if kind not in kinds and any(look.stat(path) for path in traces):
            yield Engine(kind=kind, settings=_settings(look, kind)), False


def _engine(look: Look, known: _Known, socket: str, processes: tuple[Seen, ...]) -> tuple[Engine, bool]:
    uid = _owner(socket)
    pid = next((one.pid for one in processes if _runs(look, one, known, uid)), 0)
    settings = (*_settings(look, known.kind), *(_said(look, pid) if pid else ()))
    engine = Engine(kind=known.kind, socket=f"/{socket}", uid=uid, settings=settings, pid=pid)
    return engine, bool(pid) and known.kind in {EngineKind.DOCKER, EngineKind.PODMAN}


def _owner(socket: str) -> int:
    """Whose engine it is: a rootless one's socket lies below /run/user/UID."""
    words = socket.split("/")
    return int(words[2]) if words[:2] == ["run", "user"] and words[2].isdecimal() else 0


def _runs(look: Look, one: Seen, known: _Known, uid: int) -> bool:
    """Whether a process of the host is this engine; root inside a user namespace is the user outside."""
    if one.name != known.process or one.container or one.uid != uid:
        return False
    return not known.words or bool(set(known.words) & set(arguments(look, one.pid)))


def _elsewhere(look: Look, processes: tuple[Seen, ...]) -> Iterator[tuple[Engine, bool]]:
    """Docker on a socket of another name, as its arguments say."""
    for one in processes:
        if one.name != "dockerd" or one.container:
            continue
        for address in _hosts(arguments(look, one.pid)):
            socket = address.removeprefix("unix://").lstrip("/")
            usual = socket.removeprefix("var/") if socket.startswith("var/run/") else socket
            if address.startswith("unix://") and usual != "run/docker.sock" and not usual.startswith("run/user/"):
                known = _Known(kind=EngineKind.DOCKER, socket=usual, process="dockerd")
                settings = (*_settings(look, known.kind), *_said(look, one.pid))
                yield (
                    Engine(kind=known.kind, socket=f"/{usual}", uid=one.uid, settings=settings, pid=one.pid),
                    True,
                )


def _hosts(words: tuple[str, ...]) -> Iterator[str]:
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in {"-H", "--host"}:
            yield value if equals else next(iter(words[number + 1 : number + 2]), "")


def _said(look: Look, pid: int) -> Iterator[Setting]:
    """A service's arguments: ``--log-level=debug`` is ``log-level``, a word alone is ``true``."""
    words = arguments(look, pid)[1:]
    for number, word in enumerate(words):
        if not word.startswith("-"):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        following = words[number + 1] if number + 1 < len(words) else "-"
        if not equals:
            value = "true" if following.startswith("-") else following
        yield Setting(name=name, value=without_credentials(value), source=f"/proc/{pid}/cmdline")


def _settings(look: Look, kind: EngineKind) -> tuple[Setting, ...]:
    if kind is EngineKind.DOCKER:
        return _file(look, "etc/docker/daemon.json")
    if kind is EngineKind.CONTAINERD:
        return _file(look, "etc/containerd/config.toml")
    if kind is EngineKind.CRI:
        return tuple(one for path in _crio(look) for one in _file(look, path))
    paths = (*_CONTAINERS_CONF, *look.matching("etc/containers/containers.conf.d/*.conf"))
    return tuple(one for path in paths for one in _file(look, path))


def _crio(look: Look) -> tuple[str, ...]:
    return ("etc/crio/crio.conf", *look.matching("etc/crio/crio.conf.d/*.conf"))


def _file(look: Look, path: str) -> tuple[Setting, ...]:
    """The settings in a JSON or TOML file; none, with a note, when it is not one."""
    content = look.read(path, limit=_SETTINGS)
    if content is None or not content.strip():
        return ()
    try:
        text = content.decode()
        value: Any = json.loads(text) if path.endswith(".json") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        look.miss(f"/{path}", f"it cannot be read as settings: {error}")
        return ()
    return flat(value, source=f"/{path}")
