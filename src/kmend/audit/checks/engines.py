"""Checks of how containerd and Podman are set up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    of_engines,
    shown,
)
from kmend.audit.checks.daemon import LOCAL_REGISTRY, sure
from kmend.audit.reading import as_switch, ending, switch, value, values
from kmend.model.facts import Engine, EngineKind, Setting
from kmend.model.finding import Area, Severity

_engine = partial(check, Area.DAEMON)
_CONTAINERD = "containerd documentation, “CRI plugin config guide”"
_CONTAINERS_CONF = "containers.conf(5)"


def _default_capabilities(engine: Engine, _: Case) -> Verdict:
    found = {
        one.upper().removeprefix("CAP_") for one in values(engine.settings, "containers.default_capabilities")
    }
    wide = sorted(
        found & {"SYS_ADMIN", "NET_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "BPF", "DAC_READ_SEARCH"}
    )
    return judged(not wide, f"default_capabilities: {', '.join(sorted(found)) or 'the built-in set'}.")


def _host_namespaces(engine: Engine, _: Case) -> Verdict:
    names = ("netns", "pidns", "ipcns", "utsns", "cgroupns", "userns")
    shared = [
        name for name in names if value(engine.settings, f"containers.{name}") == "host" and name != "userns"
    ]
    return judged(not shared, f"Shared with the host by default: {', '.join(shared) or 'none'}.")


def _podman_confined(engine: Engine, _: Case) -> Verdict:
    loose = []
    if value(engine.settings, "containers.seccomp_profile") == "unconfined":
        loose.append("seccomp_profile")
    if value(engine.settings, "containers.apparmor_profile") == "unconfined":
        loose.append("apparmor_profile")
    if switch(engine.settings, "containers.label") is False:
        loose.append("label")
    if switch(engine.settings, "containers.privileged") is True:
        loose.append("privileged")
    return judged(not loose, f"Turned off for every container: {', '.join(loose) or 'nothing'}.")


def _off(*ends: str) -> Callable[[Engine, Case], Verdict]:
    """A judgement on switches of containerd's that must not be on."""

    def decide(engine: Engine, _: Case) -> Verdict:
        found = [one for one in ending(engine.settings, *ends) if as_switch(one.value)]
        return bad(f"{shown(found)}.") if found else good(f"{', '.join(ends)}: not set.")

    return sure(decide)


def _containerd_tcp(engine: Engine, _: Case) -> Verdict:
    found = [one for one in ending(engine.settings, "tcp_address", "stream_server_address") if _reachable(one)]
    return bad(f"{shown(found)}.") if found else good("containerd listens on local sockets only.")


def _reachable(one: Setting) -> bool:
    place = one.value.strip("\"'")
    return bool(place) and not LOCAL_REGISTRY.match(place)


def _podman_service(case: Case) -> Iterator[Verdict]:
    found = [one for one in case.facts.services if one.name == "podman" and "service" in one.arguments]
    for one in found:
        network = [word for word in one.arguments if word.startswith("tcp:")]
        outside = [word for word in network if not LOCAL_REGISTRY.match(word.removeprefix("tcp:").strip("/"))]
        subject = f"podman service {one.pid}"
        if network:
            evidence = f"It answers on {', '.join(network)} without a password."
            severity = Severity.CRITICAL if outside else None
            yield bad(evidence, subject=subject, severity=severity)
        else:
            yield good("It answers on a local socket.", subject=subject)
    if not found:
        yield not_here("No Podman service runs.")


_PODMAN = partial(of_engines, EngineKind.PODMAN, "Podman")
_CONTAINERD_HERE = partial(of_engines, EngineKind.CONTAINERD, "containerd")

CHECKS: tuple[Check, ...] = (
    _engine(
        "daemon-containerd-confined",
        "containerd does not turn confinement off for pods",
        Severity.HIGH,
        _CONTAINERD_HERE(_off("disable_apparmor", "disable_proc_mount", "unset_seccomp_profile_unconfined")),
        source=_CONTAINERD,
        remedy="Take the switch out of /etc/containerd/config.toml and restart containerd.",
    ),
    _engine(
        "daemon-containerd-registry",
        "containerd checks the certificates of registries",
        Severity.HIGH,
        _CONTAINERD_HERE(_off("insecure_skip_verify", "skip_verify")),
        source=_CONTAINERD,
        remedy="Give the registry a certificate, and take insecure_skip_verify out.",
    ),
    _engine(
        "daemon-containerd-tcp",
        "containerd does not listen for other machines",
        Severity.CRITICAL,
        _CONTAINERD_HERE(sure(_containerd_tcp)),
        source="containerd documentation, “containerd-config.toml(5)”",
        remedy="Take tcp_address out of config.toml, and set stream_server_address to 127.0.0.1.",
    ),
    _engine(
        "daemon-podman-capabilities",
        "Podman's default capabilities hold none of the strong ones",
        Severity.HIGH,
        _PODMAN(sure(_default_capabilities)),
        source=_CONTAINERS_CONF,
        remedy="Take them out of default_capabilities; give them with --cap-add to who needs them.",
    ),
    _engine(
        "daemon-podman-namespaces",
        "Podman's containers have namespaces of their own by default",
        Severity.HIGH,
        _PODMAN(sure(_host_namespaces)),
        source=_CONTAINERS_CONF,
        remedy='Take netns, pidns, ipcns, utsns and cgroupns = "host" out of containers.conf.',
    ),
    _engine(
        "daemon-podman-confined",
        "Podman's containers are confined by default",
        Severity.HIGH,
        _PODMAN(sure(_podman_confined)),
        source=_CONTAINERS_CONF,
        remedy="Take the line out of containers.conf; loosen single containers with --security-opt instead.",
    ),
    _engine(
        "daemon-podman-service",
        "Podman's service does not answer on the network",
        Severity.HIGH,
        _podman_service,
        source="podman-system-service(1)",
        remedy="Let it listen on its unix socket, and reach it over SSH.",
    ),
)
