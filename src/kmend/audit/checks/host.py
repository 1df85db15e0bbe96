"""Checks of the host itself: who may command the engines, what is logged, what listens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise

from kmend.audit.check import Case, Check, Verdict, bad, check, good, judged, not_here, of_host, unknown
from kmend.audit.reading import one_name, value
from kmend.audit.versions import upstream
from kmend.model.facts import EngineKind, IdRange
from kmend.model.finding import Actionable, Area, Severity

_DOCKER_DOCS = "Docker documentation, “Docker daemon attack surface”"
_AUDIT = "auditctl(8), “-w path” and “-F dir=”"
_host = partial(check, Area.HOST)
# Series that still got fixes from the project in 2026.
_MAINTAINED_DOCKER = 28
_PRIVILEGED_GROUPS = ("docker", "podman", "containerd", "lxd", "incus-admin")
_ENGINE_PORTS = {"2375": "Docker without TLS", "2376": "Docker", "10255": "kubelet, read-only", "2379": "etcd"}


def _partition(case: Case) -> Verdict:
    docker = case.engines(EngineKind.DOCKER)
    if not docker:
        return not_here("Docker is not here.")
    root = value(docker[0].says, "DockerRootDir") or value(docker[0].settings, "data-root") or "/var/lib/docker"
    if not case.facts.mounts:
        return unknown("The mounts of the host were not seen.")
    above = [
        one.target for one in case.facts.mounts if one.target != "/" and f"{root}/".startswith(f"{one.target}/")
    ]
    if above:
        return good(f"{root} is on the file system of {max(above, key=len)}.")
    return bad(f"{root} shares the root file system: containers can fill it for the whole host.")


def _group(case: Case) -> Iterator[Verdict]:
    groups = [one for one in case.facts.groups if one.name in _PRIVILEGED_GROUPS]
    for group in groups:
        primary = [one.name for one in case.facts.users if one.gid == group.gid]
        people = sorted({*group.members, *primary} - {"root"})
        if people:
            yield bad(
                f"Members: {', '.join(people)}: each of them is as good as root.", subject=f"group {group.name}"
            )
        else:
            yield good("It has no members but root.", subject=f"group {group.name}")
    if not groups:
        yield (
            not_here("No group gives the right to command an engine.")
            if case.facts.groups
            else unknown("The groups of the host were not seen.")
        )


def _extra_root(case: Case) -> Verdict:
    if not case.facts.users:
        return unknown("The users of the host were not seen.")
    others = [one.name for one in case.facts.users if one.uid == 0 and one.name != "root"]
    return judged(not others, f"Users with uid 0: {', '.join(['root', *others])}.")


def _security_module(case: Case) -> Verdict:
    modules = case.facts.kernel.security_modules
    if not modules:
        return unknown("The kernel's list of security modules was not seen.")
    found = [one for one in modules if one in {"apparmor", "selinux", "smack", "tomoyo"}]
    return judged(bool(found), f"Security modules of the kernel: {', '.join(modules)}.")


def _docker_series(case: Case) -> Iterator[Verdict]:
    docker = case.engines(EngineKind.DOCKER)
    for one in docker:
        program = next((found for found in case.facts.programs if found.name == "dockerd"), None)
        version = upstream(one.version or (program.build_version if program else ""))
        package = program.package if program else ""
        if package and not package.startswith("docker-"):
            yield good(f"The distribution's package {package} is maintained with the distribution.")
        elif version is None:
            yield unknown("The version of the daemon was not seen.")
        elif version[0] < _MAINTAINED_DOCKER:
            yield bad(f"Docker {one.version} is of a series that gets no fixes any more.")
        else:
            yield good(f"Docker {one.version}")
    if not docker:
        yield not_here("Docker is not here.")


def _listening(case: Case) -> Iterator[Verdict]:
    open_ports = []
    for line in case.facts.listening:
        kind, _, place = line.partition(" ")
        address, _, port = place.rpartition(":")
        if kind.startswith("tcp") and port in _ENGINE_PORTS and not re.match(r"\[?(127\.|::1\]?$)", address):
            open_ports.append(f"{line} ({_ENGINE_PORTS[port]})")
    if any("without TLS" in one or "read-only" in one for one in open_ports):
        yield bad(f"Listening: {', '.join(open_ports)}.", severity=Severity.CRITICAL)
    elif open_ports:
        yield bad(f"Listening: {', '.join(open_ports)}.")
    elif case.facts.listening:
        yield good("No port of an engine listens for other machines.")
    else:
        yield unknown("The listening sockets were not seen.")


def _sub_ids(case: Case) -> Verdict:
    ranges = sorted(case.facts.sub_uids, key=lambda one: one.outside)
    if not ranges:
        return not_here("No user has subordinate ids.")
    clashes = [_clash(one, other) for one, other in pairwise(ranges) if _overlap(one, other)]
    users = {one.uid: one.name for one in case.facts.users if one.uid}
    for one in ranges:
        clashes += [
            f"{users[uid]} ({uid}) lies in the ids of {one.owner}"
            for uid in users
            if one.outside <= uid < one.outside + one.count
        ]
    return bad(f"{'; '.join(clashes)}.") if clashes else good(f"{len(ranges)} ranges, none shared.")


def _overlap(one: IdRange, other: IdRange) -> bool:
    return one.owner != other.owner and other.outside < one.outside + one.count


def _clash(one: IdRange, other: IdRange) -> str:
    return f"{one.owner} and {other.owner} share ids from {other.outside}"


def _watched(path: str, rules: Iterable[str]) -> str:
    """The audit rule that watches a path or a folder above it; empty when there is none."""
    for rule in rules:
        found = re.search(r"(?:^|\s)-w\s+(\S+)|-F\s+(?:path|dir)=(\S+)", rule)
        place = one_name(f"{(found[1] or found[2]).rstrip('/')}/") if found else ""
        left_out = re.search(r"-[aA]\s+(never,|\S+,never)", rule)
        if place and not left_out and one_name(f"{path}/").startswith(place):
            return rule
    return ""


def _places(path: str, case: Case) -> tuple[list[str], bool]:
    """Where the file is on this host, and whether it was looked for: programs and units move about."""
    folder, _, name = path.rpartition("/")
    if folder == "/usr/bin":
        programs = case.facts.programs
        return [f"/{one.path.lstrip('/')}" for one in programs if one.name == name], bool(programs)
    paths = [path, f"/etc/systemd/system/{name}", f"/lib/systemd/system/{name}"] if "systemd" in folder else [path]
    known = [case.files[one] for one in paths if one in case.files]
    return [one.path for one in known if one.exists], bool(known)


def _audited(path: str) -> Check:
    def decide(case: Case) -> Verdict:
        there, looked = _places(path, case)
        rules = case.facts.audit_rules
        if looked and not there:
            return not_here(f"{path} is not here.")
        if rules is None:
            return unknown("The audit system's rules were not seen.")
        bare = [one for one in there or [path] if not _watched(one, rules)]
        if not bare:
            return good(f"Watched by: {_watched((there or [path])[0], rules)}")
        return (
            bad(f"No audit rule watches {', '.join(bare)}.") if looked else unknown(f"{path} was not looked for.")
        )

    return _host(
        f"host-audit-{path.strip('/').replace('/', '-').replace('.', '-')}",
        f"Changes of {path} are recorded by the audit system",
        Severity.LOW,
        of_host(lambda case: decide(case)._replace(subject=path)),
        source=_AUDIT,
        remedy=f"Add `-w {path} -p wa -k container-engine` to /etc/audit/rules.d/ and run `augenrules --load`.",
        cis=_AUDITED[path],
        level=1 if _AUDITED[path] in _LEVEL_1 else 2,
    )


_AUDITED = {
    "/usr/bin/dockerd": "1.1.3",
    "/run/containerd": "1.1.4",
    "/var/lib/docker": "1.1.5",
    "/etc/docker": "1.1.6",
    "/usr/lib/systemd/system/docker.service": "1.1.7",
    "/run/containerd/containerd.sock": "1.1.8",
    "/run/docker.sock": "1.1.9",
    "/etc/default/docker": "1.1.10",
    "/etc/docker/daemon.json": "1.1.11",
    "/etc/containerd/config.toml": "1.1.12",
    "/etc/sysconfig/docker": "1.1.13",
    "/usr/bin/containerd": "1.1.14",
    "/usr/bin/containerd-shim": "1.1.15",
    "/usr/bin/containerd-shim-runc-v1": "1.1.16",
    "/usr/bin/containerd-shim-runc-v2": "1.1.17",
    "/usr/bin/runc": "1.1.18",
}
_LEVEL_1 = frozenset(("1.1.3", "1.1.4", "1.1.5", "1.1.6"))

CHECKS: tuple[Check, ...] = (
    _host(
        "host-partition",
        "Docker's data are on a file system of their own",
        Severity.LOW,
        of_host(_partition),
        source="Docker documentation, “data-root”",
        remedy="Mount a file system of its own at /var/lib/docker, or set data-root to a folder on one.",
        cis="1.1.1",
        actionable=Actionable.BOOT,
        breaks="The daemon has to be stopped while its data move.",
    ),
    _host(
        "host-engine-groups",
        "Nobody but root may command an engine through a group",
        Severity.HIGH,
        _group,
        source=_DOCKER_DOCS,
        remedy="Take people out of the group (`gpasswd -d USER docker`); give them rootless containers.",
        cis="1.1.2",
        breaks="Scripts of these people that call the engine without sudo.",
    ),
    *(_audited(path) for path in _AUDITED),
    _host(
        "host-security-module",
        "A mandatory access control of the kernel confines containers",
        Severity.HIGH,
        of_host(_security_module),
        source="Linux documentation, admin-guide/LSM",
        remedy="Boot with `lsm=` that names apparmor or selinux, and install its profiles.",
        cis="1.2.1",
        actionable=Actionable.BOOT,
    ),
    _host(
        "host-docker-series",
        "Docker is of a series that gets fixes",
        Severity.MEDIUM,
        _docker_series,
        source="Moby project, “BRANCHES-AND-TAGS”",
        remedy="Bring in a newer Docker; with live-restore containers go on meanwhile.",
        cis="1.2.2",
    ),
    _host(
        "host-extra-root",
        "Only root has uid 0",
        Severity.CRITICAL,
        of_host(_extra_root),
        source="passwd(5)",
        remedy="Give these users a uid of their own, or remove them.",
    ),
    _host(
        "host-listening",
        "No engine listens for other machines without protection",
        Severity.HIGH,
        _listening,
        source=_DOCKER_DOCS,
        remedy="Bind it to a local socket or to 127.0.0.1, or ask for client certificates.",
    ),
    _host(
        "host-subordinate-ids",
        "No two users share subordinate ids",
        Severity.HIGH,
        of_host(_sub_ids),
        source="subuid(5), user_namespaces(7)",
        remedy="Give each user a range of its own in /etc/subuid and /etc/subgid, away from ids of real users.",
        breaks="Files of rootless containers keep their old owners: `podman unshare chown` or a new store.",
    ),
)
