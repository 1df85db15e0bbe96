"""Checks of running containers: what they may use up, what they publish, and what they were started from."""

from __future__ import annotations

from functools import partial

from kmend.audit.check import (
    Case,
    Check,
    Verdict,
    bad,
    check,
    good,
    judged,
    not_here,
    of_containers,
    of_host,
    of_told_containers,
    unknown,
)
from kmend.audit.reading import named, number, plain_name, value
from kmend.model.facts import Container, EngineKind
from kmend.model.finding import Area, Severity

_container = partial(check, Area.CONTAINERS)
_RUN = "Docker documentation, “docker container run”"
_SHOWN = 5
_DEFAULT_SHARES = 1024
_ADMIN_PORTS = {
    22: "SSH",
    111: "RPC",
    445: "SMB",
    1433: "SQL Server",
    2375: "Docker",
    2379: "etcd",
    3306: "MySQL",
    3389: "RDP",
    5432: "PostgreSQL",
    5601: "Kibana",
    5672: "AMQP",
    5984: "CouchDB",
    6379: "Redis",
    8086: "InfluxDB",
    9042: "Cassandra",
    9092: "Kafka",
    9200: "Elasticsearch",
    10250: "kubelet",
    11211: "memcached",
    27017: "MongoDB",
}
_FIRST_FREE_PORT = 1024
_MOST_RESTARTS = 5


def _sshd(one: Container, _: Case) -> Verdict:
    if not one.processes:
        return unknown("Its processes were not seen.")
    found = sorted({process.name for process in one.processes if process.name in {"sshd", "dropbear", "telnetd"}})
    return judged(not found, f"Servers for logins: {', '.join(found) or 'none'}.")


def _low_ports(one: Container, _: Case) -> Verdict:
    found = sorted({port.host for port in one.ports if 0 < port.host < _FIRST_FREE_PORT})
    return judged(not found, f"Ports below 1024: {', '.join(map(str, found)) or 'none'}.")


def _admin_ports(one: Container, _: Case) -> Verdict:
    found = [
        f"{port.container} ({_ADMIN_PORTS[port.container]}) at {port.address or '*'}:{port.host}"
        for port in one.ports
        if port.container in _ADMIN_PORTS and not port.address.startswith(("127.", "::1"))
    ]
    return judged(not found, f"Published for other machines: {', '.join(found) or 'no database or login'}.")


def _one_address(one: Container, _: Case) -> Verdict:
    found = [f"{port.host}/{port.protocol}" for port in one.ports if port.address in {"", "0.0.0.0", "::", "*"}]  # noqa: S104
    return judged(not found, f"Published on every address: {', '.join(found[:_SHOWN]) or 'none'}.")


def _limit(given: float | None, word: str) -> Verdict:
    seen = f"{word}: {given:g}." if given else f"It has no {word}."
    return judged(None if given is None else given > 0, seen, missing=f"Its {word} was not seen.")


def _cpu(one: Container, _: Case) -> Verdict:
    if one.cpu_shares is None and one.cpu_limit is None:
        return unknown("Its CPU limits were not seen.")
    limited = bool(one.cpu_limit) or bool(one.cpu_shares and one.cpu_shares != _DEFAULT_SHARES)
    return judged(limited, f"CPU shares {one.cpu_shares or 'default'}, limit {one.cpu_limit or 'none'}.")


def _read_only(one: Container, _: Case) -> Verdict:
    return judged(one.read_only, f"Its root file system is {'read-only' if one.read_only else 'writable'}.")


def _restart(one: Container, _: Case) -> Verdict:
    if one.pod:
        return not_here("The kubelet restarts it, as its pod says.")
    if not one.restart:
        return unknown("Its restart policy was not seen.")
    name, _colon, times = one.restart.partition(":")
    endless = name == "always" or (name == "on-failure" and not 0 < (number(times) or 0) <= _MOST_RESTARTS)
    return judged(not endless, f"Its restart policy is {one.restart}.")


def _ulimits(one: Container, case: Case) -> Verdict:
    docker = [
        engine for engine in case.engines(EngineKind.DOCKER) if engine.socket == one.socket or not one.socket
    ]
    inherited = [
        found for engine in docker for found in named(engine.settings, "default-ulimits", "default-ulimit")
    ]
    limits = one.limits or tuple(inherited)
    return judged(
        bool(limits), f"Limits: {', '.join(f'{found.name}={found.value}' for found in limits) or 'none given'}."
    )


