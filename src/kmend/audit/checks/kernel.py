"""Checks of the kernel: configuration and state, and what each means for livepatching."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from kmend.audit.check import Case, Check, Verdict, bad, check, good, judged, not_here, of_host, unknown
from kmend.model.finding import Actionable, Area, Livepatching, Severity

_kernel = partial(check, Area.KERNEL)
_KSPP = "Kernel Self-Protection Project, recommended settings"
_SELF = "Linux documentation, security/self-protection"
_LOW = Severity.LOW
_MEDIUM = Severity.MEDIUM
_HIGH = Severity.HIGH


class _Config(NamedTuple):
    """An option of the kernel's configuration, and what it should be; empty for not set."""

    option: str
    right: str
    title: str
    severity: Severity = _LOW
    breaks: str = ""
    livepatching: Livepatching = Livepatching.SAFE
    without: str = ""
    """Option without which it means nothing; ``x86`` for that architecture alone."""


_CARE = Livepatching.CARE
_CONFIGS = (
    _Config("CONFIG_STRICT_KERNEL_RWX", "y", "Code of the kernel cannot be written", _HIGH),
    _Config("CONFIG_STRICT_MODULE_RWX", "y", "Code of modules cannot be written", _HIGH, without="CONFIG_MODULES"),
    _Config("CONFIG_STACKPROTECTOR_STRONG", "y", "Overflows on the stack are noticed", _MEDIUM),
    _Config("CONFIG_FORTIFY_SOURCE", "y", "Copies beyond a buffer are noticed", _MEDIUM),
    _Config("CONFIG_HARDENED_USERCOPY", "y", "Copies from and to users keep to their objects", _MEDIUM),
    _Config("CONFIG_VMAP_STACK", "y", "Stacks have a guard page", _MEDIUM),
    _Config("CONFIG_SLAB_FREELIST_RANDOM", "y", "Objects are handed out in random order"),
    _Config("CONFIG_SLAB_FREELIST_HARDENED", "y", "Lists of free objects are guarded"),
    _Config("CONFIG_SHUFFLE_PAGE_ALLOCATOR", "y", "Free pages can be handed out in random order"),
    _Config("CONFIG_RANDOMIZE_BASE", "y", "The kernel's address can be random", _MEDIUM),
    _Config(
        "CONFIG_BUG_ON_DATA_CORRUPTION",
        "y",
        "The kernel stops at lists that were tampered with",
        _LOW,
        "The host boots instead of going on.",
    ),
    _Config("CONFIG_SCHED_STACK_END_CHECK", "y", "An overrun stack is noticed"),
    _Config("CONFIG_SECCOMP_FILTER", "y", "Containers can have seccomp filters", _HIGH),
    _Config(
        "CONFIG_USER_NS",
        "y",
        "Containers can have user namespaces",
        _MEDIUM,
        "Without them nothing is rootless; see kernel-user-namespaces for who may make them.",
    ),
    _Config("CONFIG_SECURITY_LOCKDOWN_LSM", "y", "The kernel can be locked down against root", _LOW),
    _Config(
        "CONFIG_MODULE_SIG",
        "y",
        "Modules can be signed",
        _MEDIUM,
        "Livepatches are signed by a key that the kernel has to know.",
        _CARE,
        without="CONFIG_MODULES",
    ),
    _Config("CONFIG_LIVEPATCH", "y", "The kernel can be livepatched", _HIGH),
    _Config(
        "CONFIG_DEVMEM",
        "",
        "Nobody reads memory by /dev/mem",
        _LOW,
        "Old tools for hardware; with CONFIG_STRICT_DEVMEM it is the smaller evil.",
    ),
    _Config("CONFIG_DEVKMEM", "", "There is no /dev/kmem", _HIGH),
    _Config(
        "CONFIG_PROC_KCORE",
        "",
        "There is no /proc/kcore",
        _LOW,
        "kmend's own check of the running code, crash, drgn.",
        _CARE,
    ),
    _Config("CONFIG_COMPAT_BRK", "", "The heap's address is random", _MEDIUM),
    _Config("CONFIG_LEGACY_PTYS", "", "There are no terminals of the old kind"),
    _Config("CONFIG_X86_X32_ABI", "", "There is no third kind of system calls", without="x86"),
    _Config(
        "CONFIG_MODIFY_LDT_SYSCALL",
        "",
        "There is no modify_ldt",
        _LOW,
        "Some 16-bit programs under Wine.",
        without="x86",
    ),
    _Config("CONFIG_BINFMT_AOUT", "", "Programs of the a.out kind do not start", without="x86"),
    _Config(
        "CONFIG_RANDSTRUCT_NONE",
        "y",
        "Layouts of structures are not shuffled",
        _LOW,
        "Nothing; shuffled layouts would harden more, but livepatches could not be built for them.",
    ),
)


