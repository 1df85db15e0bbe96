"""Docker, and Podman's service, which speaks the same protocol: what the engine says of itself and what it runs.

Source: the Docker Engine API: GET /version, /info, /containers/json, /containers/ID/json, /images/json,
/images/ID/json and /images/ID/history, /networks; of a swarm's manager /services and /secrets, to count them (the
answer has no secret in it). Nothing else is asked, and only where the engine runs already: connecting
to the socket of one that does not would start it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from kmend.linux.facts.look import Look
from kmend.linux.facts.said import Said, flat
from kmend.linux.facts.talk import GoneError, NoAnswerError, Talk, talk
from kmend.model.facts import Container, Device, Engine, Image, Mount, Port, Setting, Syscalls

_ID = re.compile(r"[0-9a-f]{64}")
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
_PORT = re.compile(r"(\d{1,5})/(\w{1,8})")
_BILLION = 1e9
_MOST_LAYERS = 500
_MOST_NETWORKS = 300
_OF_NETWORKS = ("Name", "Driver", "Scope", "Internal", "EnableIPv6", "Attachable", "Ingress", "Options")
_ARGUMENT_VALUE = re.compile(r"\b([A-Za-z_][\w.-]*)=(?:\"[^\"]*\"|'[^']*'|[^\s;&|]*)")

# More of the engine's own words that single checks read. Config.Env is not among them: it holds secrets.
_WORDS = (
    ("HostConfig", "PidMode"),
    ("HostConfig", "IpcMode"),
    ("HostConfig", "UTSMode"),
    ("HostConfig", "UsernsMode"),
    ("HostConfig", "CgroupnsMode"),
    ("HostConfig", "PublishAllPorts"),
    ("HostConfig", "AutoRemove"),
    ("HostConfig", "Init"),
    ("HostConfig", "Isolation"),
    ("HostConfig", "OomKillDisable"),
    ("HostConfig", "CapAdd"),
    ("HostConfig", "CapDrop"),
    ("HostConfig", "GroupAdd"),
    ("HostConfig", "DeviceCgroupRules"),
    ("HostConfig", "Sysctls"),
    ("HostConfig", "LogConfig", "Type"),
    ("HostConfig", "MemorySwap"),
    ("HostConfig", "CpuPercent"),
    ("HostConfig", "CpusetCpus"),
    ("State", "StartedAt"),
    ("State", "Health", "Status"),
    ("GraphDriver", "Name"),
    ("AppArmorProfile",),
    ("ProcessLabel",),
    ("MountLabel",),
    ("NetworkSettings", "SandboxKey"),
)


class _Round(NamedTuple):
    """What the questions to one engine share."""

    look: Look
    conversation: Talk
    engine: Engine
    name: str
    profile: str
    """Seccomp profile of containers that ask for none."""

    def miss(self, what: str, why: str) -> None:
        """Note what it did not tell."""
        self.look.miss(f"{self.name}:{what}", why)


class Told(NamedTuple):
    """What one engine said."""

    engine: Engine
    containers: tuple[Container, ...] = ()
    images: tuple[Image, ...] = ()


def ask(look: Look, engine: Engine) -> Told:
    """Ask a running engine about everything; what it does not answer is noted, and the rest is kept."""
    name = f"{engine.kind}:{engine.socket}"
    with talk(look, engine.socket.lstrip("/"), name=name) as conversation:
        try:
            version, info = _itself(conversation)
        except NoAnswerError as error:
            look.miss(name, error.message)
            return Told(engine)
        known = Engine(
            kind=engine.kind,
            socket=engine.socket,
            answers=True,
            version=version.text("Version"),
            api_version=version.text("ApiVersion"),
            uid=engine.uid,
            settings=engine.settings,
            says=(*flat(info.value), *_more(look, conversation, info, name)),
            pid=engine.pid,
        )
        asked = _Round(look, conversation, known, name, _default_profile(info))
        # Containers first: should the time for this engine end, they are what counts.
        containers = tuple(_containers(asked))
        images = tuple(_images(asked))
        return Told(known, _with_digests(containers, images), images)


def _itself(conversation: Talk) -> tuple[Said, Said]:
    """What the engine says about itself.

    Raises:
        NoAnswerError: It does not, or not as an engine does.
    """
    version = conversation.get("/version")
    if not version.text("Version"):
        raise NoAnswerError("what it answers is no container engine's")
    return version, conversation.get("/info")


def _with_digests(containers: tuple[Container, ...], images: tuple[Image, ...]) -> tuple[Container, ...]:
    digests = {one.id: one.digests[0].rpartition("@")[2] for one in images if one.digests}
    return tuple(replace(one, digest=digests.get(one.image_id, "")) for one in containers)


def _more(look: Look, conversation: Talk, info: Said, name: str) -> tuple[Setting, ...]:
    """What other questions about the engine itself are answered with."""
    return (*_networks(look, conversation, name), *_swarm(look, conversation, info, name))


def _networks(look: Look, conversation: Talk, name: str) -> tuple[Setting, ...]:
    """``Networks.N.Name``, ``.Driver`` and the like."""
    try:
        listed = conversation.get("/networks").items()
    except NoAnswerError as error:
        look.miss(f"{name}:networks", error.message)
        return ()
    kept = [{key: one.at(key).value for key in _OF_NETWORKS} for one in listed[:_MOST_NETWORKS]]
    return flat({"Networks": kept})


def _swarm(look: Look, conversation: Talk, info: Said, name: str) -> tuple[Setting, ...]:
    """How many services and secrets a swarm has (``Swarm.Services``, ``Secrets``); only its managers know."""
    if info.flag("Swarm", "ControlAvailable") is not True:
        return ()
    try:
        services, secrets = (conversation.get(path).items() for path in ("/services", "/secrets"))
    except NoAnswerError as error:
        look.miss(f"{name}:swarm", error.message)
        return ()
    return (
        Setting(name="Swarm.Services", value=str(len(services))),
        Setting(name="Secrets", value=str(len(secrets))),
    )


def _default_profile(info: Said) -> str:
    """What containers get that ask for no seccomp profile; Docker says ``name=seccomp,profile=builtin``."""
    for option in info.texts("SecurityOptions"):
        fields = dict(word.partition("=")[::2] for word in option.split(","))
        if fields.get("name") == "seccomp":
            return fields.get("profile", "default")
    return ""


def _containers(asked: _Round) -> Iterator[Container]:
    for key, (said,) in _each(asked, "containers", "/containers/json?all=1", _ID, ("/containers/{}/json",)):
        yield _container(asked, said, key)


def _images(asked: _Round) -> Iterator[Image]:
    questions = ("/images/{}/json", "/images/{}/history")
    for key, (said, history) in _each(asked, "images", "/images/json", _IMAGE_ID, questions):
        yield _image(asked, said, history, key)


def _each(
    asked: _Round, kind: str, listing: str, ids: re.Pattern[str], questions: tuple[str, ...]
) -> Iterator[tuple[str, list[Said]]]:
    """The id of everything in a list, with the answers to the questions about it."""
    try:
        listed = asked.conversation.get(listing).items()
    except NoAnswerError as error:
        asked.miss(kind, error.message)
        return
    limits = asked.look.limits
    most = limits.containers if kind == "containers" else limits.images
    if len(listed) > most:
        asked.miss(kind, f"it lists {len(listed)}; only {most} were looked at")
    for number, one in enumerate(listed[:most]):
        key = one.text("Id")
        if not ids.fullmatch(key):
            asked.miss(kind, "an id that it lists is none")
            continue
        try:
            yield key, [asked.conversation.get(question.format(key)) for question in questions]
        except GoneError:  # it was removed meanwhile
            continue
        except NoAnswerError as error:
            asked.miss(kind, f"{error.message}; {len(listed) - number} of {len(listed)} were not seen")
            return


def _container(asked: _Round, said: Said, key: str) -> Container:
    engine = asked.engine
    said = Said(said.value, asked.look, f"container:{key}:inspect")
    host, config = said.at("HostConfig"), said.at("Config")
    privileged = host.flag("Privileged")
    security = tuple(_short(option) for option in host.texts("SecurityOpt"))
    labels = {label: value.text() for label, value in config.pairs("Labels")}
    return Container(
        id=key,
        name=said.text("Name").lstrip("/"),
        engine=engine.kind,
        socket=engine.socket,
        state=said.text("State", "Status"),
        pid=said.number("State", "Pid"),
        created=said.moment("Created"),
        pod=_pod(labels),
        image=config.text("Image"),
        image_id=said.text("Image"),
        user=config.text("User"),
        privileged=privileged,
        syscalls=Syscalls(mode="", profile=_profile(security, asked.profile, privileged=bool(privileged))),
        apparmor=said.text("AppArmorProfile"),
        devices=tuple(_devices(host)),
        binds=tuple(_binds(said)),
        masked_paths=_masked(host),
        read_only=host.flag("ReadonlyRootfs"),
        network=host.text("NetworkMode"),
        ports=tuple(_ports(said)),
        memory_limit=host.number("Memory"),
        cpu_shares=host.number("CpuShares"),
        cpu_limit=_processors(host),
        pids_limit=max(0, host.number("PidsLimit")),
        restart=_restart(host),
        has_health_check=_has_health_check(config),
        runtime=host.text("Runtime"),
        security=security,
        labels=tuple(Setting(name=label, value=value) for label, value in sorted(labels.items())),
        cgroup_parent=host.text("CgroupParent"),
        limits=tuple(
            Setting(name=one.text("Name"), value=f"{one.number('Soft')}:{one.number('Hard')}")
            for one in host.items("Ulimits")
        ),
        engine_says=tuple(_words(said)),
    )


def _short(option: str) -> str:
    """A security option; a whole profile that the client sent along is only named."""
    name, _, value = option.partition("=")
    return f"{name}=inline" if name == "seccomp" and value.lstrip().startswith("{") else option


def _profile(security: tuple[str, ...], default: str, *, privileged: bool) -> str:
    if privileged:
        return "unconfined"
    given = (option[len("seccomp") + 1 :] for option in security if option.startswith(("seccomp=", "seccomp:")))
    return next(given, default)


def _pod(labels: dict[str, str]) -> str:
    name = labels.get("io.kubernetes.pod.name", "")
    return f"{labels.get('io.kubernetes.pod.namespace', '')}/{name}" if name else ""


def _devices(host: Said) -> Iterator[Device]:
    """What was asked for; the numbers are those of the host's node, and unknown here."""
    for one in host.items("Devices"):
        yield Device(
            path=one.text("PathInContainer"),
            kind="",
            major=-1,
            minor=-1,
            access=one.text("CgroupPermissions"),
        )


