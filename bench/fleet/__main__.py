#!/usr/bin/env python3
"""How many check-ins a server takes, on SQLite and on PostgreSQL, beside nginx with the same answer as a file.

    python3 bench/fleet [--database sqlite|postgresql]... [--hosts N] [--seconds S] [--quick] [--no-herd] [--json]

Runs with the libraries that `make setup` puts into .venv, and with Debian's packages postgresql and nginx-light.
The load generator, the server and its database share this machine's processors. Exit code 1 when a limit does
not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_PYTHON = _HERE.parents[1] / ".venv" / "bin" / "python"
if Path(sys.prefix) != _PYTHON.parents[1] and _PYTHON.exists():
    os.execv(_PYTHON, [str(_PYTHON), *sys.argv])  # noqa: S606 - the same program with the right libraries
sys.path.insert(1, str(_HERE.parents[1] / "tests"))

from load import KERNEL, Came, Task
from servers import Running, fill, kmend_server, lost, nginx_server, nginx_there

from kmend.fleet.simulate.run import Load, Simulated
from kmend.model.fleet import Offer, OfferAction
from kmend.model.protocol import CheckedIn
from makers.database import fresh_postgres_database, own_postgres, postgres_programs

INTERVAL = 300
WANTED = {"sqlite": 2.0, "postgresql": 3.0}
"""Database → how many times the rate of the whole fleet it has to bear."""
P99_MS = 100.0
PEAK_BYTES = 512 << 20
FLAT_OUT = "flat out"
HERD_SECONDS = 60.0
HERD_CONNECTIONS = 2000
_HERD_PATIENCE = 900.0
_CONNECTIONS = 64
_STEP, _STEPS, _STEP_SECONDS = 1.2, 10, 10.0
_ALMOST = 0.98
"""Of a rate: what came in the last moment is not answered when the time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One load and what came of it; ``missed`` is what does not hold, empty when all does."""

    server: str
    load: str
    per_second: float
    p50: float
    p99: float
    delayed: int
    errors: int
    lost: int
    server_ms: float
    """Processor time of the server (and its database) for each answer."""
    generator_ms: float
    binds: bool = False
    """Whether what it misses is a limit that has to hold."""
    missed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A server that is measured, and where what it acknowledged has to be."""

    name: str
    running: Running
    folder: Path
    hosts: int
    url: str = ""


