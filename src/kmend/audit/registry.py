"""All checks, and which of them a profile or a selection means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from kmend.audit.check import Check
from kmend.audit.checks import (
    boot,
    container_mounts,
    container_use,
    containers,
    daemon,
    engines,
    files,
    host,
    images,
    kernel,
    kubernetes,
    modules,
    runtimes,
    swarm,
    sysctls,
)
from kmend.kit.errors import InputError
from kmend.model.finding import Area, Rule

CHECKS: tuple[Check, ...] = (
    *host.CHECKS,
    *daemon.CHECKS,
    *engines.CHECKS,
    *files.CHECKS,
    *images.CHECKS,
    *containers.CHECKS,
    *container_mounts.CHECKS,
    *container_use.CHECKS,
    *swarm.CHECKS,
    *kubernetes.CHECKS,
    *runtimes.CHECKS,
    *modules.CHECKS,
    *sysctls.CHECKS,
    *boot.CHECKS,
    *kernel.CHECKS,
)

_LEVEL_1, _LEVEL_2 = 1, 2
_KUBERNETES = "kubernetes:"


def _is_cis(rule: Rule, most: int) -> bool:
    return bool(rule.cis) and not rule.cis.startswith(_KUBERNETES) and rule.level <= most


PROFILES: Mapping[str, tuple[str, Callable[[Rule], bool]]] = {
    "all": ("every check", lambda _: True),
    "cis-docker-level1": (
        "those with a number of the CIS Docker Benchmark, level 1",
        lambda one: _is_cis(one, _LEVEL_1),
    ),
    "cis-docker-level2": ("the same, levels 1 and 2", lambda one: _is_cis(one, _LEVEL_2)),
    "cis-kubernetes-node": (
        "those with a number of the CIS Kubernetes Benchmark",
        lambda one: one.cis.startswith(_KUBERNETES),
    ),
    "containers": ("containers and images alone", lambda one: one.area in {Area.CONTAINERS, Area.IMAGES}),
    "host": ("all but containers and images", lambda one: one.area not in {Area.CONTAINERS, Area.IMAGES}),
    "runtimes": ("runtimes and engines with known holes", lambda one: one.area is Area.RUNTIMES),
    "kernel": ("kernel hardening and modules", lambda one: one.area in {Area.KERNEL, Area.MODULES}),
}
"""Name → what it means, and which rules it has."""


def select(profile: str = "all", wanted: Iterable[str] = ()) -> tuple[Check, ...]:
    """The checks of a profile, or those that were named.

    Args:
        profile: A name in PROFILES.
        wanted: Ids of checks, patterns (``container-*``), areas, or CIS numbers (``5.4``); all of the profile when
            there is none.

    Raises:
        InputError: There is no such profile, or a name fits no check.
    """
    if profile not in PROFILES:
        raise InputError(f"There is no profile {profile!r}.", hint=f"Profiles: {', '.join(PROFILES)}.")
    belongs = PROFILES[profile][1]
    chosen = tuple(one for one in CHECKS if belongs(one.rule))
    names = tuple(wanted)
    for name in names:
        if not any(_fits(one.rule, name) for one in chosen):
            raise InputError(
                f"No check of the profile {profile} is called {name!r}.", hint="See `kmend audit --list`."
            )
    return tuple(one for one in chosen if not names or any(_fits(one.rule, name) for name in names))


def _fits(rule: Rule, name: str) -> bool:
    return fnmatchcase(rule.id, name) or name in {rule.area.value, rule.cis}
