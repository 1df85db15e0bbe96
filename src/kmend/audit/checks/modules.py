"""Checks of kernel modules: what nothing needs and yet is there or comes when asked for, and who may load any."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from kmend.audit.check import Case, Check, Verdict, bad, check, good, judged, not_here, of_host, unknown
from kmend.audit.needless import RARE, Needs, needs
from kmend.model.finding import Actionable, Area, Livepatching, Severity

_modules = partial(check, Area.MODULES)
_MODPROBE = "Linux manual, modprobe.d(5)"
_SHOWN = 12
_FORCED_IN, _FORCED_OUT, _OUT_OF_TREE, _UNSIGNED, _STAGING, _LIVEPATCHED = 1, 3, 12, 13, 10, 15


def _few(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _known(case: Case) -> Needs | None:
    """None when the modules of the host were not seen."""
    return None if case.facts.modules.available is None else needs(case)


def _rare(case: Case) -> Iterator[Verdict]:
    found = _known(case)
    if found is None:
        yield unknown("The modules of the kernel were not seen.")
        return
    facts = case.facts.modules
    here = {*(facts.available or ()), *(one.name for one in facts.loaded)}
    blocked = {one.name for one in facts.blocked if not one.by_alias_only}
    for name, danger in RARE.items():
        subject = f"module {name}"
        if name not in here:
            yield good("This kernel has no such module.", subject=subject)
        elif name in found.why:
            yield not_here(f"It {found.why[name]}.", subject=subject)
        elif name in blocked:
            yield good("It is kept out by modprobe.d.", subject=subject)
        else:
            yield bad(f"It is {danger}, and nothing here needs it.", subject=subject)


def _idle(case: Case) -> Verdict:
    found = _known(case)
    if found is None:
        return unknown("The modules of the kernel were not seen.")
    idle = tuple(name for name in found.idle if name not in RARE)
    return judged(not idle, f"{len(idle)} loaded modules that nothing needs: {_few(idle) or 'none'}.")


def _on_demand(case: Case) -> Verdict:
    found = _known(case)
    if found is None:
        return unknown("The modules of the kernel were not seen.")
    names = tuple(name for name in found.on_demand if name not in RARE)
    return judged(
        not names, f"{len(names)} modules load when asked for, and nothing needs them: {_few(names) or 'none'}."
    )


def _signed_only(case: Case) -> Verdict:
    given = case.facts.modules.signed_only
    seen = "Only signed modules are loaded." if given else "Modules without a signature are loaded."
    return judged(given, seen, missing="Whether signatures are demanded was not seen.")


def _taint(case: Case) -> Verdict:
    taint = case.facts.kernel.taint
    if taint is None:
        return unknown("The kernel's taint was not seen.")
    bits = {
        _FORCED_IN: "a module was loaded by force",
        _FORCED_OUT: "a module was removed by force",
        _STAGING: "a module of the staging tree is loaded",
        _UNSIGNED: "a module without a signature was loaded",
        _OUT_OF_TREE: "a module from outside the kernel's tree was loaded",
    }
    # A livepatch is a module from outside the tree; its own bit says that this is why.
    if taint >> _LIVEPATCHED & 1 or case.facts.kernel.livepatches:
        bits.pop(_OUT_OF_TREE)
        bits.pop(_UNSIGNED)
    found = [words for bit, words in bits.items() if taint >> bit & 1]
    return judged(not found, f"Taint {taint}: {'; '.join(found) or 'nothing of a module'}.")


def _by_name(case: Case) -> Verdict:
    """``blacklist`` alone keeps a module out of the way of aliases, not of who names it or of what needs it."""
    blocked = case.facts.modules.blocked
    whole = {one.name for one in blocked if not one.by_alias_only}
    half = sorted({one.name for one in blocked if one.by_alias_only} & set(RARE) - whole)
    if not blocked:
        return not_here("modprobe.d keeps no module out.")
    return judged(not half, f"Rare modules that are kept out by alias only: {', '.join(half) or 'none'}.")


_WRITE = "`kmend audit modules --write /etc/modprobe.d/kmend-needless.conf` after a look at its dry run."

CHECKS: tuple[Check, ...] = (
    _modules(
        "module-rare",
        "Rare protocols, file systems and buses cannot be loaded",
        Severity.MEDIUM,
        _rare,
        source=_MODPROBE,
        remedy=_WRITE,
        breaks="Who uses it later: the module is not found, `modprobe` says why.",
    ),
    _modules(
        "module-idle",
        "Every loaded module is needed",
        Severity.LOW,
        of_host(_idle),
        source="Linux manual, lsmod(8)",
        remedy=_WRITE + " Then `modprobe -r` them, or boot.",
        breaks="Who uses it later.",
    ),
    _modules(
        "module-on-demand",
        "What loads when asked for is needed",
        Severity.LOW,
        of_host(_on_demand),
        source="Linux documentation, admin-guide/sysctl/kernel, “modprobe”",
        remedy=_WRITE,
        breaks="Who uses it later.",
    ),
    _modules(
        "module-by-name",
        "What is kept out is kept out by name too",
        Severity.LOW,
        of_host(_by_name),
        source=_MODPROBE + ", “blacklist”",
        remedy="Add `install NAME /bin/false` to the file with the blacklist line.",
    ),
    _modules(
        "module-signed-only",
        "Only signed modules are loaded",
        Severity.MEDIUM,
        of_host(_signed_only),
        source="Linux documentation, admin-guide/module-signing",
        remedy="Boot with `module.sig_enforce=1`, or with Secure Boot and lockdown.",
        actionable=Actionable.BOOT,
        breaks="Modules that were built on the host, unless their key is enrolled. Livepatches need a key that "
        "the kernel trusts: enrol the key of `kmend keys` first.",
        livepatching=Livepatching.CARE,
    ),
    _modules(
        "module-taint",
        "No module was loaded that taints the kernel",
        Severity.LOW,
        of_host(_taint),
        source="Linux documentation, admin-guide/tainted-kernels",
        remedy="Find it (`dmesg | grep taint`), replace it by the distribution's, and boot.",
        actionable=Actionable.BOOT,
    ),
)
