"""Reading a kernel log: what must not be in it, and when a livepatch's transitions began and ended. All pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

_STAMP = re.compile(r"^(?:<\d+>)?\[\s*(\d+\.\d+)\]\s?(.*)$")

_BAD = re.compile(
    r"""
      \bWARNING:\s(CPU|possible|suspicious|inconsistent|bad|stack)
    | \bBUG:?\s | \bBUG\sat\b | \bBUG:\sKASAN
    | \bOops:?\s
    | Kernel\spanic
    | general\sprotection\sfault,?\s(probably|maybe|0000|:) | general\sprotection\sfault:\s
    | [Uu]nable\sto\shandle\s(kernel|page)
    | \b(invalid\sopcode|divide\serror|double\sfault|stack\ssegment|int3|bad\srip\svalue):\s
    | double\sfault
    | rcu:\sINFO | INFO:\srcu | rcu_\w+\s(self-)?detected\s(stall|expedited)
    | INFO:\stask\s.*\sblocked\sfor\smore\sthan
    | soft\slockup | hard\sLOCKUP | workqueue\slockup
    | \b(KASAN|KFENCE|KCSAN|UBSAN|KMSAN):
    | refcount_t:\s | list_(add|del)\scorruption
    | unregister_netdevice:\swaiting
    | Call\sTrace: | RIP:\s0010:
    | scheduling\swhile\satomic | sleeping\sfunction\scalled
    | livepatch:\s.*(failed|cannot|not\ssupported|invalid|error)
    | unwind\w*:?\s.*(bad|unexpected|warning)
    """,
    re.VERBOSE,
)
_MOST = 40


def messages(log: str) -> Iterable[tuple[float, str]]:
    """Each line of a console or dmesg text as seconds since boot and message; other output has time -1."""
    for line in log.replace("\r", "").splitlines():
        stamped = _STAMP.match(line)
        yield (float(stamped[1]), stamped[2]) if stamped else (-1.0, line)


def findings(log: str) -> tuple[str, ...]:
    """The lines that tell of an oops, WARN, BUG, stall, hung task or the like; empty when the log is clean.

    At most 40 lines, in order, without time stamps; Spectre's advice that begins with WARNING is no fault.
    """
    bad = (text.strip() for _, text in messages(log) if _BAD.search(text))
    return tuple(dict.fromkeys(bad))[:_MOST]


def since(log: str, mark: str) -> str:
    """What follows the line with a mark; everything when the mark is not there."""
    _, found, rest = log.partition(mark)
    return rest if found else log


def transition_ms(log: str, module: str) -> float | None:
    """How long the first patching transition took, by the kernel's own clock; None when the log does not say."""
    begin = end = None
    for at, text in messages(log):
        if at >= 0 and begin is None and f"livepatch: '{module}': starting patching transition" in text:
            begin = at
        if at >= 0 and begin is not None and f"livepatch: '{module}': patching complete" in text:
            end = at
            break
    return None if begin is None or end is None else (end - begin) * 1000


def tail(log: str, lines: int = 80) -> tuple[str, ...]:
    """The last lines."""
    return tuple(log.replace("\r", "").splitlines()[-lines:])
