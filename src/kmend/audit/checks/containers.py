"""Checks of running containers, by what the kernel enforces rather than by what the engine was asked for."""

from __future__ import annotations

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
    of_containers,
    unknown,
)
from kmend.audit.reading import value
from kmend.model.facts import Container, EngineKind
from kmend.model.finding import Area, Severity

_container = partial(check, Area.CONTAINERS)
_RUN = "Docker documentation, “docker container run”"
_NAMESPACES = "Linux manual, namespaces(7)"
_CAPABILITIES = "Linux manual, capabilities(7)"
_DEFAULT_CAPABILITIES = frozenset(
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
        "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
    )
)  # fmt: skip
_SHOWN = 5

Decide = Callable[[Container, Case], Verdict]


def shares(one: Container, kind: str) -> bool | None:
    """Whether a container has the host's namespace of a kind; None when it was not seen."""
    return next((space.of_host for space in one.namespaces if space.kind == kind), None)


def in_own_user_namespace(one: Container) -> bool:
    """Whether its capabilities hold in a user namespace of its own only."""
    return shares(one, "user") is False


def _ours(one: Container, key: str) -> str | None:
    return value(one.engine_says, key)


def _root(one: Container, _: Case) -> Verdict:
    if one.uid is None and not one.processes:
        return unknown("The real user of its processes was not seen.")
    roots = sorted({found.name for found in one.processes if found.uid == 0 or found.effective_uid == 0})
    if one.uid == 0 or roots:
        more = f": {', '.join(roots[:_SHOWN])}" if roots else ""
        return bad(f"Processes are root on the host{more}.")
    return good(f"Its first process has uid {one.uid} on the host.")


def _privileged(one: Container, _: Case) -> Verdict:
    return judged(not one.privileged if one.privileged is not None else None, _yes(one.privileged, "privileged"))


def _yes(given: bool | None, word: str) -> str:
    return f"It is {word}." if given else f"It is not {word}."


def _apparmor(one: Container, case: Case) -> Verdict:
    modules = case.facts.kernel.security_modules
    if modules and "apparmor" not in modules:
        return not_here("The kernel has no AppArmor.")
    if not one.apparmor:
        return unknown("Its AppArmor profile was not seen.")
    loose = one.apparmor.startswith("unconfined") or "(complain)" in one.apparmor
    return judged(not loose, f"Its AppArmor profile is {one.apparmor}.")


def _selinux(one: Container, case: Case) -> Verdict:
    modules = case.facts.kernel.security_modules
    if modules and "selinux" not in modules:
        return not_here("The kernel has no SELinux.")
    if not one.selinux:
        return unknown("Its SELinux label was not seen.")
    kind = [*one.selinux.split(":"), "", "", ""][2]
    loose = kind in {"spc_t", "unconfined_t", "unconfined_service_t", "container_runtime_t", "kernel_t", "init_t"}
    return judged(not loose, f"Its SELinux label is {one.selinux}.")


def _capabilities(one: Container, _: Case) -> Verdict:
    if one.capabilities is None:
        return unknown("Its capabilities were not seen.")
    extra = sorted(set(one.capabilities) - _DEFAULT_CAPABILITIES)
    return judged(not extra, f"Beyond the default set: {', '.join(extra) or 'none'}.")


def _without(*names: str) -> Decide:
    """A judgement on capabilities that lead out of a container."""

    def decide(one: Container, _: Case) -> Verdict:
        if one.capabilities is None:
            return unknown("Its capabilities were not seen.")
        found = sorted({f"CAP_{name}" for name in names} & set(one.capabilities))
        if not found:
            return good(f"It has not {' or '.join(f'CAP_{name}' for name in names)}.")
        if in_own_user_namespace(one):
            return good(f"{', '.join(found)} holds in its own user namespace only.")
        return bad(f"It has {', '.join(found)}.")

    return decide


def _own_namespace(kind: str, word: str) -> Decide:
    """A judgement on one namespace."""

    def decide(one: Container, _: Case) -> Verdict:
        shared = shares(one, kind)
        if shared is None:
            given = one.network if kind == "net" else _ours(one, _MODES.get(kind, ""))
            shared = None if given is None or (kind == "net" and not given) else given == "host"
        seen = f"It shares the host's {word}." if shared else f"It has a {word} of its own."
        return judged(None if shared is None else not shared, seen, missing=f"Its {word} was not seen.")

    return decide


_MODES = {
    "pid": "HostConfig.PidMode", "ipc": "HostConfig.IpcMode", "uts": "HostConfig.UTSMode",
    "cgroup": "HostConfig.CgroupnsMode",
}  # fmt: skip


