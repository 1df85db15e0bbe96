"""The watch after loading: how the host was before, and what has become worse since."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from kmend.agent.settings import Settings
from kmend.linux import containers, services
from kmend.linux.kernel_log import (
    KernelTrouble,
    can_read_kernel_log,
    newest_record,
    read_kernel_log,
    troubles_in,
)
from kmend.model.host import ContainerRuns, Watch
from kmend.model.livepatch import Livepatch

RUNS = 3
"""So many runs of the agent may watch one livepatch; when they are all killed it is not trusted."""
_BLIND = 3
UNITS, KERNEL_LOG = "systemd units", "kernel log"


class Surroundings(Protocol):
    """What runs on the host beside the kernel."""

    def failed_units(self) -> tuple[str, ...] | None:
        """Units that have failed; None when nobody answers."""

    def unit_state(self, name: str) -> str | None:
        """Whether a unit is active; None when nobody answers."""

    def going_down(self) -> bool | None:
        """Whether the system is being shut down in order; None when nobody answers."""

    def runtimes(self) -> tuple[str, ...]:
        """Container runtimes that can be asked."""

    def container_runs(self, runtime: str, *, now: datetime) -> tuple[ContainerRuns, ...] | None:
        """Containers of a runtime; None when it does not answer."""


class LinuxSurroundings:
    """By systemctl and the runtimes' own programs."""

    def failed_units(self) -> tuple[str, ...] | None:
        """Of the system's service manager."""
        return services.failed_units()

    def unit_state(self, name: str) -> str | None:
        """As the system's service manager says."""
        return services.unit_state(name)

    def going_down(self) -> bool | None:
        """As the system's service manager says."""
        return services.going_down()

    def runtimes(self) -> tuple[str, ...]:
        """Programs on this machine."""
        return containers.runtimes()

    def container_runs(self, runtime: str, *, now: datetime) -> tuple[ContainerRuns, ...] | None:
        """Listed by the runtime's program."""
        return containers.container_runs(runtime, now=now)


def begin(root: Path, around: Surroundings, settings: Settings, *, now: datetime, clock: float) -> Watch:
    """How the host is now, before a livepatch is loaded.

    Args:
        root: Of the machine.
        around: What runs beside the kernel.
        settings: What is to be watched.
        now: The moment.
        clock: The same by the clock that only rises.
    """
    unseen = [] if can_read_kernel_log(root) else [KERNEL_LOG]
    units = around.failed_units() if settings.watch_units else ()
    if units is None:
        unseen.append(UNITS)
    found: list[ContainerRuns] = []
    for runtime in around.runtimes() if settings.watch_containers else ():
        runs = around.container_runs(runtime, now=now)
        unseen += [] if runs is not None else [runtime]
        found += runs or ()
    return Watch(
        began=clock,
        log_mark=newest_record(root),
        failed_units=units or (),
        containers=tuple(found),
        unseen=tuple(unseen),
    )


@dataclass(slots=True, kw_only=True)
class Watcher:
    """Compares the host with how it was; remembers who has stopped to answer."""

    root: Path
    around: Surroundings
    settings: Settings
    livepatch: Livepatch
    watch: Watch
    blind: dict[str, int] = field(default_factory=dict)

    def kernel(self) -> str:
        """What the kernel has complained about because of the livepatch, or nothing."""
        found = troubles_in(read_kernel_log(self.root, after=self.watch.log_mark))
        for trouble in found:
            if place := _blamed(trouble, self.livepatch):
                return f"the kernel complained after livepatch {self.livepatch.number} was loaded: {place}"
        return ""

    def around_it(self, now: datetime) -> str:
        """Which unit or container has become worse, or who does not answer any more; or nothing."""
        return self._units() or self._containers(now)

    def _units(self) -> str:
        if not self.settings.watch_units or UNITS in self.watch.unseen:
            return ""
        failed = self.around.failed_units()
        new = [unit for unit in failed or () if unit not in self.watch.failed_units and self._counts(unit)]
        return self._silent(UNITS, failed is None) or (
            f"{new[0]} failed while the host was watched" if new else ""
        )

    def _containers(self, now: datetime) -> str:
        if not self.settings.watch_containers:
            return ""
        before = {(one.runtime, one.id): one for one in self.watch.containers if one.steady}
        for runtime in sorted({runtime for runtime, _ in before} - set(self.watch.unseen)):
            runs = self.around.container_runs(runtime, now=now)
            if trouble := self._silent(runtime, runs is None):
                return trouble
            for one in runs or ():
                known = before.get((one.runtime, one.id))
                if known and one.restarts > known.restarts and self._counts(one.name):
                    return f"container {one.name} was started again by {runtime} while the host was watched"
        return ""

    def _silent(self, who: str, silent: bool) -> str:
        """The trouble when somebody has not answered several times in a row."""
        self.blind[who] = self.blind.get(who, 0) + 1 if silent else 0
        if self.blind[who] < _BLIND:
            return ""
        return f"{who} could be looked at before livepatch {self.livepatch.number} was loaded, and cannot any more"

    def _counts(self, name: str) -> bool:
        return not any(fnmatchcase(name, pattern) for pattern in self.settings.watch_ignore)


def _blamed(trouble: KernelTrouble, livepatch: Livepatch) -> str:
    """The complaint in words, if it counts against the livepatch.

    An oops or BUG always does: whatever it hit is in doubt. Anything else needs a replaced function in its trace.
    """
    replaced = {function.name.split(".")[0] for function in livepatch.functions}
    seen = sorted(trouble.functions & replaced)
    if not seen and livepatch.module in trouble.modules:
        seen = [livepatch.module]
    if seen:
        return f"{trouble.text} (with {', '.join(seen)} in the trace)"
    return trouble.text if trouble.fatal else ""
