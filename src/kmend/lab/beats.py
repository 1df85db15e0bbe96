"""What a container wrote about itself (guest/beat.c): heartbeats, connection, probe verdicts. All pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kmend.lab.probes import probe_result, together
from kmend.model.lab import ProbeResult


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRun:
    """One run of one probe inside the container."""

    at: int
    """Ms since 1970 by the guest's clock, when it had ended."""
    name: str
    result: ProbeResult


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatLog:
    """One container's log. Times are ms since 1970 by the guest's clock."""

    starts: int
    beats: tuple[int, ...]
    connected: tuple[int, ...]
    broken: tuple[int, ...]
    probes: tuple[ProbeRun, ...]

    def since(self, begin: int) -> BeatLog:
        """The part from a moment on; ``starts`` stays."""
        return replace(
            self,
            beats=tuple(at for at in self.beats if at >= begin),
            connected=tuple(at for at in self.connected if at >= begin),
            broken=tuple(at for at in self.broken if at >= begin),
            probes=tuple(run for run in self.probes if run.at >= begin),
        )

    def longest_gap_ms(self) -> float:
        """The longest pause between two heartbeats; 0 with fewer than two."""
        return float(max((b - a for a, b in zip(self.beats, self.beats[1:], strict=False)), default=0))

    def first_after(self, begin: int) -> dict[str, ProbeResult]:
        """Probe → its verdict in a run that began after a moment (the second that ended after it)."""
        seen: dict[str, list[ProbeResult]] = {}
        for run in self.probes:
            if run.at > begin:
                seen.setdefault(run.name, []).append(run.result)
        return {name: results[1] for name, results in seen.items() if len(results) > 1}


def parse(text: str) -> BeatLog:
    """Read a container's log; a last line without its end, still being written, is left out."""
    lines = [line.split() for line in text.split("\n")[:-1]]

    def times(kind: str) -> tuple[int, ...]:
        return tuple(int(words[1]) for words in lines if len(words) > 1 and words[0] == kind)

    probes = tuple(
        ProbeRun(at=int(words[1]), name=words[2], result=probe_result(int(words[3])))
        for words in lines
        if len(words) == 4 and words[0] == "p"  # noqa: PLR2004 - p TIME PROBE CODE
    )
    return BeatLog(
        starts=len(times("s")), beats=times("h"), connected=times("c"), broken=times("x"), probes=probes
    )


def rounds(runs: Iterable[ProbeRun], names: Iterable[str]) -> tuple[tuple[int, ProbeResult], ...]:
    """The verdict of all probes together after each run, as (time, result), from when every probe has spoken."""
    wanted, latest, out = set(names), {}, []
    for run in runs:
        latest[run.name] = run.result
        if set(latest) >= wanted:
            out.append((run.at, together(latest.values())))
    return tuple(out)
