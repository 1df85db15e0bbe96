"""The facts of this host, with what the agent knows of its own livepatch."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from kmend.agent.config import Paths
from kmend.agent.state import load_state
from kmend.kit.errors import KmendError
from kmend.linux.facts.collect import collect
from kmend.linux.facts.look import Limits
from kmend.model.facts import Facts, LoadedLivepatch, Unseen


def host_facts(
    root: Path = Path("/"), *, now: datetime, limits: Limits | None = None, cache: Path | None = None
) -> Facts:
    """What can be seen of a host; the CVEs of our livepatch are those of the manifest that the agent verified.

    Args:
        root: As for collect().
        now: The time.
        limits: As for collect().
        cache: As for collect().

    Raises:
        MachineError: As collect().
    """
    facts = collect(root, now=now, limits=limits, cache=cache)
    if not any(one.number is not None for one in facts.kernel.livepatches):
        return facts
    known = _loaded_by_agent(root, now)
    livepatches = tuple(
        replace(one, cves=known[one.module]) if one.module in known else one for one in facts.kernel.livepatches
    )
    unknown = tuple(
        Unseen(what=f"livepatch:{one.module}:cves", why="the agent of this host did not load it")
        for one in facts.kernel.livepatches
        if _unexplained(one, known)
    )
    return replace(facts, kernel=replace(facts.kernel, livepatches=livepatches), unseen=(*facts.unseen, *unknown))


def _unexplained(one: LoadedLivepatch, known: dict[str, tuple[str, ...]]) -> bool:
    return one.number is not None and one.module not in known


def _loaded_by_agent(root: Path, now: datetime) -> dict[str, tuple[str, ...]]:
    """Module → CVEs of what the agent of this host loaded."""
    try:
        state = load_state(Paths(root=root), boot_id="", now=now)
    except (KmendError, OSError):
        return {}
    return {state.livepatch.module: state.livepatch.cves} if state.livepatch else {}
