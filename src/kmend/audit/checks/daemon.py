"""Checks of the engines' configuration: Docker's daemon, containerd, Podman and the image policy they share."""

from __future__ import annotations

import re
from collections.abc import Callable
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
    of_docker,
    shown,
    unknown,
)
from kmend.audit.reading import as_switch, named, security_options, switch, value, values
from kmend.audit.versions import upstream
from kmend.model.facts import Engine
from kmend.model.finding import Area, Severity

_DOCKERD = "dockerd reference, “Daemon configuration file”"
_daemon = partial(check, Area.DAEMON)
_LEGACY_GONE = (17, 12)
LOCAL_REGISTRY = re.compile(r"127\.|::1|localhost")
_LOCAL_LOGS = frozenset(("json-file", "local", "none", "journald", ""))
_QUIET = frozenset(("warn", "warning", "error", "fatal"))


def _configured(engine: Engine) -> bool:
    """Whether anything is known of the daemon: without its answer and its settings a default is only a guess."""
    return bool(engine.answers or engine.settings or engine.says)


def sure(decide: Callable[[Engine, Case], Verdict]) -> Callable[[Engine, Case], Verdict]:
    """The judgement, or could not tell where neither the daemon nor its settings were seen."""

    def careful(engine: Engine, case: Case) -> Verdict:
        return (
            decide(engine, case) if _configured(engine) else unknown("The daemon and its settings were not seen.")
        )

    return careful


def _switched(*names: str, wanted: bool, default: bool) -> Callable[[Engine, Case], Verdict]:
    """A judgement on a switch of the daemon that has a default."""

    def decide(engine: Engine, _: Case) -> Verdict:
        given = switch(engine.settings, *names)
        if given is None and value(engine.settings, *names) is not None:
            return unknown(f"{shown(named(engine.settings, *names))} is neither true nor false.")
        seen = shown(named(engine.settings, *names)) or f"{names[0]} is not set: {str(default).lower()}"
        return judged((default if given is None else given) is wanted, seen + ".")

    return sure(decide)


def _rootless(engine: Engine, _: Case) -> Verdict:
    if engine.uid or any("rootless" in one for one in security_options(engine)):
        return good(
            f"The daemon runs as uid {engine.uid}." if engine.uid else "The daemon says that it is rootless."
        )
    return bad("The daemon runs as root.")


def _log_level(engine: Engine, _: Case) -> Verdict:
    level = value(engine.settings, "log-level") or "info"
    return judged(level.lower() not in {*_QUIET, "debug", "trace"}, f"log-level is {level}.")


def _insecure(engine: Engine, _: Case) -> Verdict:
    found = values(engine.settings, "insecure-registries", "insecure-registry")
    found += values(engine.says, "RegistryConfig.InsecureRegistryCIDRs")
    found += [
        one.name.removeprefix("RegistryConfig.IndexConfigs.").rpartition(".")[0]
        for one in named(engine.says, "RegistryConfig.IndexConfigs")
        if one.name.lower().endswith(".secure") and as_switch(one.value) is False
    ]
    outside = sorted({one for one in found if not LOCAL_REGISTRY.match(one)})
    return (
        bad(f"Taken without TLS: {', '.join(outside)}.") if outside else good("No registry is taken without TLS.")
    )


def _storage(refused: str) -> Callable[[Engine, Case], Verdict]:
    def decide(engine: Engine, _: Case) -> Verdict:
        driver = value(engine.says, "Driver") or value(engine.settings, "storage-driver")
        if driver is None and not engine.answers:
            return unknown("The storage driver was not seen.")
        return judged(driver != refused, f"The storage driver is {driver or 'the default'}.")

    return sure(decide)


def _tls(engine: Engine, case: Case) -> Verdict:
    hosts = values(engine.settings, "hosts", "host", "H")
    listening = [one for one in case.facts.listening if re.search(r":237[56]$", one)]
    network = [one for one in hosts if one.startswith("tcp:")] or listening
    if not network:
        return good("The daemon listens on local sockets only.")
    verified = switch(engine.settings, "tlsverify") is True
    given = all(value(engine.settings, name) for name in ("tlscacert", "tlscert", "tlskey"))
    if verified and given:
        return good(f"{', '.join(network)} asks for client certificates.")
    if verified:
        return good(f"{', '.join(network)} asks for client certificates (the default certificate files).")
    return bad(f"{', '.join(network)} takes commands from anybody.", severity=Severity.CRITICAL)