def under(subject: Subject, what: str, load: Load) -> tuple[Row, Simulated]:
    """Put a server under a load, and look into its database afterwards."""
    file = subject.folder / "acknowledged.json"
    task = Task(
        address=subject.running.address,
        fingerprint=subject.running.fingerprint,
        hosts=subject.hosts,
        load=load,
        acknowledged=str(file),
    )
    print(f"{subject.name}: {what} ...", file=sys.stderr, flush=True)
    before = subject.running.seconds()
    done = subprocess.run(
        [sys.executable, str(_HERE / "load.py")],
        input=json.dumps(asdict(task)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    used = subject.running.seconds() - before
    told = json.loads(done.stdout)
    came = Came(simulated=Simulated(**told["simulated"]), generator_seconds=told["generator_seconds"])
    found = came.simulated
    answers = max(1, found.accepted + found.delayed)
    row = Row(
        server=subject.name,
        load=what,
        per_second=found.per_second,
        p50=found.p50,
        p99=found.p99,
        delayed=found.delayed,
        errors=sum(found.refused.values()) + found.unanswered,
        lost=lost(subject.url, json.loads(file.read_text())) if subject.url else 0,
        server_ms=round(1000 * used / answers, 3),
        generator_ms=round(1000 * came.generator_seconds / answers, 3),
    )
    return row, found


def sustained(subject: Subject, rate: float, seconds: float, **more: bool) -> Row:
    """A steady rate; the row says what of it does not hold."""
    load = Load(connections=_CONNECTIONS, rate=rate, rounds=0, seconds=seconds, **more)
    row, _ = under(subject, f"{rate:.0f}/s{', new connections' if more else ''}", load)
    faults = {
        f"p99 is {row.p99} ms": row.p99 >= P99_MS,
        f"{row.errors} errors": row.errors,
        f"{row.delayed} were delayed": row.delayed,
        f"{row.lost} reports are lost": row.lost,
        f"only {row.per_second} per second": row.per_second < _ALMOST * rate,
    }
    return _with(row, faults)


def climb(subject: Subject, rate: float) -> list[Row]:
    """Higher and higher rates, until one does not hold twice."""
    rows = []
    for _ in range(_STEPS):
        rate *= _STEP
        row = sustained(subject, rate, _STEP_SECONDS)
        if row.missed:
            row = sustained(subject, rate, _STEP_SECONDS)
        rows.append(row)
        if row.missed:
            break
    return rows


def herd(subject: Subject) -> Row:
    """Every host of the fleet within one minute, each with a connection of its own; all come in, now or later."""
    load = Load(
        connections=HERD_CONNECTIONS,
        rate=subject.hosts / HERD_SECONDS,
        rounds=1,
        seconds=HERD_SECONDS + _HERD_PATIENCE,
        fresh=True,
    )
    row, found = under(subject, f"herd of {subject.hosts} in {HERD_SECONDS:.0f} s", load)
    faults = {
        f"{row.errors} errors": row.errors,
        f"{row.lost} reports are lost": row.lost,
        f"only {found.accepted} came in": found.accepted != subject.hosts,
    }
    print(f"  all were in after {found.seconds:.0f} s", file=sys.stderr)
    return replace(_with(row, faults), binds=True)


def flat_out(subject: Subject, seconds: float) -> Row:
    """As fast as the connections go, which is how it compares with nginx."""
    load = Load(connections=_CONNECTIONS, rate=0, rounds=0, seconds=seconds)
    return replace(under(subject, FLAT_OUT, load)[0], p50=0.0, p99=0.0)  # all were due at its beginning


def measure(name: str, folder: Path, url: str, options: argparse.Namespace, others: tuple[int, ...]) -> list[Row]:
    """All loads on one database."""
    print(f"{name}: filling with {options.hosts} hosts ...", file=sys.stderr, flush=True)
    fill(url, options.hosts)
    fleet_rate = options.hosts / INTERVAL
    rate = fleet_rate * WANTED[name]
    with kmend_server(folder, url, others=others) as running:
        subject = Subject(name=name, running=running, folder=folder, hosts=options.hosts, url=url)
        under(subject, "warm-up", Load(connections=_CONNECTIONS, rate=fleet_rate, rounds=0, seconds=5))
        rows = [replace(sustained(subject, rate, options.seconds), binds=True)]
        rows += [] if options.quick else climb(subject, rate)
        rows.append(flat_out(subject, _STEP_SECONDS))
        rows += [] if options.no_herd else [herd(subject)]
        peak = running.peak_bytes()
    with kmend_server(folder, url, tls=True, others=others) as running:
        name = f"{name}, TLS"
        subject = Subject(name=name, running=running, folder=folder, hosts=options.hosts, url=url)
        rows.append(sustained(subject, fleet_rate, options.seconds, fresh=True))
        peak = max(peak, running.peak_bytes())
    print(f"{name}: at most {peak >> 20} MiB", file=sys.stderr)
    return [_with(rows[0], {f"{peak >> 20} MiB of memory": peak > PEAK_BYTES}), *rows[1:]]


@contextmanager
def database(name: str, folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Address of an empty database whose commits wait for the disk, and its server's process."""
    if name == "sqlite":
        yield f"sqlite:///{folder}/fleet.db", ()
        return
    programs = postgres_programs()
    if programs is None:
        sys.exit("PostgreSQL is not installed: `apt-get install postgresql`, or give --database sqlite.")
    with own_postgres(programs, durable=True) as server:
        pid = int((server.folder / "data/postmaster.pid").read_text().split()[0])
        yield fresh_postgres_database(server.address), (pid,)


def beside(folder: Path, hosts: int) -> Row:
    """What nginx does with the same answer."""
    offer = Offer(
        action=OfferAction.STAY,
        number=None,
        build_id=KERNEL.build_id,
        channel="stable",
        because=f"no rollout in channel stable has a livepatch for {KERNEL.release}",
    )
    with nginx_server(folder, CheckedIn(offer=offer, interval=INTERVAL)) as running:
        return flat_out(Subject(name="nginx", running=running, folder=folder, hosts=hosts), _STEP_SECONDS)


def main() -> int:
    """Measure, print, and say whether all limits hold."""
    options = _options()
    rows, load_before = [], os.getloadavg()[0]
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder, prefix="kmend-bench-")))
        base.chmod(0o755)
        if nginx_there():
            rows.append(beside(base / "nginx", options.hosts))
        for name in options.database or WANTED:
            folder = base / name
            folder.mkdir()
            with database(name, folder) as (url, others):
                rows += measure(name, folder, url, options, others)
    _show(rows, load_before, as_json=options.json)
    return int(any(row.missed for row in rows if row.binds))