def _of_config(one: _Config, case: Case) -> Verdict:
    if case.config is None:
        return unknown("The kernel's configuration was not seen.")
    found = case.config.get(one.option, "")
    if one.without and not (case.is_x86 if one.without == "x86" else one.without in case.config):
        return not_here(f"Without {one.without} it means nothing.")
    if one.option == "CONFIG_RANDSTRUCT_NONE" and "CONFIG_RANDSTRUCT" not in case.config:
        return good("This kernel does not shuffle structures.")
    return judged(found == one.right, f"{one.option} is {found or 'not set'}.")


def _lockdown(case: Case) -> Verdict:
    given = case.facts.kernel.lockdown
    if not given:
        return unknown("The kernel does not say whether it is locked down.")
    return judged(given != "none", f"Lockdown is {given}.")


def _cpu(case: Case) -> Verdict:
    holes = case.facts.kernel.cpu_vulnerabilities
    if not holes:
        return unknown("What the kernel says of the processor's holes was not seen.")
    opened = [f"{one.name}: {one.value}" for one in holes if one.value.startswith("Vulnerable")]
    return judged(not opened, "; ".join(opened) or f"None of {len(holes)} holes is open.")


def _livepatches(case: Case) -> Verdict:
    found = case.facts.kernel.livepatches
    if not found:
        return not_here("No livepatch is loaded.")
    waiting = [one.module for one in found if one.in_transition]
    off = [one.module for one in found if not one.enabled]
    if waiting or off:
        return bad(f"Not in force: {', '.join([*waiting, *off])}.")
    return good(f"In force: {', '.join(one.module for one in found)}.")


# What it may ask for, and livepatches cannot be loaded or built afterwards.
_STOPPING = re.compile(
    r"CONFIG_(MODULES|LIVEPATCH|KALLSYMS|FTRACE|FUNCTION_TRACER|DYNAMIC_FTRACE|KPROBES|RANDSTRUCT_FULL|RANDSTRUCT_"
    r"PERFORMANCE|GCC_PLUGIN_RANDSTRUCT|TRIM_UNUSED_KSYMS)|kernel\.modules_disabled|kernel\.ftrace_enabled"
)


def _second_opinion(case: Case) -> Iterator[Verdict]:
    for one in case.demands or ():
        seen = f"Wanted: {one.wanted} ({one.kind}, {one.reason}); {one.result}."
        subject = f"kernel {one.option}"
        if one.holds:
            yield good(seen, subject=subject)
        elif _STOPPING.fullmatch(one.option):
            yield not_here(f"{seen} Livepatching would stop.", subject=subject)
        else:
            yield bad(seen, subject=subject)
    if not case.demands:
        yield not_here("kernel-hardening-checker was not asked (--hardening-checker).")


CHECKS: tuple[Check, ...] = (
    *(
        _kernel(
            f"kernel-{one.option.lower().replace('_', '-')}",
            one.title,
            one.severity,
            of_host(partial(_of_config, one)),
            source=_KSPP if one.livepatching is Livepatching.SAFE else _SELF,
            remedy=f"Use a kernel that was built with{'' if one.right else 'out'} {one.option}.",
            actionable=Actionable.REBUILD,
            breaks=one.breaks,
            livepatching=one.livepatching,
        )
        for one in _CONFIGS
    ),
    _kernel(
        "kernel-lockdown",
        "The kernel is locked down against root",
        Severity.LOW,
        of_host(_lockdown),
        source="Linux manual, kernel_lockdown(7)",
        remedy="Boot with `lockdown=integrity`, best with Secure Boot.",
        actionable=Actionable.BOOT,
        breaks="Unsigned modules, kexec of unsigned kernels, writing to MSRs. Livepatches need a key that the "
        "kernel trusts: enrol the key of `kmend keys` first.",
        livepatching=Livepatching.CARE,
    ),
    _kernel(
        "kernel-processor",
        "No hole of the processor is open",
        Severity.MEDIUM,
        of_host(_cpu),
        source="Linux documentation, admin-guide/hw-vuln",
        remedy="Bring in new microcode (intel-microcode, amd64-microcode), leave the mitigations on, and boot.",
        actionable=Actionable.BOOT,
        breaks="Some speed.",
    ),
    _kernel(
        "kernel-livepatches",
        "Loaded livepatches are in force",
        Severity.HIGH,
        of_host(_livepatches),
        source="Linux documentation, livepatch/livepatch",
        remedy="`kmend agent status` says what it waits for.",
    ),
    _kernel(
        "kernel-second-opinion",
        "kernel-hardening-checker has nothing to say",
        Severity.LOW,
        _second_opinion,
        source="kernel-hardening-checker, an external program",
        remedy="Set it as the program wants, after a look at what breaks: its own page says that for each option.",
        actionable=Actionable.REBUILD,
        breaks="Depends on the option; what would stop livepatching is left out.",
        livepatching=Livepatching.CARE,
    ),
)