def _ulimits(engine: Engine, _: Case) -> Verdict:
    found = named(engine.settings, "default-ulimits", "default-ulimit")
    return judged(bool(found), f"{shown(found) or 'No default-ulimits are set'}.")


def _userns(engine: Engine, _: Case) -> Verdict:
    given = value(engine.settings, "userns-remap")
    if given or engine.uid or any("userns" in one or "rootless" in one for one in security_options(engine)):
        return good(f"userns-remap is {given or 'in force'}." if not engine.uid else "The daemon is rootless.")
    return bad("Root in a container is root on the host.")


def _cgroup_parent(engine: Engine, _: Case) -> Verdict:
    given = value(engine.settings, "cgroup-parent")
    return judged(
        given in {None, "", "docker", "/docker", "system.slice"}, f"cgroup-parent is {given or 'not set'}."
    )


def _base_size(engine: Engine, _: Case) -> Verdict:
    found = [one for one in values(engine.settings, "storage-opts", "storage-opt") if "dm.basesize" in one]
    return judged(not found, ", ".join(found) or "dm.basesize is not set.")


def _authorization(engine: Engine, _: Case) -> Verdict:
    found = values(engine.settings, "authorization-plugins", "authorization-plugin")
    found += values(engine.says, "Plugins.Authorization")
    return judged(bool(found), f"Authorization plugins: {', '.join(sorted(set(found))) or 'none'}.")


def _remote_log(engine: Engine, _: Case) -> Verdict:
    driver = value(engine.settings, "log-driver") or value(engine.says, "LoggingDriver") or ""
    return judged(driver not in _LOCAL_LOGS, f"log-driver is {driver or 'the default, json-file'}.")


def _live_restore(engine: Engine, _: Case) -> Verdict:
    given = switch(engine.says, "LiveRestoreEnabled")
    given = switch(engine.settings, "live-restore") if given is None else given
    if (value(engine.says, "Swarm.LocalNodeState") or "inactive") == "active":
        return not_here("Live-restore and swarm mode exclude each other.")
    return judged(bool(given), f"live-restore is {'on' if given else 'off'}.")


def _seccomp(engine: Engine, _: Case) -> Verdict:
    profile = value(engine.settings, "seccomp-profile")
    said = [one for one in security_options(engine) if "seccomp" in one]
    if profile == "unconfined" or any("unconfined" in one for one in said):
        return bad("Containers get no seccomp filter.", severity=Severity.HIGH)
    if engine.answers and engine.says and not said:
        return bad("The daemon names no seccomp among its security options.", severity=Severity.HIGH)
    return good(f"seccomp profile: {profile or ', '.join(said) or 'the built-in one'}.")


def _experimental(engine: Engine, _: Case) -> Verdict:
    given = switch(engine.says, "ExperimentalBuild")
    given = switch(engine.settings, "experimental") if given is None else given
    return judged(not given, f"experimental is {'on' if given else 'off'}.")


def _legacy_registry(engine: Engine, _: Case) -> Verdict:
    version = upstream(engine.version)
    if version is None:
        return unknown("The version of the daemon was not seen.")
    if version[:2] >= _LEGACY_GONE:
        return good(f"Docker {engine.version} no longer knows registries of version 1.")
    return judged(switch(engine.settings, "disable-legacy-registry"), f"Docker {engine.version}.", missing="")


def _mirrors(engine: Engine, _: Case) -> Verdict:
    found = values(engine.settings, "registry-mirrors", "registry-mirror")
    plain = [one for one in found if one.startswith("http://") and not LOCAL_REGISTRY.match(one[7:])]
    return judged(not plain, f"Registry mirrors: {', '.join(found) or 'none'}.")