def _with(row: Row, faults: dict[str, object]) -> Row:
    found = [row.missed, *(text for text, wrong in faults.items() if wrong)]
    return replace(row, missed="; ".join(text for text in found if text))


def _show(rows: list[Row], load_before: float, *, as_json: bool) -> None:
    best = {
        row.server: row.per_second for row in rows if row.load.endswith("/s") and not row.missed
    }  # rates rise, so the last one is the highest
    flat = {row.server: row for row in rows if row.load == FLAT_OUT}
    peer = flat.get("nginx")
    ratios = {
        name: (round(row.per_second / peer.per_second, 3), round(row.server_ms / peer.server_ms, 1))
        for name, row in flat.items()
        if peer and peer.server_ms and name != "nginx"
    }
    if as_json:
        told = {"rows": [asdict(row) for row in rows], "sustained": best, "load_average_before": load_before}
        json.dump({**told, "to_nginx": ratios}, sys.stdout, indent=2)
        print()
        return
    print(f"{'server':<16} {'load':<28} {'per s':>8} {'p50 ms':>8} {'p99 ms':>8} {'delayed':>8} ", end="")
    print(f"{'errors':>6} {'lost':>5} {'CPU ms':>7} {'load ms':>7}  holds")
    for row in rows:
        print(f"{row.server:<16} {row.load:<28} {row.per_second:>8} {row.p50:>8} {row.p99:>8} ", end="")
        print(f"{row.delayed:>8} {row.errors:>6} {row.lost:>5} {row.server_ms:>7} {row.generator_ms:>7}  ", end="")
        print(row.missed or ("-" if row.load == FLAT_OUT else "yes"))
    for name, rate in best.items():
        print(f"{name}: {rate:.0f} check-ins per second sustained")
    for name, (speed, cost) in ratios.items():
        print(f"{name}: {speed:.1%} of nginx's rate, {cost} times its processor time for each answer")
    print(f"load average before: {load_before:.1f}; processors: {os.cpu_count()}, shared with the load generator")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--database", action="append", choices=list(WANTED), help="Only this one.")
    parser.add_argument("--hosts", type=int, default=100_000, help="Of the fleet (100000).")
    parser.add_argument("--seconds", type=float, default=30.0, help="For each steady rate (30).")
    parser.add_argument("--quick", action="store_true", help="Do not look for the highest rate.")
    parser.add_argument("--no-herd", action="store_true", help="Leave out the herd, which takes minutes.")
    parser.add_argument("--folder", help="For databases, on the disk that is meant; else the temporary folder.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # servers have ended and folders are gone by now
