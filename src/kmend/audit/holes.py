"""Well-known holes in container runtimes and engines, and the versions that closed them.

Upstream versions are those of the projects' own advisories. Debian's are read from its packages' changelogs.
The list is no scanner's database: it has what lets a container or a user out, and works without a network.
"""

from __future__ import annotations

from typing import NamedTuple

from kmend.model.finding import Severity


class Hole(NamedTuple):
    """A hole in one program."""

    cve: str
    program: str
    fixed: tuple[str, ...]
    """Upstream versions, one per series that was maintained."""
    what: str
    severity: Severity = Severity.HIGH
    since: str = ""
    """First upstream version that has it; empty for all."""
    packages: tuple[tuple[str, str], ...] = ()
    """``debian 12`` → first version of its package without the hole."""


_CRITICAL = Severity.CRITICAL
_MEDIUM = Severity.MEDIUM
_RUNC_2025 = ("1.2.8", "1.3.3", "1.4.0-rc.3")
_CONTAINERD_2025 = ("1.7.29", "2.0.7", "2.1.5", "2.2.0")
_BOOKWORM = "debian 12"

HOLES: tuple[Hole, ...] = (
    Hole("CVE-2019-5736", "runc", ("1.0.0-rc7",), "a container overwrites runc on the host", _CRITICAL),
    Hole("CVE-2019-16884", "runc", ("1.0.0-rc9",), "a mount over /proc turns the LSM profile off"),
    Hole("CVE-2019-19921", "runc", ("1.0.0-rc10",), "volumes that are swapped while they are mounted lead out"),
    Hole(
        "CVE-2021-30465", "runc", ("1.0.0-rc95",), "links that are swapped while mounting lead to the host's files"
    ),
    Hole("CVE-2021-43784", "runc", ("1.0.3",), "an overflow in the namespace message", _MEDIUM),
    Hole("CVE-2022-29162", "runc", ("1.1.2",), "exec gives inheritable capabilities", _MEDIUM),
    Hole("CVE-2023-25809", "runc", ("1.1.5",), "rootless: the host's cgroup folder can be written", _MEDIUM),
    Hole("CVE-2023-27561", "runc", ("1.1.5",), "links below /proc lead past the LSM profile"),
    Hole("CVE-2023-28642", "runc", ("1.1.5",), "a link at /proc leads past the LSM profile"),
    Hole(
        "CVE-2024-21626",
        "runc",
        ("1.1.12",),
        "a file descriptor that leaks is a way into the host's files",
        _CRITICAL,
        "1.0.0-rc93",
        (("debian 11", "1.0.0~rc93+ds1-5+deb11u3"), (_BOOKWORM, "1.1.5+ds1-1+deb12u1")),
    ),
    Hole("CVE-2024-45310", "runc", ("1.1.14", "1.2.0-rc.3"), "empty files can be made on the host", Severity.LOW),
    Hole(
        "CVE-2025-31133",
        "runc",
        _RUNC_2025,
        "the masking of /proc is led astray: a write to the host's",
        _CRITICAL,
    ),
    Hole("CVE-2025-52565", "runc", _RUNC_2025, "the mount of /dev/console is led astray", _CRITICAL, "1.0.0-rc3"),
    Hole("CVE-2025-52881", "runc", _RUNC_2025, "writes to /proc are led astray, past the LSM profile", _CRITICAL),
    Hole(
        "CVE-2020-15257",
        "containerd",
        ("1.3.9", "1.4.3"),
        "the shim's socket answers the host's network namespace",
    ),
    Hole("CVE-2021-21334", "containerd", ("1.3.10", "1.4.4"), "pods get the environment of others", _MEDIUM),
    Hole(
        "CVE-2021-32760", "containerd", ("1.4.8", "1.5.4"), "unpacking an image changes modes on the host", _MEDIUM
    ),
    Hole("CVE-2021-41103", "containerd", ("1.4.11", "1.5.7"), "users of the host reach files of containers"),
    Hole(
        "CVE-2022-23648", "containerd", ("1.4.13", "1.5.10", "1.6.1"), "an image's volumes show the host's files"
    ),
    Hole("CVE-2022-24769", "containerd", ("1.5.11", "1.6.2"), "containers get inheritable capabilities", _MEDIUM),
    Hole("CVE-2022-31030", "containerd", ("1.5.13", "1.6.6"), "exec fills the memory of the host", _MEDIUM),
    Hole("CVE-2022-23471", "containerd", ("1.5.16", "1.6.12"), "exec fills the memory of the host", _MEDIUM),
    Hole("CVE-2023-25153", "containerd", ("1.5.18", "1.6.18"), "an image fills the memory of the host", _MEDIUM),
    Hole("CVE-2023-25173", "containerd", ("1.5.18", "1.6.18"), "supplementary groups go past limits", _MEDIUM),
    Hole(
        "CVE-2024-40635",
        "containerd",
        ("1.6.38", "1.7.27", "2.0.4"),
        "a large user id becomes root",
        _MEDIUM,
        packages=((_BOOKWORM, "1.6.20~ds1-1+deb12u2"),),
    ),
    Hole(
        "CVE-2024-25621",
        "containerd",
        _CONTAINERD_2025,
        "its folders are open to the host's users",
        packages=((_BOOKWORM, "1.6.20~ds1-1+deb12u2"),),
    ),
    Hole(
        "CVE-2025-64329",
        "containerd",
        _CONTAINERD_2025,
        "attach fills the memory of the host",
        _MEDIUM,
        packages=((_BOOKWORM, "1.6.20~ds1-1+deb12u3"),),
    ),
    Hole(
        "CVE-2026-53488",
        "containerd",
        ("1.7.33", "2.0.10", "2.1.9", "2.2.5", "2.3.2"),
        "labels of an image run commands on the host",
        _CRITICAL,
        "1.7.0",
    ),
    Hole("CVE-2019-13139", "dockerd", ("18.09.4",), "a build address runs commands"),
    Hole(
        "CVE-2019-14271", "dockerd", ("19.03.1",), "docker cp loads code from the container", _CRITICAL, "19.03.0"
    ),
    Hole("CVE-2021-21284", "dockerd", ("19.03.15", "20.10.3"), "remapped root reaches the host's files"),
    Hole("CVE-2021-41091", "dockerd", ("20.10.9",), "the host's users run programs of containers"),
    Hole("CVE-2022-36109", "dockerd", ("20.10.18",), "supplementary groups go past limits", _MEDIUM),
    Hole("CVE-2023-28840", "dockerd", ("20.10.24", "23.0.3"), "encrypted overlay networks take in plain packets"),
    Hole("CVE-2024-24557", "dockerd", ("24.0.9", "25.0.2"), "the build cache can be poisoned", _MEDIUM),
    Hole(
        "CVE-2024-29018",
        "dockerd",
        ("23.0.11", "25.0.5", "26.0.0"),
        "internal networks answer the outside",
        _MEDIUM,
    ),
    Hole(
        "CVE-2024-41110",
        "dockerd",
        ("23.0.15", "25.0.6", "26.1.5", "27.1.1"),
        "a request without a body goes past authorization plugins",
        _CRITICAL,
    ),
    Hole("CVE-2025-54388", "dockerd", ("28.3.3",), "ports of localhost answer the network", _MEDIUM, "28.2.0"),
    Hole("CVE-2026-34040", "dockerd", ("29.3.1",), "a large request goes past authorization plugins"),
    Hole("CVE-2024-23651", "buildkitd", ("0.12.5",), "cache mounts lead to the host's files"),
    Hole("CVE-2024-23652", "buildkitd", ("0.12.5",), "a build removes files of the host", _CRITICAL),
    Hole("CVE-2024-23653", "buildkitd", ("0.12.5",), "a build gets privileges that nobody gave it", _CRITICAL),
    Hole("CVE-2019-10152", "podman", ("1.4.0",), "podman cp follows links to the host's files"),
    Hole("CVE-2022-1227", "podman", ("4.0.0",), "podman top runs code of the container on the host"),
    Hole("CVE-2022-27649", "podman", ("4.0.3",), "containers get inheritable capabilities"),
    Hole("CVE-2024-1753", "podman", ("4.9.4", "5.0.1"), "a build mounts the host's root folder"),
    Hole("CVE-2025-9566", "podman", ("5.6.1",), "kube play overwrites the host's files", since="4.0.0"),
    Hole("CVE-2019-18837", "crun", ("0.10.5",), "links in an image lead to the host's files"),
    Hole("CVE-2022-27650", "crun", ("1.4.4",), "exec gives inheritable capabilities"),
    Hole(
        "CVE-2022-0811",
        "crio",
        ("1.19.6", "1.20.7", "1.21.6", "1.22.3", "1.23.2"),
        "a pod sets any sysctl",
        _CRITICAL,
    ),
    Hole("CVE-2024-5154", "crio", ("1.28.7", "1.29.5", "1.30.1"), "a mount makes links on the host"),
    Hole(
        "CVE-2021-25741", "kubelet", ("1.19.15", "1.20.11", "1.21.5", "1.22.2"), "subPath shows the host's files"
    ),
    Hole(
        "CVE-2023-2431",
        "kubelet",
        ("1.24.14", "1.25.10", "1.26.5", "1.27.2"),
        "an empty seccomp profile is none",
        _MEDIUM,
    ),
    Hole("CVE-2024-10220", "kubelet", ("1.28.12", "1.29.7", "1.30.3"), "gitRepo volumes run commands on the host"),
    Hole(
        "CVE-2025-0426",
        "kubelet",
        ("1.29.14", "1.30.10", "1.31.6", "1.32.2"),
        "checkpoints fill the disk",
        _MEDIUM,
    ),
)

PROGRAMS = tuple(dict.fromkeys(hole.program for hole in HOLES))
"""Programs that the list speaks of."""
