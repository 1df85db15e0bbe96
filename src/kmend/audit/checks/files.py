"""Checks of files and folders of engines: who owns them, who may read and write them."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import partial
from typing import NamedTuple

from kmend.audit.check import Case, Check, Verdict, bad, check, good, not_here, unknown
from kmend.audit.reading import one_name, value
from kmend.model.facts import Engine, EngineKind, FileFacts
from kmend.model.finding import Area, Severity

_files = partial(check, Area.FILES)
_ANYONE_WRITES = 0o002


class Place(NamedTuple):
    """A file with what it must be."""

    name: str
    """Begin of the checks' ids."""
    title: str
    paths: tuple[str, ...]
    """Patterns; the settings of the daemon may name more (``@tlskey``)."""
    mode: int
    """Bits that may be set, at most."""
    source: str
    cis_owner: str = ""
    cis_mode: str = ""
    group: str = "root"
    level: int = 1
    severity: Severity = Severity.MEDIUM


_UNIT = ("/etc/systemd/system/{}", "/usr/lib/systemd/system/{}", "/lib/systemd/system/{}")
_SYSTEMD = "systemd.unit(5)"
_DOCKER_TLS = "Docker documentation, “Protect the Docker daemon socket”"
_SOCKET = "Docker documentation, “Docker daemon attack surface”"


def _unit(name: str) -> tuple[str, ...]:
    return tuple(one.format(name) for one in _UNIT)


PLACES: tuple[Place, ...] = (
    Place("docker-service", "The unit file of Docker", _unit("docker.service"), 0o644, _SYSTEMD, "3.1", "3.2"),
    Place(
        "docker-socket-unit",
        "The unit file of Docker's socket",
        _unit("docker.socket"),
        0o644,
        _SYSTEMD,
        "3.3",
        "3.4",
    ),
    Place("docker-folder", "The folder /etc/docker", ("/etc/docker",), 0o755, "dockerd reference", "3.5", "3.6"),
    Place(
        "registry-certificates",
        "Certificates of registries",
        ("/etc/docker/certs.d/*",),
        0o444,
        "Docker documentation, “Verify repository client with certificates”",
        "3.7",
        "3.8",
    ),
    Place("tls-ca", "The CA certificate of the daemon", ("@tlscacert",), 0o444, _DOCKER_TLS, "3.9", "3.10"),
    Place("tls-certificate", "The certificate of the daemon", ("@tlscert",), 0o444, _DOCKER_TLS, "3.11", "3.12"),
    Place(
        "tls-key",
        "The key of the daemon",
        ("@tlskey",),
        0o400,
        _DOCKER_TLS,
        "3.13",
        "3.14",
        severity=Severity.CRITICAL,
    ),
    Place(
        "docker-socket",
        "Docker's socket",
        ("/run/docker.sock", "/var/run/docker.sock"),
        0o660,
        _SOCKET,
        "3.15",
        "3.16",
        group="docker",
        severity=Severity.CRITICAL,
    ),
    Place(
        "daemon-json",
        "Docker's daemon.json",
        ("/etc/docker/daemon.json",),
        0o644,
        "dockerd reference",
        "3.17",
        "3.18",
    ),
    Place(
        "default-docker",
        "Docker's environment file",
        ("/etc/default/docker",),
        0o644,
        "dockerd reference",
        "3.19",
        "3.20",
        level=2,
    ),
    Place(
        "sysconfig-docker",
        "Docker's environment file",
        ("/etc/sysconfig/docker",),
        0o644,
        "dockerd reference",
        "3.21",
        "3.22",
        level=2,
    ),
    Place(
        "containerd-socket",
        "containerd's socket",
        ("/run/containerd/containerd.sock",),
        0o660,
        "containerd documentation, “containerd-config.toml(5)”",
        "3.23",
        "3.24",
        severity=Severity.CRITICAL,
    ),
    Place(
        "podman-socket",
        "Podman's socket",
        ("/run/podman/podman.sock",),
        0o660,
        "podman-system-service(1)",
        severity=Severity.CRITICAL,
    ),
    Place("crio-socket", "CRI-O's socket", ("/run/crio/crio.sock",), 0o660, "crio(8)", severity=Severity.CRITICAL),
    Place(
        "containerd-config",
        "containerd's config.toml",
        ("/etc/containerd/config.toml",),
        0o644,
        "containerd-config.toml(5)",
    ),
    Place("containerd-service", "The unit file of containerd", _unit("containerd.service"), 0o644, _SYSTEMD),
    Place("containers-conf", "containers.conf", ("/etc/containers/containers.conf",), 0o644, "containers.conf(5)"),
    Place(
        "image-policy",
        "The policy on signatures of images",
        ("/etc/containers/policy.json",),
        0o644,
        "containers-policy.json(5)",
        severity=Severity.HIGH,
    ),
    Place(
        "registries-conf",
        "registries.conf",
        ("/etc/containers/registries.conf",),
        0o644,
        "containers-registries.conf(5)",
    ),
    Place(
        "docker-data",
        "Docker's data folder",
        ("/var/lib/docker",),
        0o711,
        "Moby advisory GHSA-3fwx-pjgw-3558 (CVE-2021-41091)",
        severity=Severity.HIGH,
    ),
    Place(
        "containerd-data",
        "containerd's data folder",
        ("/var/lib/containerd",),
        0o711,
        "containerd advisory GHSA-pwhc-rpq9-4c8w (CVE-2024-25621)",
        severity=Severity.HIGH,
    ),
    Place(
        "registry-logins",
        "Saved logins to registries",
        ("/root/.docker/config.json", "/root/.config/containers/auth.json", "/run/containers/0/auth.json"),
        0o600,
        "containers-auth.json(5)",
        severity=Severity.HIGH,
    ),
    Place(
        "cni-config",
        "Network configurations of CNI",
        ("/etc/cni/net.d", "/etc/cni/net.d/*"),
        0o755,
        "CNI specification",
    ),
    Place(
        "cni-plugins",
        "Network plugins of CNI",
        ("/opt/cni/bin", "/opt/cni/bin/*", "/usr/lib/cni", "/usr/lib/cni/*"),
        0o755,
        "CNI specification",
        severity=Severity.HIGH,
    ),
    Place(
        "sub-ids",
        "Lists of subordinate ids",
        ("/etc/subuid", "/etc/subgid"),
        0o644,
        "subuid(5)",
        severity=Severity.HIGH,
    ),
)