def _host_users(one: Container, case: Case) -> Verdict:
    if (_ours(one, "HostConfig.UsernsMode") or "") == "host":
        return bad("It was told to keep the host's user namespace.")
    shared = shares(one, "user")
    if shared is None:
        return unknown("Its user namespace was not seen.")
    docker = case.engines(EngineKind.DOCKER)
    remapped = any(value(engine.settings, "userns-remap") for engine in docker)
    if shared and one.engine == EngineKind.DOCKER and remapped:
        return bad("It has the host's user namespace, though the daemon remaps.")
    return good("It has the user namespace that its engine gives.")


def _seccomp(one: Container, _: Case) -> Verdict:
    if one.syscalls is None or not one.syscalls.mode:
        given = " ".join(one.security)
        return (
            bad("seccomp=unconfined was asked for.")
            if "seccomp=unconfined" in given
            else unknown("Its seccomp mode was not seen.")
        )
    if one.syscalls.mode == "disabled":
        return bad("It has no seccomp filter.")
    return good(f"seccomp mode {one.syscalls.mode}, profile {one.syscalls.profile or 'not known'}.")


def _open_filter(one: Container, _: Case) -> Verdict:
    """A filter of its own that lets through what lists no call for."""
    if one.syscalls is None or one.syscalls.mode != "filter":
        return not_here("It has no filter.")
    if one.syscalls.default_allows is None:
        return unknown("What its filter lets through was not seen.")
    if one.syscalls.default_allows and len(one.syscalls.refused) < len(_STRONG_CALLS):
        return bad("Its filter lets through every call that it does not name.")
    dangerous = sorted(_STRONG_CALLS.intersection(one.syscalls.allowed))
    if one.syscalls.default_allows:
        dangerous = sorted(_STRONG_CALLS - set(one.syscalls.refused))
    return judged(not dangerous, f"Strong calls that pass the filter: {', '.join(dangerous) or 'none'}.")


_STRONG_CALLS = frozenset((
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "open_by_handle_at", "bpf",
    "userfaultfd", "iopl", "ioperm",
))  # fmt: skip


def _foreign(one: Container) -> list[int]:
    """Processes that were brought in from outside (exec), by their places in ``processes``."""
    inside = {process.pid for process in one.processes}
    return [
        place
        for place, process in enumerate(one.processes)
        if process.pid != one.pid and process.parent and process.parent not in inside
    ]


def _strong_exec(one: Container, _: Case) -> Verdict:
    if one.capabilities is None or not one.processes:
        return unknown("Its processes or capabilities were not seen.")
    if one.privileged:
        return not_here("It is privileged itself.")
    allowed = set(one.capabilities)
    found = [
        f"{process.name} ({process.pid}): {', '.join(sorted(set(process.capabilities) - allowed)[:3])}"
        for process in one.processes
        if set(process.capabilities) - allowed
    ]
    return judged(
        not found, f"Processes with more rights than the container: {'; '.join(found[:_SHOWN]) or 'none'}."
    )


def _root_exec(one: Container, _: Case) -> Verdict:
    if not one.processes or one.uid is None:
        return unknown("Its processes were not seen.")
    root = next((found.outside for found in one.uid_map if found.inside == 0), 0)
    if one.uid == root:
        return not_here("It runs as root itself.")
    found = [one.processes[place] for place in _foreign(one) if one.processes[place].uid == root]
    names = ", ".join(f"{process.name} ({process.pid})" for process in found[:_SHOWN])
    return judged(not found, f"Brought in as root: {names or 'nothing'}.")


def _new_privileges(one: Container, _: Case) -> Verdict:
    seen = "It may gain privileges by set-user-id." if not one.no_new_privileges else "It cannot gain privileges."
    return judged(one.no_new_privileges, seen, missing="Whether it may gain privileges was not seen.")


_STRONG = (
    ("dac-read-search", ("DAC_READ_SEARCH",), "read any file of the host", Severity.HIGH),
    ("sys-module", ("SYS_MODULE",), "load code into the kernel", Severity.CRITICAL),
    ("sys-admin", ("SYS_ADMIN",), "mount, and much else that leads out", Severity.CRITICAL),
    ("sys-ptrace", ("SYS_PTRACE",), "read and change other processes", Severity.HIGH),
    ("sys-rawio", ("SYS_RAWIO",), "reach hardware and memory directly", Severity.CRITICAL),
    ("net-admin", ("NET_ADMIN",), "change networks, and reach much kernel code", Severity.MEDIUM),
    ("bpf", ("BPF", "PERFMON"), "load programs into the kernel, and measure it", Severity.HIGH),
    ("sys-boot", ("SYS_BOOT", "SYS_TIME"), "reboot the host or change its clock", Severity.HIGH),
    ("syslog", ("SYSLOG",), "read the kernel's log and its addresses", Severity.MEDIUM),
    ("mac-admin", ("MAC_ADMIN", "MAC_OVERRIDE"), "change what confines containers", Severity.HIGH),
)


