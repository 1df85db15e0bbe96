"""Probes: harmless C programs that tell whether the running kernel has the bug."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kmend.model.lab import ProbeResult


def read_probes(folder: Path) -> dict[str, str]:
    """Name → C source of every probe in a build folder, sorted by name; empty when there is none."""
    return {path.stem: path.read_text() for path in sorted((folder / "probes").glob("*.c"))}


def wanted_modules(source: str) -> tuple[str, ...]:
    """The kernel modules that a probe asks for in its first line: ``// modules: unix tls``."""
    head, _, rest = source.lstrip().partition("\n")[0].partition("modules:")
    return tuple(rest.replace("*/", "").split()) if head.strip() in ("//", "/*") else ()


def probe_result(code: int) -> ProbeResult:
    """What a probe's exit code says: 0 fixed, 1 vulnerable, anything else could not tell."""
    return {0: ProbeResult.FIXED, 1: ProbeResult.VULNERABLE}.get(code, ProbeResult.UNKNOWN)


def together(results: Iterable[ProbeResult]) -> ProbeResult:
    """Several probes as one: vulnerable if any is, fixed if one says so and none disagrees, else unknown."""
    seen = set(results)
    for result in (ProbeResult.VULNERABLE, ProbeResult.FIXED):
        if result in seen:
            return result
    return ProbeResult.UNKNOWN