def _cgroup_parent(one: Container, case: Case) -> Verdict:
    given = one.cgroup_parent
    expected = {"", "docker", "/docker", "system.slice", "machine.slice", "user.slice"}
    expected |= {value(engine.settings, "cgroup-parent") or "" for engine in case.facts.engines}
    pod = bool(one.pod) or given.startswith(("/kubepods", "kubepods", "/user.slice"))
    return judged(given in expected or pod, f"Its cgroup's parent is {given or 'the default'}.")


def _health(one: Container, _: Case) -> Verdict:
    seen = "Its health is checked." if one.has_health_check else "Its health is not checked."
    if one.pod:
        return not_here("Kubernetes checks its health by probes of the pod.")
    return judged(one.has_health_check, seen, missing="Its health check was not seen.")


def _current(one: Container, case: Case) -> Verdict:
    """Whether the name that it was started by still means the image that it runs."""
    if not one.image or not one.image_id:
        return unknown("Its image was not seen.")
    if "@" in one.image or one.image.startswith("sha256:"):
        return good(f"It was started by a digest: {one.image}.")
    wanted = one.image if ":" in one.image.rpartition("/")[2] else f"{one.image}:latest"
    now = case.images_by_name.get(plain_name(wanted), ())
    if not now:
        return unknown(f"No image is called {wanted} now.")
    seen = f"{wanted} is now {now[0].id[:19]}, it runs {one.image_id[:19]}."
    return judged(one.image_id in {image.id for image in now}, seen)


def _pinned(one: Container, case: Case) -> Verdict:
    if not one.image:
        return unknown("Its image was not seen.")
    if "@sha256:" in one.image or one.image.startswith("sha256:"):
        return good(f"It was started from {one.image}.")
    image = case.images_by_id.get(one.image_id)
    known = f"; it is {image.digests[0]} now" if image and image.digests else ""
    return bad(f"It was started from {one.image}, which may become another image{known}.")


def _default_bridge(one: Container, _: Case) -> Verdict:
    if one.pod and one.engine != EngineKind.DOCKER:
        return not_here("Its network is that of its pod.")
    if not one.network:
        return unknown("Its network was not seen.")
    on_it = one.network in {"default", "bridge", "docker0"} and one.engine == EngineKind.DOCKER
    return judged(not on_it, f"Its network is {one.network}.")


def _known(one: Container, _: Case) -> Verdict:
    seen = f"Its engine is {one.engine.value}." if one.engine != EngineKind.NONE else "No engine knows of it."
    return judged(one.engine != EngineKind.NONE, seen)


def _stopped(case: Case) -> Verdict:
    everything = case.facts.containers
    if not everything:
        return not_here("No container is here.")
    stopped = [one for one in everything if one.state in {"exited", "created", "dead", "stopped"} and not one.pid]
    return judged(
        len(stopped) <= len(everything) / 2, f"{len(stopped)} of {len(everything)} containers do not run."
    )


