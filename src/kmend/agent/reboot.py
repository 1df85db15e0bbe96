"""Whether this host needs a reboot, although its kernel is live-patched."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from kmend.agent.apply import Host
from kmend.agent.look import load_not_here
from kmend.agent.view import HostStatus, status
from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic
from kmend.linux.packages import InstalledKernel, Wish, cves_since, installed_kernels, reboot_wish
from kmend.model.kernel import Kernel

_KERNEL = ("linux-image", "linux-base", "linux-headers", "linux-modules", "linux-generic", "linux-virtual")
_SHOWN = 3


class Need(IntEnum):
    """The exit code."""

    NEEDED = 0
    NOT_NEEDED = 1
    UNKNOWN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NewerKernel:
    """An installed kernel that does not run."""

    release: str
    version: str
    cves: tuple[str, ...]
    """What it closes and the running kernel does not; livepatches aside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebootFacts:
    """What the decision goes by."""

    running: Kernel
    newer: tuple[NewerKernel, ...]
    problems: tuple[str, ...]
    """Why some installed kernel could not be compared."""
    wish: Wish | None
    livepatch: int | None
    """Number of kmend's livepatch that is in effect."""
    closed: tuple[str, ...] | None
    """CVEs that it closes; None when nobody can tell."""
    not_here: tuple[str, ...] = ()
    """CVEs that the running kernel cannot have, as far as a look has said so."""
    others: str = ""
    """What else is loaded or about to be, and may close more; empty when nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebootAnswer:
    """The answer with its reason."""

    need: str
    """needed, not-needed or unknown."""
    because: str
    open: tuple[str, ...]
    """CVEs that an installed kernel closes, and neither the running one nor its livepatch."""

    @property
    def code(self) -> int:
        """The exit code."""
        return Need[self.need.upper().replace("-", "_")].value


def reboot_required(host: Host) -> RebootAnswer:
    """The answer for this host. Starts nothing, changes nothing, needs no network."""
    found = status(host)
    installed = installed_kernels(host.root)
    newer, problems = _compared(found.kernel, installed, host.root)
    number, closed = _livepatch(found)
    return decide_reboot(
        RebootFacts(
            running=found.kernel,
            newer=newer,
            problems=problems,
            wish=reboot_wish(host.root),
            livepatch=number,
            closed=closed,
            not_here=load_not_here(host.paths, found.kernel.build_id),
            others=_others(found),
        )
    )


def decide_reboot(facts: RebootFacts) -> RebootAnswer:
    """Pure. A certain reason to reboot goes before what is not known, and that before not needed."""
    others = [name for name in facts.wish.packages if not name.startswith(_KERNEL)] if facts.wish else []
    if others:
        return _answer(Need.NEEDED, f"packages ask for it that no livepatch replaces: {', '.join(others)}")
    closing = sorted({cve for kernel in facts.newer for cve in kernel.cves} - set(facts.not_here))
    if closing and facts.closed is None:
        return _answer(Need.UNKNOWN, "nobody here knows which CVEs the loaded livepatch closes")
    still = tuple(cve for cve in closing if cve not in (facts.closed or ()))
    if still and facts.others:
        return _answer(Need.UNKNOWN, f"nobody here knows whether {facts.others} closes {_named(still)}")
    if still:
        return _answer(Need.NEEDED, _still_open(facts, still), still)
    return _without_open(facts, len(closing))


def _without_open(facts: RebootFacts, closing: int) -> RebootAnswer:
    """The answer when no CVE is known to be open."""
    if facts.problems:
        return _answer(Need.UNKNOWN, "; ".join(facts.problems))
    if facts.newer and closing:
        return _answer(
            Need.NOT_NEEDED,
            f"livepatch {facts.livepatch} closes all {closing} CVEs of this kernel that installed ones close",
        )
    if facts.newer:
        newest = facts.newer[-1]
        of_this = " of what this kernel contains" if newest.cves else ""
        return _answer(Need.NOT_NEEDED, f"linux-image-{newest.release} ({newest.version}) closes no CVE{of_this}")
    if facts.wish:
        return _answer(Need.UNKNOWN, "the distribution asks for it, and does not say why")
    return _answer(Need.NOT_NEEDED, f"{facts.running.release} ({facts.running.version}) is the newest installed")


def write_sentinel(path: Path, answer: RebootAnswer) -> None:
    """Make a file of our own say the same: there when needed, gone when not, as it was when nobody can tell.

    Raises:
        OSError: It cannot be written.
    """
    if answer.code == Need.NEEDED:
        write_atomic(path, f"{answer.because}\n")
    elif answer.code == Need.NOT_NEEDED:
        path.unlink(missing_ok=True)


def unknown(because: str) -> RebootAnswer:
    """Nobody can tell."""
    return _answer(Need.UNKNOWN, because)


def _still_open(facts: RebootFacts, still: tuple[str, ...]) -> str:
    but = f"livepatch {facts.livepatch} does not" if facts.livepatch else "no livepatch is loaded"
    kernels = ", ".join(f"linux-image-{kernel.release} ({kernel.version})" for kernel in facts.newer)
    return f"{kernels} closes {_named(still)}, and {but}"


def _named(cves: tuple[str, ...]) -> str:
    return ", ".join(cves[:_SHOWN]) + (f" and {len(cves) - _SHOWN} more" if len(cves) > _SHOWN else "")


def _answer(need: Need, because: str, still: tuple[str, ...] = ()) -> RebootAnswer:
    return RebootAnswer(need=need.name.lower().replace("_", "-"), because=because, open=still)


def _compared(
    running: Kernel, installed: tuple[InstalledKernel, ...] | None, root: Path
) -> tuple[tuple[NewerKernel, ...], tuple[str, ...]]:
    """The installed kernels that are newer, and why others could not be compared."""
    if installed is None:
        return (), ("there is no dpkg here, so the installed kernels are not known",)
    if not running.version:
        return (), ("the running kernel does not say its package version",)
    newer, problems = [], []
    for kernel in installed:
        if kernel.version == running.version:
            continue
        try:
            cves = cves_since(running, kernel, root)
        except InputError as error:
            problems.append(error.message.removesuffix("."))
            continue
        if cves is not None:
            newer.append(NewerKernel(release=kernel.release, version=kernel.version, cves=cves))
    return tuple(newer), tuple(problems)


def _livepatch(found: HostStatus) -> tuple[int | None, tuple[str, ...] | None]:
    """Number and CVEs of what is in effect; no CVEs where nothing is."""
    with suppress(StopIteration):
        one = next(one for one in found.running if one.ours and one.enabled and not one.in_transition)
        return one.number, one.cves
    return None, ()


def _others(found: HostStatus) -> str:
    """Livepatches that are not in effect yet, and somebody else's: what they close is in no manifest here."""
    said = [
        f"{one.name}, which is being switched in or out," if one.in_transition else f"somebody's {one.name}"
        for one in found.running
        if one.in_transition or (one.enabled and not one.ours)
    ]
    return " or ".join(said)