def _socket_mode(engine: Engine, _: Case) -> Verdict:
    found = [one for one in values(engine.settings, "hosts", "host", "H") if one.startswith("fd:")]
    group = value(engine.settings, "group")
    allowed = group in {None, "", "docker", "root"}
    return judged(allowed, f"The socket's group is {group or 'docker'}{' (by systemd)' if found else ''}.")


_CONFIGURE = "In /etc/docker/daemon.json, then restart the daemon: "

CHECKS: tuple[Check, ...] = (
    _daemon(
        "daemon-rootless",
        "The daemon runs without root",
        Severity.MEDIUM,
        of_docker(sure(_rootless)),
        source="Docker documentation, “Rootless mode”",
        remedy="Set up a rootless daemon (`dockerd-rootless-setuptool.sh install`) where its limits allow it.",
        cis="2.1",
        breaks="Ports below 1024, some storage drivers, AppArmor profiles of containers.",
    ),
    _daemon(
        "daemon-icc",
        "Containers on the default bridge cannot reach each other",
        Severity.MEDIUM,
        of_docker(_switched("icc", wanted=False, default=True)),
        source=_DOCKERD,
        remedy=_CONFIGURE + '`"icc": false`; containers that talk get a network of their own.',
        cis="2.2",
        breaks="Containers that talk over the default bridge without `--link`.",
    ),
    _daemon(
        "daemon-log-level",
        "The daemon logs at level info",
        Severity.LOW,
        of_docker(sure(_log_level)),
        source=_DOCKERD,
        remedy=_CONFIGURE + '`"log-level": "info"`.',
        cis="2.3",
    ),
    _daemon(
        "daemon-iptables",
        "The daemon keeps its packet filter rules itself",
        Severity.MEDIUM,
        of_docker(_switched("iptables", wanted=True, default=True)),
        source="Docker documentation, “Packet filtering and firewalls”",
        remedy=_CONFIGURE + 'leave out `"iptables": false`.',
        cis="2.4",
        breaks="Rules of your own that stand in for Docker's.",
    ),
    _daemon(
        "daemon-insecure-registries",
        "No registry is taken without TLS",
        Severity.HIGH,
        of_docker(sure(_insecure)),
        source=_DOCKERD,
        remedy="Give the registry a certificate, and take it out of `insecure-registries`.",
        cis="2.5",
    ),
    _daemon(
        "daemon-aufs",
        "The storage driver is not aufs",
        Severity.LOW,
        of_docker(_storage("aufs")),
        source="Docker documentation, “Select a storage driver”",
        remedy=_CONFIGURE + '`"storage-driver": "overlay2"`; images have to be fetched again.',
        cis="2.6",
    ),
    _daemon(
        "daemon-devicemapper",
        "The storage driver is not devicemapper",
        Severity.LOW,
        of_docker(_storage("devicemapper")),
        source="Docker documentation, “Deprecated features”",
        remedy=_CONFIGURE + '`"storage-driver": "overlay2"`; images have to be fetched again.',
    ),
    _daemon(
        "daemon-tls",
        "Who commands the daemon over the network shows a certificate",
        Severity.HIGH,
        of_docker(sure(_tls)),
        source="Docker documentation, “Protect the Docker daemon socket”",
        remedy="Leave out the tcp host and use SSH, or set tlsverify, tlscacert, tlscert and tlskey.",
        cis="2.7",
        breaks="Clients without a certificate.",
    ),
    _daemon(
        "daemon-default-ulimits",
        "Containers get limits by default",
        Severity.LOW,
        of_docker(sure(_ulimits)),
        source=_DOCKERD,
        remedy=_CONFIGURE + '`"default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 4096}}`.',
        cis="2.8",
        breaks="Programs that open more files; give them a limit of their own with --ulimit.",
    ),
    _daemon(
        "daemon-userns-remap",
        "Root in a container is nobody on the host",
        Severity.MEDIUM,
        of_docker(sure(_userns)),
        source="Docker documentation, “Isolate containers with a user namespace”",
        remedy=_CONFIGURE + '`"userns-remap": "default"`; images and volumes start anew.',
        cis="2.9",
        level=2,
        breaks="Containers with --privileged, --pid=host or --network=host need --userns=host; files of volumes "
        "change their owners.",
    ),
    _daemon(
        "daemon-cgroup-parent",
        "Containers are below the default cgroup",
        Severity.LOW,
        of_docker(sure(_cgroup_parent)),
        source=_DOCKERD,
        remedy=_CONFIGURE + "leave out `cgroup-parent`, or make sure that its limits are meant.",
        cis="2.10",
        level=2,
    ),
    _daemon(
        "daemon-base-size",
        "The size of containers' base device is the default",
        Severity.LOW,
        of_docker(sure(_base_size)),
        source="Docker documentation, “Device Mapper storage driver”",
        remedy=_CONFIGURE + "leave out `dm.basesize`.",
        cis="2.11",
        level=2,
    ),
    _daemon(
        "daemon-authorization",
        "A plugin decides who may do what with the daemon",
        Severity.LOW,
        of_docker(sure(_authorization)),
        source="Docker documentation, “Access authorization plugin”",
        remedy=_CONFIGURE + "`authorization-plugins` with a plugin that knows your rules; or rootless daemons.",
        cis="2.12",
        level=2,
    ),
    _daemon(
        "daemon-remote-log",
        "Logs of containers leave the host",
        Severity.LOW,
        of_docker(sure(_remote_log)),
        source="Docker documentation, “Configure logging drivers”",
        remedy=_CONFIGURE + "`log-driver` with one that sends (syslog, gelf, fluentd, …), or collect the files.",
        cis="2.13",
        level=2,
        breaks="`docker logs`, with some drivers.",
    ),
    _daemon(
        "daemon-no-new-privileges",
        "Containers cannot gain privileges, by default",
        Severity.MEDIUM,
        of_docker(_switched("no-new-privileges", wanted=True, default=False)),
        source="Linux documentation, userspace-api/no_new_privs",
        remedy=_CONFIGURE + '`"no-new-privileges": true`.',
        cis="2.14",
        breaks="sudo, su and ping with a set-user-id bit in containers.",
    ),
    _daemon(
        "daemon-live-restore",
        "Containers go on while the daemon is away",
        Severity.LOW,
        of_docker(sure(_live_restore)),
        source="Docker documentation, “Live restore”",
        remedy=_CONFIGURE + '`"live-restore": true` (a reload is enough).',
        cis="2.15",
    ),
    _daemon(
        "daemon-userland-proxy",
        "Published ports go without a proxy process",
        Severity.LOW,
        of_docker(_switched("userland-proxy", wanted=False, default=True)),
        source=_DOCKERD,
        remedy=_CONFIGURE + '`"userland-proxy": false`.',
        cis="2.16",
        breaks="Published IPv6 ports on hosts without ip6tables.",
    ),
    _daemon(
        "daemon-seccomp",
        "Every container gets a seccomp filter",
        Severity.MEDIUM,
        of_docker(sure(_seccomp)),
        source="Docker documentation, “Seccomp security profiles”",
        remedy=_CONFIGURE + 'leave out `"seccomp-profile": "unconfined"`.',
        cis="2.17",
        level=2,
    ),
    _daemon(
        "daemon-experimental",
        "Nothing experimental is on",
        Severity.LOW,
        of_docker(sure(_experimental)),
        source=_DOCKERD,
        remedy=_CONFIGURE + 'leave out `"experimental": true`.',
        cis="2.18",
    ),
    _daemon(
        "daemon-legacy-registry",
        "Registries of version 1 are not used",
        Severity.MEDIUM,
        of_docker(_legacy_registry),
        source="Docker documentation, “Deprecated features”",
        remedy="Bring in a Docker of 17.12 or newer.",
    ),
    _daemon(
        "daemon-mirrors",
        "Mirrors of registries are reached over TLS",
        Severity.MEDIUM,
        of_docker(sure(_mirrors)),
        source="Docker documentation, “Mirror”",
        remedy=_CONFIGURE + "give `registry-mirrors` https:// addresses.",
    ),
    _daemon(
        "daemon-socket-group",
        "The daemon's socket belongs to no group of many",
        Severity.HIGH,
        of_docker(sure(_socket_mode)),
        source=_DOCKERD,
        remedy=_CONFIGURE + "leave out `group`.",
    ),
)
