"""Address families that a seccomp filter refuses: the one argument that default profiles look at for socket(2)."""

from __future__ import annotations

import operator
from collections.abc import Callable

from kmend.linux.facts.said import Said

FAMILIES = range(46)
"""AF_UNSPEC to AF_MCTP; linux/socket.h"""
# libseccomp's comparisons, as OCI's runtime specification names them.
_COMPARES: dict[str, Callable[[int, int], bool]] = {
    "SCMP_CMP_NE": operator.ne,
    "SCMP_CMP_LT": operator.lt,
    "SCMP_CMP_LE": operator.le,
    "SCMP_CMP_EQ": operator.eq,
    "SCMP_CMP_GE": operator.ge,
    "SCMP_CMP_GT": operator.gt,
}


def refused_families(seccomp: Said, *, allowing: set[str]) -> tuple[int, ...] | None:
    """The families for which socket(2) is refused; None where a rule looks at more than the family.

    Args:
        seccomp: The section of config.json.
        allowing: Actions that let a call through.
    """
    allows = seccomp.text("defaultAction") in allowing
    rules = [one for one in seccomp.items("syscalls") if "socket" in (*one.texts("names"), one.text("name"))]
    # A rule that does what happens anyway says nothing.
    deciding = [one for one in rules if (one.text("action") in allowing) is not allows]
    if not all(_is_clear(rule) for rule in deciding):
        return None
    hit = {number for number in FAMILIES if any(_fits(rule, number) for rule in deciding)}
    return tuple(number for number in FAMILIES if (number in hit) is allows)


def _is_clear(rule: Said) -> bool:
    return all(one.number("index") == 0 and one.text("op") in _COMPARES for one in rule.items("args"))


def _fits(rule: Said, family: int) -> bool:
    return all(_COMPARES[one.text("op")](family, one.number("value")) for one in rule.items("args"))
