"""Checks of a Kubernetes node: the kubelet's settings and files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from kmend.audit.check import Case, Check, Verdict, bad, check, good, not_here, of_host, unknown
from kmend.audit.checks.files import found_files
from kmend.audit.reading import argument, as_switch, number, yaml_values
from kmend.model.facts import FileFacts, Process
from kmend.model.finding import Area, Severity

_node = partial(check, Area.KUBERNETES)
_KUBELET = "Kubernetes documentation, “Kubelet Configuration (v1beta1)”"
_CONFIGS = (
    "/var/lib/kubelet/config.yaml",
    "/etc/kubernetes/kubelet-config.yaml",
    "/etc/kubernetes/kubelet/config.json",
)
_WEAK = ("RC4", "3DES", "_CBC_", "TLS_RSA_")
_HOURS_4 = 4 * 3600


class _Kubelet(NamedTuple):
    """What the kubelet was told: arguments win over its file."""

    process: Process | None
    settings: dict[str, str]
    complete: bool
    """False when the file that it reads was not seen."""


def _kubelet(case: Case) -> _Kubelet | None:
    """None when there is no kubelet."""
    process = next((one for one in case.facts.services if one.name == "kubelet"), None)
    given = argument(process.arguments, "--config") if process else None
    file = next(
        (one for path in (given, *_CONFIGS) if path and (one := case.files.get(path)) and one.exists), None
    )
    if process is None and file is None:
        return None
    text = file.text if file else None
    return _Kubelet(
        process, dict(yaml_values(text or "")), text is not None or (process is not None and given is None)
    )


def _of_kubelet(decide: Callable[[_Kubelet], Verdict]) -> Callable[[Case], list[Verdict]]:
    def judge(case: Case) -> Verdict:
        kubelet = _kubelet(case)
        if kubelet is None:
            return not_here("No kubelet is here.")
        if not kubelet.complete:
            return unknown("The kubelet's configuration file was not read.", subject="kubelet")
        return decide(kubelet)._replace(subject="kubelet")

    return lambda case: list(of_host(judge)(case))


def _setting(one: _Switch) -> Callable[[_Kubelet], Verdict]:
    def decide(kubelet: _Kubelet) -> Verdict:
        given = argument(kubelet.process.arguments, one.flag) if kubelet.process else None
        told = given if given is not None else kubelet.settings.get(one.key)
        if told is None:
            # Without a file the defaults of the old arguments hold, some of them open.
            default = one.default if kubelet.settings else one.old_default or one.default
            seen = f"{one.key} is not set: {default or 'nothing'}."
            return good(seen) if one.right(default) else bad(seen)
        seen = f"{one.key} is {told}."
        return good(seen) if one.right(told) else bad(seen)

    return decide


def _on(text: str) -> bool:
    return as_switch(text) is True


def _not_on(text: str) -> bool:
    return as_switch(text) is not True


def _strong(text: str) -> bool:
    return not any(weak in one for one in text.split(",") for weak in _WEAK)


def _short(text: str) -> bool:
    """A time that streams may idle: not endless, 4 hours at most."""
    units = {"h": 3600, "m": 60, "s": 1}
    seconds, digits = 0, ""
    for letter in text:
        if letter.isdecimal():
            digits += letter
        elif letter in units and digits:
            seconds, digits = seconds + (number(digits) or 0) * units[letter], ""
    return 0 < seconds <= _HOURS_4


class _Place(NamedTuple):
    name: str
    title: str
    paths: tuple[str, ...]
    mode: int
    cis: str = ""
    severity: Severity = Severity.HIGH


_PLACES = (
    _Place(
        "kubelet-kubeconfig",
        "The kubelet's kubeconfig",
        ("/etc/kubernetes/kubelet.conf",),
        0o600,
        "kubernetes:4.1.5",
    ),
    _Place("kubelet-config", "The kubelet's configuration", _CONFIGS, 0o600, "kubernetes:4.1.9"),
    _Place(
        "kubelet-service",
        "The kubelet's unit files",
        (
            "/etc/systemd/system/kubelet.service.d/*.conf",
            "/usr/lib/systemd/system/kubelet.service.d/*.conf",
            "/lib/systemd/system/kubelet.service",
            "/usr/lib/systemd/system/kubelet.service",
        ),
        0o644,
        "kubernetes:4.1.1",
        Severity.MEDIUM,
    ),
    _Place(
        "kubelet-pki", "The kubelet's keys", ("/var/lib/kubelet/pki/*.key", "/var/lib/kubelet/pki/*.pem"), 0o600
    ),
    _Place(
        "kubelet-ca", "The cluster's CA certificate", ("/etc/kubernetes/pki/ca.crt",), 0o644, "kubernetes:4.1.7"
    ),
    _Place(
        "cluster-keys",
        "The cluster's keys",
        ("/etc/kubernetes/pki/*.key", "/etc/kubernetes/pki/etcd/*.key"),
        0o600,
        "kubernetes:1.1.21",
        Severity.CRITICAL,
    ),
    _Place(
        "admin-config",
        "Kubeconfigs of administrators",
        ("/etc/kubernetes/admin.conf", "/etc/kubernetes/super-admin.conf"),
        0o600,
        "kubernetes:1.1.13",
        Severity.CRITICAL,
    ),
    _Place("manifests", "Manifests of static pods", ("/etc/kubernetes/manifests/*",), 0o600, "kubernetes:1.1.1"),
    _Place("etcd-data", "etcd's data folder", ("/var/lib/etcd",), 0o700, "kubernetes:1.1.11", Severity.CRITICAL),
)


def _guarded(place: _Place, case: Case) -> Iterator[Verdict]:
    found, _ = found_files(place.paths, case)
    for one in found:
        yield _judge_file(one, place)
    if not found:
        yield (
            not_here(f"{place.paths[0]} is not here.")
            if _kubelet(case) is None or case.files
            else unknown(f"{place.paths[0]} was not looked for.")
        )


def _judge_file(one: FileFacts, place: _Place) -> Verdict:
    seen = f"Its owner is {one.uid}:{one.gid}, its mode {one.mode:04o}."
    etcd = place.name == "etcd-data"  # it belongs to a user of its own on many nodes
    extra = one.mode & 0o7777 & ~place.mode
    if (one.uid == 0 or etcd) and not extra:
        return good(seen, subject=one.path)
    remedy = f"`chmod {one.mode & place.mode:04o} {one.path}`" + (
        "" if one.uid == 0 else f", `chown root:root {one.path}`"
    )
    return bad(seen, subject=one.path, remedy=remedy)


def _file_checks() -> Iterator[Check]:
    for place in _PLACES:
        yield _node(
            f"kubernetes-file-{place.name}",
            f"{place.title}: root's, mode {place.mode:04o} or stricter",
            place.severity,
            partial(_guarded, place),
            source="Kubernetes documentation, “Securing a Cluster”",
            remedy=f"`chown root:root` and `chmod` to {place.mode:04o} or stricter.",
            cis=place.cis,
        )


class _Switch(NamedTuple):
    name: str
    title: str
    severity: Severity
    key: str
    flag: str
    right: Callable[[str], bool]
    default: str
    remedy: str
    cis: str = ""
    breaks: str = ""
    old_default: str = ""
    """Without a configuration file, where that is another."""


_SWITCHES = (
    _Switch(
        "anonymous",
        "The kubelet answers nobody who does not say who they are",
        Severity.CRITICAL,
        "authentication.anonymous.enabled",
        "--anonymous-auth",
        _not_on,
        "false",
        "Set authentication.anonymous.enabled to false.",
        "kubernetes:4.2.1",
        "Health probes from outside without a token.",
        "true",
    ),
    _Switch(
        "authorization",
        "The kubelet asks the API server who may do what",
        Severity.CRITICAL,
        "authorization.mode",
        "--authorization-mode",
        lambda text: "AlwaysAllow" not in text,
        "Webhook",
        "Set authorization.mode to Webhook.",
        "kubernetes:4.2.2",
        "",
        "AlwaysAllow",
    ),
    _Switch(
        "client-ca",
        "The kubelet checks certificates of clients",
        Severity.HIGH,
        "authentication.x509.clientCAFile",
        "--client-ca-file",
        bool,
        "",
        "Set authentication.x509.clientCAFile.",
        "kubernetes:4.2.3",
    ),
    _Switch(
        "read-only-port",
        "The kubelet has no port that anybody may read",
        Severity.HIGH,
        "readOnlyPort",
        "--read-only-port",
        lambda text: text == "0",
        "0",
        "Set readOnlyPort to 0.",
        "kubernetes:4.2.4",
        "Old metrics scrapers.",
        "10255",
    ),
    _Switch(
        "streaming",
        "Idle exec and port-forward streams end",
        Severity.LOW,
        "streamingConnectionIdleTimeout",
        "--streaming-connection-idle-timeout",
        _short,
        "4h0m0s",
        "Set streamingConnectionIdleTimeout to 4h or less.",
        "kubernetes:4.2.5",
    ),
    _Switch(
        "kernel-defaults",
        "The kubelet does not change kernel settings by itself",
        Severity.LOW,
        "protectKernelDefaults",
        "--protect-kernel-defaults",
        _on,
        "false",
        "Set protectKernelDefaults to true, and the sysctls that it asks for.",
        "",
        "The kubelet does not start while sysctls differ.",
    ),
    _Switch(
        "iptables",
        "The kubelet keeps its packet filter rules",
        Severity.LOW,
        "makeIPTablesUtilChains",
        "--make-iptables-util-chains",
        _on,
        "true",
        "Leave makeIPTablesUtilChains at true.",
        "kubernetes:4.2.6",
    ),
    _Switch(
        "rotation",
        "The kubelet renews its certificate",
        Severity.MEDIUM,
        "rotateCertificates",
        "--rotate-certificates",
        _on,
        "false",
        "Set rotateCertificates to true.",
        "kubernetes:4.2.10",
    ),
    _Switch(
        "ciphers",
        "The kubelet takes strong ciphers only",
        Severity.MEDIUM,
        "tlsCipherSuites",
        "--tls-cipher-suites",
        _strong,
        "",
        "List strong suites in tlsCipherSuites, or leave it to the default.",
        "kubernetes:4.2.12",
    ),
    _Switch(
        "seccomp-default",
        "Pods get a seccomp filter by default",
        Severity.HIGH,
        "seccompDefault",
        "--seccomp-default",
        _on,
        "false",
        "Set seccompDefault to true.",
        "",
        "Pods that need calls which the default filter refuses: give them a profile.",
    ),
    _Switch(
        "pids",
        "Pods have a limit of processes",
        Severity.MEDIUM,
        "podPidsLimit",
        "--pod-max-pids",
        lambda text: bool(number(text)),
        "-1",
        "Set podPidsLimit, to 4096 for a start.",
        "kubernetes:4.2.13",
        "Pods with more processes.",
    ),
    _Switch(
        "unsafe-sysctls",
        "Pods may not set unsafe sysctls",
        Severity.MEDIUM,
        "allowedUnsafeSysctls",
        "--allowed-unsafe-sysctls",
        lambda text: not text.strip("[] "),
        "",
        "Leave allowedUnsafeSysctls empty.",
    ),
)

CHECKS: tuple[Check, ...] = (
    *(
        _node(
            f"kubelet-{one.name}",
            one.title,
            one.severity,
            _of_kubelet(_setting(one)),
            source=_KUBELET,
            remedy=f"{one.remedy} Then restart the kubelet; pods go on.",
            cis=one.cis,
            breaks=one.breaks,
        )
        for one in _SWITCHES
    ),
    *_file_checks(),
)
