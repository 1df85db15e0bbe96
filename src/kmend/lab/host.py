"""The host profile: a Debian container host with three running containers, for the scenario and for the demo."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kmend.kit.cache import cache_root
from kmend.kit.files import scratch
from kmend.kit.progress import Progress, Silent
from kmend.lab import beats, machine
from kmend.lab.accelerator import accelerator as find_accelerator
from kmend.lab.debian import BEAT_FOLDER, CONTAINERS, PROBING, DebianGuest, debian_machine
from kmend.lab.guest import GuestFault, StagedGuest
from kmend.lab.guests import host_disk
from kmend.lab.machine import NETWORK, Machine, forward_to
from kmend.model.kernel import Kit
from kmend.model.lab import ContainerRecord, ProbeResult

FORWARDED = f"http://{machine.FORWARDED}"
"""Where the guest finds the forwarded port of this machine."""
_FIRST_BEATS = 180.0
_PROBE_WAIT = 120.0


class ContainerHost(DebianGuest, StagedGuest):
    """A container host; its containers tell over bind-mounted files what they see, and are never entered."""

    def __init__(self, machine: Machine, *, probes: tuple[str, ...]) -> None:
        super().__init__(machine)
        self._probes = probes
        self._begin: dict[str, tuple[str, int]] = {}
        self._counted_from = 0

    def start(self) -> None:
        """Wait until Docker is up and every container beats and has its connection; remember how they stand.

        Raises:
            GuestFault: They did not come up.
            LostGuest: The guest is gone.
        """
        self.must(["sh", "-c", NETWORK])
        self.wait_docker()
        deadline = time.monotonic() + _FIRST_BEATS
        while not all(log.beats and log.connected for log in self._logs().values()):
            if time.monotonic() > deadline:
                raise GuestFault(f"The containers did not come up:\n{self.run(['docker', 'ps', '-a'])[1]}")
            time.sleep(0.5)
        self._begin = self._engine_view()
        self._counted_from = self.guest_ms()

    def guest_ms(self) -> int:
        """The guest's clock in ms since 1970."""
        return int(self.must(["date", "+%s%3N"]))

    def heartbeats(self) -> dict[str, tuple[int, ...]]:
        """Per container the times of its heartbeats, ms since 1970 by the guest's clock, about every 50 ms."""
        return {name: log.beats for name, log in self._logs().items()}

    def verdicts(self) -> tuple[tuple[int, ProbeResult], ...]:
        """What the probes said inside a container, as (ms since 1970, all probes together), one per round."""
        return beats.rounds(self._logs([PROBING])[PROBING].probes, self._probes)

    def probe(self) -> dict[str, ProbeResult]:
        """What each probe says from now on, run inside an unprivileged container."""
        asked = self.guest_ms()
        deadline = time.monotonic() + _PROBE_WAIT
        while True:
            answers = self._logs([PROBING])[PROBING].first_after(asked)
            if set(answers) >= set(self._probes) or time.monotonic() > deadline:
                return {name: answers.get(name, ProbeResult.UNKNOWN) for name in self._probes}
            time.sleep(0.2)

    def containers(self) -> tuple[ContainerRecord, ...]:
        """Every container from when all were up until now, as the engine and the container itself tell it."""
        after, logs = self._engine_view(), self._logs()
        return tuple(
            ContainerRecord(
                name=name,
                started_at=self._begin[name][0],
                started_at_after=after[name][0],
                restarts=max(after[name][1] - self._begin[name][1], logs[name].starts - 1),
                heartbeats=len(log.beats),
                longest_gap_ms=log.longest_gap_ms(),
                connection_kept=not log.broken,
            )
            for name, log in ((name, logs[name].since(self._counted_from)) for name in CONTAINERS)
        )

    def modprobe(self, name: str) -> None:
        """Load a module of the kernel and what it needs.

        Raises:
            GuestFault: The kernel refused.
        """
        self.must(["modprobe", name], timeout=120)

    def _engine_view(self) -> dict[str, tuple[str, int]]:
        """Container → start time and restart count, as Docker says."""
        form = "{{.Name}} {{.State.StartedAt}} {{.RestartCount}}"
        lines = self.must(["docker", "inspect", "-f", form, *CONTAINERS], timeout=120).splitlines()
        return {name.lstrip("/"): (at, int(count)) for name, at, count in (line.split() for line in lines)}

    def _logs(self, names: list[str] | None = None) -> dict[str, beats.BeatLog]:
        answers = {name: self.answer(["cat", f"{BEAT_FOLDER}/{name}.log"]).text for name in names or CONTAINERS}
        return {name: beats.parse(text) for name, text in answers.items()}


@contextmanager
def container_host(
    kit: Kit,
    *,
    probes: Mapping[str, str] | None = None,
    forward_port: int | None = None,
    progress: Progress | None = None,
    accelerator: str = "",
    folder: Path | None = None,
    own_disk: Path | None = None,
    silence: float = 120,
    limit: float = 2400,
) -> Iterator[ContainerHost]:
    """A running Debian container host with this kernel and three containers; gone after the block.

    Args:
        kit: The kernel.
        probes: Name → C source; they run over and over inside the unprivileged container ``web``.
        forward_port: Port of this machine's loopback that the guest reaches as ``FORWARDED``; nothing else is
            reachable for it.
        progress: Hears of each step.
        accelerator: ``kvm`` or ``tcg``; found out when empty.
        folder: Scratch folder for the console log and the like; one of its own when None.
        own_disk: A disk that ``own_host_disk`` made: what the guest writes stays, so it can boot again.
        silence: Seconds without a sign of life after which the guest counts as hung.
        limit: Seconds that the VM may live at most.

    Raises:
        LostGuest: It did not come up, or later: it died.
        MachineError: The guest's disk could not be made.
    """
    if folder is None:
        with (
            scratch(cache_root() / "lab", prefix="host-") as own,
            container_host(
                kit,
                probes=probes,
                forward_port=forward_port,
                progress=progress,
                accelerator=accelerator,
                folder=own,
                own_disk=own_disk,
                silence=silence,
                limit=limit,
            ) as host,
        ):
            yield host
        return
    progress = progress or Silent()
    chosen = accelerator or find_accelerator(kit, progress)
    disk = own_disk or host_disk(kit, accelerator=chosen, progress=progress)
    progress.step(f"Booting a container host with {kit.kernel.release}")
    with debian_machine(
        kit,
        folder,
        disk=disk,
        accelerator=chosen,
        probes=probes,
        forward=forward_to(forward_port),
        keep_changes=own_disk is not None,
        silence=silence,
        limit=limit,
    ) as vm:
        host = ContainerHost(vm, probes=tuple(probes or ()))
        progress.step("Starting Docker and three containers")
        host.start()
        yield host
