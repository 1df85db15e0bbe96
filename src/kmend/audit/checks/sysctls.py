"""Checks of sysctls: what can be changed while the kernel runs."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from kmend.audit.check import Case, Check, Verdict, bad, check, good, judged, not_here, of_host, unknown
from kmend.model.finding import Area, Livepatching, Severity

_sysctl = partial(check, Area.KERNEL)
_KSPP = "Kernel Self-Protection Project, recommended settings"
_LOW = Severity.LOW
_MEDIUM = Severity.MEDIUM
_HIGH = Severity.HIGH
_KERNEL_SYSCTL = "Linux documentation, admin-guide/sysctl/kernel"
_NET_SYSCTL = "Linux documentation, networking/ip-sysctl"
_FS_SYSCTL = "Linux documentation, admin-guide/sysctl/fs"
_VM_SYSCTL = "Linux documentation, admin-guide/sysctl/vm"


class _Sysctl(NamedTuple):
    """A sysctl with the values that are right; the first one is what the remedy sets."""

    name: str
    right: tuple[str, ...]
    title: str
    severity: Severity = _LOW
    breaks: str = ""
    source: str = _KERNEL_SYSCTL
    without: str = ""
    """CONFIG_ option without which the kernel has no such sysctl."""
    livepatching: Livepatching = Livepatching.SAFE


_SYSCTLS = (
    _Sysctl(
        "kernel.kptr_restrict",
        ("1", "2"),
        "Addresses of the kernel are hidden",
        _MEDIUM,
        "perf and kprobes of users.",
    ),
    _Sysctl(
        "kernel.dmesg_restrict", ("1",), "Only administrators read the kernel's log", _MEDIUM, "dmesg of users."
    ),
    _Sysctl(
        "kernel.unprivileged_bpf_disabled",
        ("2", "1"),
        "Users cannot load BPF programs",
        _HIGH,
        "Socket filters of users in BPF of the new kind; network plugins are root and go on.",
        without="CONFIG_BPF_SYSCALL",
    ),
    _Sysctl(
        "net.core.bpf_jit_harden",
        ("2",),
        "Compiled BPF programs are hardened",
        _LOW,
        "A little speed of BPF programs.",
        "Linux documentation, admin-guide/sysctl/net",
        "CONFIG_BPF_JIT",
    ),
    _Sysctl(
        "kernel.perf_event_paranoid",
        ("3", "2", "4"),
        "Users cannot measure the kernel",
        _MEDIUM,
        "perf of users.",
        without="CONFIG_PERF_EVENTS",
    ),
    _Sysctl(
        "kernel.yama.ptrace_scope",
        ("1", "2", "3"),
        "Processes read only their children",
        _MEDIUM,
        "gdb -p of users.",
        "Linux documentation, admin-guide/LSM/Yama",
        "CONFIG_SECURITY_YAMA",
    ),
    _Sysctl(
        "kernel.kexec_load_disabled",
        ("1",),
        "No other kernel can be loaded over this one",
        _MEDIUM,
        "kexec and kdump set up later.",
        without="CONFIG_KEXEC_CORE",
    ),
    _Sysctl(
        "kernel.sysrq",
        ("0", "4", "16", "20", "176", "438"),
        "The magic key does little",
        _LOW,
        "Emergency keys.",
        "Linux documentation, admin-guide/sysrq",
        "CONFIG_MAGIC_SYSRQ",
    ),
    _Sysctl(
        "kernel.io_uring_disabled",
        ("2", "1"),
        "io_uring is off where nothing needs it",
        _MEDIUM,
        "Programs that use io_uring fall back or fail; 1 leaves it to a group.",
        without="CONFIG_IO_URING",
    ),
    _Sysctl("kernel.randomize_va_space", ("2",), "Addresses of programs are random", _HIGH),
    _Sysctl(
        "vm.unprivileged_userfaultfd",
        ("0",),
        "Users cannot stop the kernel at page faults",
        _MEDIUM,
        "Live migration by users.",
        _VM_SYSCTL,
        "CONFIG_USERFAULTFD",
    ),
    _Sysctl("vm.mmap_min_addr", ("65536", "32768"), "The first pages cannot be mapped", _MEDIUM, "", _VM_SYSCTL),
    _Sysctl("fs.protected_hardlinks", ("1",), "Nobody links to files of others", _MEDIUM, "", _FS_SYSCTL),
    _Sysctl(
        "fs.protected_symlinks", ("1",), "Links in /tmp are followed only by their owners", _MEDIUM, "", _FS_SYSCTL
    ),
    _Sysctl("fs.protected_fifos", ("2", "1"), "FIFOs of others in /tmp are not opened", _LOW, "", _FS_SYSCTL),
    _Sysctl(
        "fs.protected_regular",
        ("2", "1"),
        "Files of others in /tmp are not opened for writing",
        _LOW,
        "",
        _FS_SYSCTL,
    ),
    _Sysctl(
        "fs.suid_dumpable", ("0",), "Programs with other rights leave no memory images", _MEDIUM, "", _FS_SYSCTL
    ),
    _Sysctl(
        "dev.tty.ldisc_autoload",
        ("0",),
        "Users cannot load line disciplines",
        _MEDIUM,
        "Modems and the like of users.",
        _KSPP,
    ),
    _Sysctl(
        "kernel.panic_on_oops",
        ("1",),
        "The kernel does not go on after an error of its own",
        _LOW,
        "The host boots instead of going on half broken.",
    ),
    _Sysctl(
        "net.ipv4.tcp_syncookies",
        ("1",),
        "A flood of connection requests does not fill memory",
        _LOW,
        "",
        _NET_SYSCTL,
    ),
    _Sysctl(
        "net.ipv4.conf.all.accept_redirects",
        ("0",),
        "Nobody redirects the host's IPv4 traffic",
        _LOW,
        "",
        _NET_SYSCTL,
    ),
    _Sysctl(
        "net.ipv6.conf.all.accept_redirects",
        ("0",),
        "Nobody redirects the host's IPv6 traffic",
        _LOW,
        "",
        _NET_SYSCTL,
        "CONFIG_IPV6",
    ),
    _Sysctl(
        "net.ipv4.conf.all.accept_source_route",
        ("0",),
        "Senders do not choose the way through the host",
        _LOW,
        "",
        _NET_SYSCTL,
    ),
    _Sysctl(
        "net.ipv4.conf.all.rp_filter",
        ("2", "1"),
        "Packets with a forged sender are dropped",
        _LOW,
        "With 1, hosts with several ways; 2 is right with containers.",
        _NET_SYSCTL,
    ),
    _Sysctl(
        "net.ipv4.conf.all.route_localnet",
        ("0",),
        "Nobody outside reaches 127.0.0.1",
        _MEDIUM,
        "Publishing on 127.0.0.1 of old Kubernetes node ports.",
        _NET_SYSCTL,
    ),
    _Sysctl(
        "net.ipv4.icmp_echo_ignore_broadcasts",
        ("1",),
        "The host does not answer pings to all",
        _LOW,
        "",
        _NET_SYSCTL,
    ),
    _Sysctl(
        "kernel.ftrace_enabled",
        ("1",),
        "Functions can be replaced while the kernel runs",
        _HIGH,
        "",
        "Linux documentation, livepatch/livepatch",
        "CONFIG_FUNCTION_TRACER",
    ),
)


def _of_sysctl(one: _Sysctl, case: Case) -> Verdict:
    found = case.sysctls.get(one.name)
    if found is None:
        if one.without and case.config is not None and one.without not in case.config:
            return not_here(f"This kernel was built without {one.without}.")
        missing = case.facts.sysctls and one.name in _LATER
        return not_here(f"This kernel has no {one.name}.") if missing else unknown(f"{one.name} was not seen.")
    boot = next((given for given in reversed(case.facts.configured_sysctls) if given.name == one.name), None)
    if found in one.right and boot is not None and boot.value not in one.right:
        return bad(f"{one.name} is {found} now, and {boot.value} after the next boot ({boot.source}).")
    return judged(found in one.right, f"{one.name} is {found}.")


# Sysctls that came with newer kernels or are the distribution's: their absence says that there is nothing to set.
_LATER = frozenset(
    (
        "kernel.io_uring_disabled",
        "vm.unprivileged_userfaultfd",
        "dev.tty.ldisc_autoload",
        "fs.protected_fifos",
        "fs.protected_regular",
    )
)


def _user_namespaces(case: Case) -> Verdict:
    """Who may make a user namespace reaches much more kernel code; rootless engines need them."""
    rootless = any(one.uid for one in case.facts.engines) or any(
        one.uid_map and one.uid for one in case.containers if one.engine.value == "podman"
    )
    clone = case.sysctls.get("kernel.unprivileged_userns_clone")
    most = case.sysctls.get("user.max_user_namespaces")
    confined = case.sysctls.get("kernel.apparmor_restrict_unprivileged_userns")
    if clone is None and most is None:
        return unknown("The sysctls of user namespaces were not seen.")
    given = {"unprivileged_userns_clone": clone, "max_user_namespaces": most, "apparmor_restrict": confined}
    seen = ", ".join(f"{name} {text}" for name, text in given.items() if text is not None)
    if clone == "0" or most == "0" or confined == "1":
        return good(f"{seen}.")
    if rootless:
        return good(f"{seen}; the rootless engines here need them.")
    return bad(f"{seen}: any user reaches code that is meant for root, and no rootless engine here needs it.")


def _core_pattern(case: Case) -> Verdict:
    given = case.sysctls.get("kernel.core_pattern")
    if given is None:
        return unknown("kernel.core_pattern was not seen.")
    # A program that runs as root on the host for what crashes in a container: only ones of the system's own.
    handler = given.removeprefix("|").split(" ")[0]
    fine = not given.startswith("|") or handler.startswith(
        ("/usr/lib/", "/lib/", "/usr/share/", "/usr/libexec/", "/bin/false")
    )
    return judged(fine, f"kernel.core_pattern is {given}.")


def _setting_name(one: _Sysctl) -> str:
    return f"kernel-sysctl-{one.name.replace('.', '-').replace('_', '-')}"


CHECKS: tuple[Check, ...] = (
    *(
        _sysctl(
            _setting_name(one),
            one.title,
            one.severity,
            of_host(partial(_of_sysctl, one)),
            source=one.source,
            remedy=f"`sysctl -w {one.name}={one.right[0]}`, and the same in /etc/sysctl.d/.",
            breaks=one.breaks,
            livepatching=one.livepatching,
        )
        for one in _SYSCTLS
    ),
    _sysctl(
        "kernel-user-namespaces",
        "Users cannot make user namespaces where nothing needs it",
        Severity.MEDIUM,
        of_host(_user_namespaces),
        source="Linux manual, user_namespaces(7)",
        remedy="`sysctl -w kernel.unprivileged_userns_clone=0` (Debian), or user.max_user_namespaces=0 for all.",
        breaks="Rootless engines, sandboxes of browsers; max_user_namespaces=0 also userns-remap and hostUsers.",
    ),
    _sysctl(
        "kernel-core-pattern",
        "What crashes in a container starts no foreign program on the host",
        Severity.HIGH,
        of_host(_core_pattern),
        source="Linux manual, core(5)",
        remedy="`sysctl -w kernel.core_pattern=core`, or a handler of the distribution's.",
    ),
)