def _binds(said: Said) -> Iterator[Mount]:
    for one in said.items("Mounts"):
        yield Mount(
            target=one.text("Destination"),
            source=one.text("Source"),
            kind=one.text("Type"),
            options=("rw" if one.flag("RW") else "ro",),
            propagation=one.text("Propagation"),
        )


def _masked(host: Said) -> tuple[str, ...] | None:
    return None if host.at("MaskedPaths").value is None else host.texts("MaskedPaths")


def _ports(said: Said) -> Iterator[Port]:
    for name, places in said.pairs("NetworkSettings", "Ports"):
        inside = _PORT.fullmatch(name)
        for place in places.items():
            outside = place.text("HostPort")
            if inside and outside.isdecimal() and len(outside) < 6:  # noqa: PLR2004
                address = place.text("HostIp")
                yield Port(
                    address="" if address in {"0.0.0.0", "::"} else address,  # noqa: S104
                    host=int(outside),
                    container=int(inside[1]),
                    protocol=inside[2],
                )


def _processors(host: Said) -> float:
    if nano := host.number("NanoCpus"):
        return nano / _BILLION
    quota, period = host.number("CpuQuota"), host.number("CpuPeriod") or 100_000
    return quota / period if quota > 0 and period > 0 else 0.0


def _restart(host: Said) -> str:
    name, most = host.text("RestartPolicy", "Name"), host.number("RestartPolicy", "MaximumRetryCount")
    return f"{name}:{most}" if name == "on-failure" and most else name or "no"