CHECKS: tuple[Check, ...] = (
    _container(
        "container-logins",
        "No server for logins runs in a container",
        Severity.MEDIUM,
        of_containers(_sshd),
        source="Docker documentation, “docker container exec”",
        remedy="Take it out of the image; use exec from the host.",
        cis="5.7",
    ),
    _container(
        "container-low-ports",
        "No container is published on a port below 1024",
        Severity.LOW,
        of_told_containers(_low_ports),
        source="Linux manual, ip(7)",
        remedy="Publish it on a higher port; put a proxy before it.",
        cis="5.8",
        breaks="Clients that know the old port.",
    ),
    _container(
        "container-admin-ports",
        "Databases and logins are not published for other machines",
        Severity.HIGH,
        of_told_containers(_admin_ports),
        source="Docker documentation, “Port publishing and mapping”",
        remedy="Publish it on 127.0.0.1, or put clients into the same network.",
        cis="5.9",
        breaks="Clients on other machines.",
    ),
    _container(
        "container-memory",
        "Containers have a limit of memory",
        Severity.MEDIUM,
        of_containers(lambda one, _: _limit(one.memory_limit, "memory limit")),
        source="Docker documentation, “Resource constraints”",
        remedy="`docker update --memory … --memory-swap …`, at once and without a restart.",
        cis="5.11",
        breaks="It is killed when it needs more.",
    ),
    _container(
        "container-cpu",
        "Containers have a share or a limit of CPU",
        Severity.LOW,
        of_containers(_cpu),
        source="Docker documentation, “Resource constraints”",
        remedy="`docker update --cpus …` or `--cpu-shares …`, at once and without a restart.",
        cis="5.12",
    ),
    _container(
        "container-read-only",
        "Containers cannot write to their root file system",
        Severity.LOW,
        of_containers(_read_only),
        source=_RUN,
        remedy="Start it with `--read-only`, and `--tmpfs` or volumes for what it writes.",
        cis="5.13",
        breaks="Programs that write to folders without a volume.",
    ),
    _container(
        "container-one-address",
        "Ports are published on one address of the host",
        Severity.LOW,
        of_told_containers(_one_address),
        source="Docker documentation, “Port publishing and mapping”",
        remedy="Name the address: `-p 192.0.2.1:8080:80`.",
        cis="5.14",
    ),
    _container(
        "container-restart",
        "A container that fails is not started again without end",
        Severity.LOW,
        of_told_containers(_restart),
        source="Docker documentation, “Start containers automatically”",
        remedy="`docker update --restart on-failure:5`, at once.",
        cis="5.15",
        breaks="After five failures a person has to look.",
    ),
    _container(
        "container-ulimits",
        "Containers have limits, their own or the daemon's",
        Severity.LOW,
        of_told_containers(_ulimits),
        source="Linux manual, getrlimit(2)",
        remedy="Set default-ulimits for the daemon, or start it with --ulimit.",
        cis="5.19",
    ),
    _container(
        "container-cgroup-parent",
        "Containers are below the cgroup that their engine gives",
        Severity.LOW,
        of_told_containers(_cgroup_parent),
        source=_RUN,
        remedy="Start it without `--cgroup-parent`, or make sure that its limits are meant.",
        cis="5.25",
    ),
    _container(
        "container-health",
        "The health of containers is checked",
        Severity.LOW,
        of_told_containers(_health),
        source=_RUN,
        remedy="Start it with `--health-cmd`, or give the image a HEALTHCHECK.",
        cis="5.27",
    ),
    _container(
        "container-current",
        "Containers run what the name of their image means now",
        Severity.LOW,
        of_containers(_current),
        source="Docker documentation, “docker image pull”",
        remedy="Start it anew from the newer image.",
        cis="5.28",
    ),
    _container(
        "container-pids",
        "Containers have a limit of processes",
        Severity.MEDIUM,
        of_containers(lambda one, _: _limit(one.pids_limit, "limit of processes")),
        source="Linux documentation, admin-guide/cgroup-v2, “PID”",
        remedy="`docker update --pids-limit 512`, at once and without a restart.",
        cis="5.29",
        breaks="Programs with more threads.",
    ),
    _container(
        "container-default-bridge",
        "No container is on the default bridge",
        Severity.LOW,
        of_containers(_default_bridge),
        source="Docker documentation, “Bridge network driver”",
        remedy="`docker network create`, and start it with `--network` of that.",
        cis="5.30",
        level=2,
    ),
    _container(
        "container-pinned",
        "Containers are started from digests",
        Severity.LOW,
        of_containers(_pinned),
        source="Docker documentation, “Pin base image versions”",
        remedy="Name the digest: `image@sha256:…`.",
        cis="4.12",
        level=2,
    ),
    _container(
        "container-known",
        "An engine knows each container",
        Severity.MEDIUM,
        of_containers(_known),
        source="Linux manual, cgroups(7)",
        remedy="Find out what started it (`cat /proc/PID/cgroup`), and whether it should run.",
    ),
    _container(
        "container-stopped",
        "Most containers run",
        Severity.LOW,
        of_host(_stopped),
        source="Docker documentation, “Prune unused Docker objects”",
        remedy="`docker container prune` after a look at what goes.",
        cis="6.2",
    ),
)