def _namespace_check(name: str, kind: str, word: str, *, cis: str, severity: Severity, option: str) -> Check:
    return _container(
        f"container-{name}",
        f"Containers have a {word} of their own",
        severity,
        of_containers(_own_namespace(kind, word)),
        source=_NAMESPACES,
        remedy=f"Start it without `{option}`.",
        cis=cis,
    )


CHECKS: tuple[Check, ...] = (
    _container(
        "container-root",
        "Nothing in a container is root on the host",
        Severity.MEDIUM,
        of_containers(_root),
        source="Linux manual, user_namespaces(7)",
        remedy="Start it with --user, or remap root (userns-remap, rootless engine, hostUsers: false).",
        cis="4.1",
        breaks="Programs that bind ports below 1024 or write where root may.",
    ),
    _container(
        "container-apparmor",
        "Containers are confined by AppArmor",
        Severity.HIGH,
        of_containers(_apparmor),
        source="Docker documentation, “AppArmor security profiles”",
        remedy="Start it without `--security-opt apparmor=unconfined`.",
        cis="5.2",
    ),
    _container(
        "container-selinux",
        "Containers are confined by SELinux",
        Severity.HIGH,
        of_containers(_selinux),
        source="podman-run(1), “label”",
        remedy="Set selinux-enabled in daemon.json; start it without `--security-opt label=disable`.",
        cis="5.3",
        level=2,
    ),
    _container(
        "container-capabilities",
        "Containers have no capability beyond the default set",
        Severity.MEDIUM,
        of_containers(_capabilities),
        source=_CAPABILITIES,
        remedy="Take out `--cap-add`; drop all and add what is needed.",
        cis="5.4",
    ),
    _container(
        "container-privileged",
        "No container is privileged",
        Severity.CRITICAL,
        of_containers(_privileged),
        source=_RUN,
        remedy="Start it without `--privileged`; give it the one capability or device that it needs.",
        cis="5.5",
    ),
    _namespace_check(
        "host-network", "net", "network", cis="5.10", severity=Severity.HIGH, option="--network host"
    ),
    _namespace_check(
        "host-pids", "pid", "process namespace", cis="5.16", severity=Severity.HIGH, option="--pid host"
    ),
    _namespace_check(
        "host-ipc", "ipc", "IPC namespace", cis="5.17", severity=Severity.MEDIUM, option="--ipc host"
    ),
    _namespace_check("host-uts", "uts", "host name", cis="5.21", severity=Severity.LOW, option="--uts host"),
    _container(
        "container-seccomp",
        "Every container has a seccomp filter",
        Severity.HIGH,
        of_containers(_seccomp),
        source="Linux documentation, userspace-api/seccomp_filter",
        remedy="Start it without `seccomp=unconfined`; give it a profile of its own where calls are missing.",
        cis="5.22",
    ),
    _container(
        "container-strong-exec",
        "Nothing was brought into a container with more rights than it has",
        Severity.HIGH,
        of_containers(_strong_exec),
        source="Docker documentation, “docker container exec”",
        remedy="End the process; use `docker exec` without `--privileged`.",
        cis="5.23",
        level=2,
    ),
    _container(
        "container-root-exec",
        "Nothing was brought as root into a container that is not root",
        Severity.MEDIUM,
        of_containers(_root_exec),
        source="Docker documentation, “docker container exec”",
        remedy="End the process; use `docker exec` without `--user root`.",
        cis="5.24",
        level=2,
    ),
    _container(
        "container-new-privileges",
        "No container can gain privileges",
        Severity.MEDIUM,
        of_containers(_new_privileges),
        source="Linux documentation, userspace-api/no_new_privs",
        remedy="Start it with `--security-opt no-new-privileges`, or set it for the daemon.",
        cis="5.26",
        breaks="sudo, su and the like in it.",
    ),
    _container(
        "container-host-users",
        "No container was told to keep the host's users",
        Severity.HIGH,
        of_containers(_host_users),
        source="Docker documentation, “Isolate containers with a user namespace”",
        remedy="Start it without `--userns host`.",
        cis="5.31",
    ),
    *(
        _container(
            f"container-cap-{name}",
            f"No container may {what} ({', '.join(f'CAP_{one}' for one in capabilities)})",
            severity,
            of_containers(_without(*capabilities)),
            source=_CAPABILITIES,
            remedy=f"Start it without `--cap-add {capabilities[0]}`.",
        )
        for name, capabilities, what, severity in _STRONG
    ),
    _container(
        "container-open-filter",
        "Filters of containers refuse the strong calls",
        Severity.MEDIUM,
        of_containers(_open_filter),
        source="Docker documentation, “Significant syscalls blocked by the default profile”",
        remedy="Make the profile from the engine's own, and add the calls that are missing.",
    ),
    _namespace_check(
        "host-cgroups", "cgroup", "cgroup namespace", cis="", severity=Severity.LOW, option="--cgroupns host"
    ),
)
