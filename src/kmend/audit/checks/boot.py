"""Checks of the kernel's boot parameters, and what each means for livepatching."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from kmend.audit.check import Case, Check, Verdict, check, judged, not_here, of_host
from kmend.model.finding import Actionable, Area, Livepatching, Severity

_PARAMETERS = "Linux documentation, admin-guide/kernel-parameters"
_LOW = Severity.LOW
_MEDIUM = Severity.MEDIUM
_HIGH = Severity.HIGH


class _Boot(NamedTuple):
    """A boot parameter: how it is judged from the command line and the configuration."""

    name: str
    title: str
    severity: Severity
    holds: Callable[[Case], bool | None]
    seen: str
    """What was asked for."""
    remedy: str
    breaks: str = ""
    livepatching: Livepatching = Livepatching.SAFE
    only_x86: bool = False


def _words(case: Case) -> tuple[str, ...]:
    return case.facts.kernel.command_line


def _has(*wanted: str, config: str = "") -> Callable[[Case], bool | None]:
    """One of these words, or a configuration that makes it the default (and no word against it)."""

    def holds(case: Case) -> bool | None:
        if any(word in wanted for word in _words(case)):
            return True
        names = {word.partition("=")[0] for word in wanted}
        if any(word.partition("=")[0] in names for word in _words(case)):
            return False
        if config and case.config is not None:
            return case.config.get(config) == "y"
        return None if config or not _words(case) else False

    return holds


def _lacks(*refused: str) -> Callable[[Case], bool | None]:
    return lambda case: None if not _words(case) else not any(word in refused for word in _words(case))


_BOOTS = (
    _Boot(
        "mitigations",
        "The processor's holes are not left open",
        _HIGH,
        _lacks(
            "mitigations=off",
            "nopti",
            "pti=off",
            "nospectre_v1",
            "nospectre_v2",
            "spectre_v2=off",
            "mds=off",
            "l1tf=off",
            "retbleed=off",
            "spec_store_bypass_disable=off",
            "tsx_async_abort=off",
            "srbds=off",
            "spec_rstack_overflow=off",
            "gather_data_sampling=off",
            "reg_file_data_sampling=off",
            "indirect_target_selection=off",
            "tsa=off",
            "vmscape=off",
        ),
        "no parameter that turns a mitigation off",
        "Take the parameter out, and boot.",
        "Some speed.",
    ),
    _Boot(
        "addresses",
        "The kernel's addresses are random",
        _HIGH,
        _lacks("nokaslr", "norandmaps"),
        "no nokaslr",
        "Take nokaslr out, and boot.",
    ),
    _Boot(
        "smep-smap",
        "The processor keeps the kernel out of users' memory",
        _HIGH,
        _lacks("nosmep", "nosmap", "nosmep nosmap", "noibt", "ibt=off"),
        "no nosmep, nosmap",
        "Take the parameter out, and boot.",
        only_x86=True,
    ),
    _Boot(
        "security-modules",
        "The security modules are not turned off",
        _HIGH,
        _lacks("apparmor=0", "selinux=0", "enforcing=0", "lsm=", "security=none"),
        "no apparmor=0, selinux=0",
        "Take the parameter out, and boot.",
    ),
    _Boot(
        "zero-memory",
        "Memory is zeroed when it is handed out",
        _MEDIUM,
        _has("init_on_alloc=1", config="CONFIG_INIT_ON_ALLOC_DEFAULT_ON"),
        "init_on_alloc=1",
        "Boot with init_on_alloc=1.",
        "1 % of speed, more with much allocation.",
    ),
    _Boot(
        "slab-merge",
        "Kinds of objects do not share memory",
        _LOW,
        _has("slab_nomerge", config="CONFIG_SLAB_MERGE_DEFAULT_OFF"),
        "slab_nomerge",
        "Boot with slab_nomerge.",
        "A little memory.",
    ),
    _Boot(
        "page-shuffle",
        "Free pages are handed out in random order",
        _LOW,
        _has("page_alloc.shuffle=1"),
        "page_alloc.shuffle=1",
        "Boot with page_alloc.shuffle=1.",
    ),
    _Boot(
        "stack-offset",
        "The kernel's stack begins elsewhere with each call",
        _LOW,
        _has(
            "randomize_kstack_offset=on",
            "randomize_kstack_offset=1",
            config="CONFIG_RANDOMIZE_KSTACK_OFFSET_DEFAULT",
        ),
        "randomize_kstack_offset=on",
        "Boot with randomize_kstack_offset=on.",
    ),
    _Boot(
        "vsyscall",
        "The old fixed page of system calls is not there",
        _LOW,
        _has("vsyscall=none", config="CONFIG_LEGACY_VSYSCALL_NONE"),
        "vsyscall=none",
        "Boot with vsyscall=none.",
        "Programs of before 2013 (CentOS 6 images).",
        only_x86=True,
    ),
    _Boot(
        "iommu",
        "Devices reach only the memory that is given to them",
        _LOW,
        _has("iommu=force", "intel_iommu=on", "amd_iommu=force_isolation", config="CONFIG_INTEL_IOMMU_DEFAULT_ON"),
        "intel_iommu=on",
        "Boot with intel_iommu=on or amd_iommu=force_isolation.",
        "Some old devices.",
        only_x86=True,
    ),
    _Boot(
        "debugfs",
        "debugfs is not there for users of the host",
        _LOW,
        _has("debugfs=off", "debugfs=no-mount", config="CONFIG_DEBUG_FS_ALLOW_NONE"),
        "debugfs=no-mount",
        "Boot with debugfs=no-mount.",
        "Tools that read /sys/kernel/debug; tracefs stays.",
    ),
)


def _of_boot(one: _Boot, case: Case) -> Verdict:
    if one.only_x86 and not case.is_x86:
        return not_here("Processors of this kind have no such thing.")
    return judged(
        one.holds(case),
        f"Asked for: {one.seen}; booted with: {' '.join(_words(case)) or 'nothing that was seen'}",
        missing="The command line and the configuration of the kernel do not show it.",
    )


CHECKS: tuple[Check, ...] = tuple(
    check(
        Area.KERNEL,
        f"kernel-boot-{one.name}",
        one.title,
        one.severity,
        of_host(partial(_of_boot, one)),
        source=_PARAMETERS,
        remedy=one.remedy,
        actionable=Actionable.BOOT,
        breaks=one.breaks,
        livepatching=one.livepatching,
    )
    for one in _BOOTS
)
