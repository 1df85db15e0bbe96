"""What to do first about what is open. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from kmend.exposure.mitigations import block_of, sysctl_of
from kmend.exposure.reach.answer import LOADS_ITSELF
from kmend.model.exposure import Action, ActionKind, CveExposure, Reach, Verdict
from kmend.model.facts import Facts
from kmend.model.livepatch import Livepatch

_BLOCKS_MOST = 20


class Newer(NamedTuple):
    """A kernel that is installed and not running."""

    release: str
    version: str
    cves: tuple[str, ...]
    """What it closes beyond the running one, by its changelog."""


def actions(
    facts: Facts, cves: Iterable[CveExposure], *, manifest: Livepatch | None, newer: Iterable[Newer]
) -> tuple[Action, ...]:
    """What can be done, the one that needs the least first: livepatch, switches, reboot."""
    still = {one.cve: one for one in cves if one.verdict is Verdict.OPEN}
    found = [
        *_livepatch(facts, still, manifest),
        *_blocks(facts, still.values()),
        *_sysctls(facts, still.values()),
        *_reboots(still, newer),
    ]
    return tuple(found)


def _livepatch(facts: Facts, still: Mapping[str, CveExposure], manifest: Livepatch | None) -> Iterator[Action]:
    if manifest is None or any(one.module == manifest.module for one in facts.kernel.livepatches):
        return
    closes = tuple(cve for cve in manifest.cves if cve in still)
    if closes:
        yield Action(
            kind=ActionKind.LIVEPATCH,
            what=str(manifest.number),
            text=f"Apply livepatch {manifest.number}: it closes {_count(closes)}, without a reboot.",
            cves=closes,
        )


def _reboots(still: Mapping[str, CveExposure], newer: Iterable[Newer]) -> Iterator[Action]:
    for kernel in newer:
        closes = tuple(cve for cve in still if cve in set(kernel.cves))
        if closes:
            yield Action(
                kind=ActionKind.REBOOT,
                what=kernel.release,
                text=f"Reboot into {kernel.release} ({kernel.version}), which is installed: it closes "
                f"{_count(closes)}.",
                cves=closes,
            )


def _blocks(facts: Facts, still: Iterable[CveExposure]) -> Iterator[Action]:
    """Modules that containers could have loaded, that nothing uses, and whose absence breaks nothing known."""
    by_module: dict[str, list[str]] = defaultdict(list)
    for one in still:
        if _by_request(one):
            for block in block_of(facts, one.objects):
                if block.possible and not block.breaks:
                    by_module[block.module].append(one.cve)
    ordered = sorted(by_module.items(), key=lambda item: (-len(item[1]), item[0]))
    for module, cves in ordered[:_BLOCKS_MOST]:
        yield Action(
            kind=ActionKind.BLOCK,
            what=module,
            text=f"Block module {module}, which is not loaded: {_count(cves)} can be reached by loading it "
            f"(`kmend mitigate {cves[0]}`).",
            cves=tuple(cves),
        )


def _by_request(one: CveExposure) -> bool:
    """Whether a container reaches it that does not load modules by itself, whatever is blocked."""
    return any(
        found.reach is Reach.REACHABLE and all(piece.source != LOADS_ITSELF for piece in found.evidence)
        for found in one.reach
    )


def _sysctls(facts: Facts, still: Iterable[CveExposure]) -> Iterator[Action]:
    by_setting: dict[str, list[str]] = defaultdict(list)
    for one in still:
        if one.worst is Reach.REACHABLE and (setting := sysctl_of(facts, one.files)):
            by_setting[f"{setting.name}={setting.value}"].append(one.cve)
    for line, cves in sorted(by_setting.items()):
        yield Action(
            kind=ActionKind.SYSCTL,
            what=line,
            text=f"Set {line}: it keeps containers from the code of {_count(cves)} "
            f"(`kmend mitigate {cves[0]}` says what it breaks).",
            cves=tuple(cves),
        )


def _count(cves: Iterable[str]) -> str:
    found = list(cves)
    return found[0] if len(found) == 1 else f"{len(found)} open CVEs"