def _has_health_check(config: Said) -> bool:
    test = config.texts("Healthcheck", "Test")
    return bool(test) and test[0] != "NONE"


def _words(said: Said) -> Iterator[Setting]:
    for path in _WORDS:
        value = said.at(*path).value
        if value is not None:
            yield from flat({".".join(path): value})


def _image(asked: _Round, said: Said, history: Said, key: str) -> Image:
    engine = asked.engine
    said = Said(said.value, asked.look, f"image:{key}:inspect")
    config = said.at("Config")
    return Image(
        id=key if key.startswith("sha256:") else f"sha256:{key}",
        engine=engine.kind,
        store=engine.socket,
        names=tuple(name for name in said.texts("RepoTags") if name != "<none>:<none>"),
        digests=said.texts("RepoDigests"),
        created=said.moment("Created"),
        size=said.number("Size"),
        user=config.text("User"),
        has_health_check=_has_health_check(config),
        layers=_layers(said),
        history=tuple(without_values(one.text("CreatedBy")) for one in history.items()),
    )


def _layers(said: Said) -> tuple[str, ...]:
    """Folders from the lowest up; overlay2 lists the lower ones from the top down."""
    if said.text("GraphDriver", "Name") not in {"overlay2", "overlay", "fuse-overlayfs"}:
        return ()
    data = said.at("GraphDriver", "Data")
    lower = data.at("LowerDir").value
    folders = lower.split(":") if isinstance(lower, str) else []
    upper = data.text("UpperDir")
    return tuple(folder for folder in (*reversed(folders[:_MOST_LAYERS]), upper) if folder.startswith("/"))


def without_values(command: str) -> str:
    """A build step without the values of ``NAME=value``: build arguments and settings may be secrets."""
    return _ARGUMENT_VALUE.sub(r"\1=…", command)[:1000]


def repository(name: str) -> str:
    """An image's name without tag and digest."""
    whole = name.partition("@")[0]
    start, slash, last = whole.rpartition("/")
    return f"{start}{slash}{last.partition(':')[0]}"