def found_files(place_paths: tuple[str, ...], case: Case) -> tuple[list[FileFacts], bool]:
    """The files that patterns and settings name, each once, and whether any of the patterns was looked for."""
    patterns = [path for path in place_paths if not path.startswith("@")]
    for engine in case.engines(EngineKind.DOCKER):
        patterns += [
            given for path in place_paths if path.startswith("@") and (given := value(engine.settings, path[1:]))
        ]
    found = [one for one in case.facts.files if any(fnmatchcase(one.path, pattern) for pattern in patterns)]
    # A link's own mode says nothing: what it leads to counts, and is looked at under its own name.
    there = {one_name(one.path): one for one in found if one.exists and one.kind != "link"}
    return list(there.values()), bool(found) or not patterns or all("*" in pattern for pattern in patterns)


def _owned(place: Place, case: Case) -> Iterator[Verdict]:
    groups = {one.gid: one.name for one in case.facts.groups} | {0: "root"}
    for one in _looked(place, case):
        if isinstance(one, Verdict):
            yield one
            continue
        group = groups.get(one.gid, str(one.gid))
        seen = f"Its owner is uid {one.uid}, its group {group}."
        # Reading rights of a group are judged with the mode; a group of its own is as Docker sets it up.
        right = one.uid == 0 and group in {"root", place.group}
        yield (
            good(seen, subject=one.path)
            if right
            else bad(seen, subject=one.path, remedy=f"`chown root:{place.group} {one.path}`")
        )


def _closed(place: Place, case: Case) -> Iterator[Verdict]:
    for one in _looked(place, case):
        if isinstance(one, Verdict):
            yield one
            continue
        # A folder among the certificates has to be entered.
        allowed = place.mode | (0o111 if one.kind == "folder" and place.mode & 0o100 == 0 else 0)
        allowed |= 0o200 if place.mode in {0o444, 0o400} and one.kind == "folder" else 0
        extra = one.mode & 0o7777 & ~allowed
        seen = f"Its mode is {one.mode:04o}."
        if not extra:
            yield good(seen, subject=one.path)
        else:
            severity = Severity.CRITICAL if extra & _ANYONE_WRITES else None
            yield bad(
                seen, subject=one.path, severity=severity, remedy=f"`chmod {one.mode & allowed:04o} {one.path}`"
            )


def _looked(place: Place, case: Case) -> Iterator[FileFacts | Verdict]:
    found, looked = found_files(place.paths, case)
    yield from found
    if not found:
        paths = ", ".join(path for path in place.paths if not path.startswith("@")) or place.title
        unseen = next((case.unseen[path] for path in place.paths if path in case.unseen), "")
        if unseen:
            yield unknown(f"{paths}: {unseen}.", subject=paths)
        elif looked:
            yield not_here(f"{paths} is not here.", subject=paths)
        else:
            yield unknown(f"{paths} was not looked for.", subject=paths)


def _checks(place: Place) -> tuple[Check, Check]:
    return (
        _files(
            f"file-{place.name}-owner",
            f"{place.title}: owned by root" + (f" and group {place.group}" if place.group != "root" else ""),
            max(place.severity, Severity.MEDIUM, key=lambda one: one.rank),
            partial(_owned, place),
            source=place.source,
            remedy=f"Give it back: `chown root:{place.group}`.",
            cis=place.cis_owner,
            level=place.level if place.cis_owner else 0,
        ),
        _files(
            f"file-{place.name}-mode",
            f"{place.title}: mode {place.mode:04o} or stricter",
            place.severity,
            partial(_closed, place),
            source=place.source,
            remedy=f"Take the rights away: `chmod` to {place.mode:04o} or stricter.",
            cis=place.cis_mode,
            level=place.level if place.cis_mode else 0,
        ),
    )


def _engine_name(engine: Engine) -> str:
    return f"{engine.kind.value} of uid {engine.uid}" if engine.uid else engine.kind.value


def _rootless_sockets(case: Case) -> Iterator[Verdict]:
    """Sockets of rootless engines: only their user may come near."""
    found = False
    for engine in case.facts.engines:
        file = case.files.get(engine.socket.removeprefix("unix://"))
        if engine.uid and file and file.exists:
            found = True
            subject = f"{file.path} ({_engine_name(engine)})"
            right = file.uid == engine.uid and not file.mode & 0o007
            seen = f"Its owner is uid {file.uid}, its mode {file.mode:04o}."
            yield good(seen, subject=subject) if right else bad(seen, subject=subject)
    if not found:
        yield not_here("No socket of a rootless engine is here.")


CHECKS: tuple[Check, ...] = (
    *(one for place in PLACES for one in _checks(place)),
    _files(
        "file-rootless-socket",
        "A rootless engine's socket is its user's alone",
        Severity.HIGH,
        _rootless_sockets,
        source="Docker documentation, “Rootless mode”; podman-system-service(1)",
        remedy="Give it back to the user and close it for others (`chmod o-rwx`).",
    ),
)
