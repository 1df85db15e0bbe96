"""The load: simulated hosts in a process of their own; prints what came of it, and keeps what was acknowledged."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from kmend.fleet.connections import allow_many_connections
from kmend.fleet.simulate.connections import local_server
from kmend.fleet.simulate.hosts import Behaviour, SimulatedHost, make_hosts
from kmend.fleet.simulate.run import Load, Simulated, Simulation
from kmend.kit.progress import Silent
from kmend.model.kernel import Kernel

KERNEL = Kernel(release="6.1.0-0-simulated", version="simulated", build_id="51" * 20)
SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One load: where it goes, and how it comes."""

    address: str
    fingerprint: str
    hosts: int
    load: Load
    acknowledged: str
    """File for what was acknowledged: host's id → the report's own time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """What came of a load, and the processor time that making it took."""

    simulated: Simulated
    generator_seconds: float


def bench_hosts(count: int) -> Sequence[SimulatedHost]:
    """The hosts of every load, with the ids that they have in the bench's databases."""
    hosts = make_hosts(count, Behaviour(kernel=KERNEL), seed=SEED)
    for number, host in enumerate(hosts):
        host.host = f"bench-{number}"
    return hosts


def main() -> None:
    """Read a task from standard input, do it, print what came of it."""
    told = json.load(sys.stdin)
    task = Task(**{**told, "load": Load(**told["load"])})
    allow_many_connections()
    hosts = bench_hosts(task.hosts)
    server = local_server(task.address, fingerprint=task.fingerprint)
    simulation = Simulation(server, hosts, task.load, Silent())
    uvloop.run(simulation.check_in())
    kept = {host.host: host.acknowledged.isoformat() for host in hosts if host.acknowledged}
    Path(task.acknowledged).write_text(json.dumps(kept))
    used = resource.getrusage(resource.RUSAGE_SELF)
    came = Came(simulated=simulation.result(), generator_seconds=used.ru_utime + used.ru_stime)
    json.dump(asdict(came), sys.stdout)


if __name__ == "__main__":
    main()
