"""What is known of published livepatches: manifests, lab reports, CVEs. To show and to search, never to offer.

A host counts as closed for a CVE when it runs a livepatch whose manifest says so, as open when it does not though
a livepatch for its kernel would, and as unknown when no livepatch for its kernel says anything of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from kmend.fleet.store.summary import running_counts
from kmend.fleet.store.tables import HOSTS, LIVEPATCH_CVES, LIVEPATCHES, SAMPLES, TARGETS
from kmend.model import wire
from kmend.model.lab import LabReport
from kmend.model.livepatch import Livepatch

_KEEP = timedelta(days=90)
"""Of hourly counts: some two thousand rows."""
_HOUR = timedelta(hours=1)
LivepatchKey = tuple[str, int]
"""Build id and number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLivepatch:
    """A livepatch as the signed repository had it."""

    manifest: Livepatch
    report: LabReport | None
    channels: tuple[str, ...]
    """Where it was seen."""
    published: datetime | None

    @property
    def key(self) -> LivepatchKey:
        """What names it."""
        return self.manifest.kernel.build_id, self.manifest.number


class Standing(StrEnum):
    """How a host stands with a CVE."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class CveCount:
    """How many hosts stand how with one CVE."""

    cve: str
    open: int
    closed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The fleet at one hour."""

    hour: datetime
    hosts: int
    open_hosts: int
    """Hosts for whose kernel a livepatch would close a CVE that is open on them."""
    open_cves: int
    """CVEs that are open on a host at least."""


def keep_livepatch(connection: sa.Connection, known: KnownLivepatch, *, now: datetime) -> None:
    """Keep a livepatch, a new one or one that is known."""
    build_id, number = known.key
    mine = (LIVEPATCHES.c.build_id == build_id, LIVEPATCHES.c.number == number)
    values: dict[str, Any] = {
        "channels": wire.dump(known.channels),
        "manifest": wire.dump(known.manifest),
        "report": None if known.report is None else wire.dump(known.report),
        "published": known.published,
    }
    if connection.execute(sa.update(LIVEPATCHES).where(*mine).values(**values)).rowcount:
        connection.execute(
            sa.delete(LIVEPATCH_CVES).where(
                LIVEPATCH_CVES.c.build_id == build_id, LIVEPATCH_CVES.c.number == number
            )
        )
    else:
        connection.execute(sa.insert(LIVEPATCHES).values(build_id=build_id, number=number, learned=now, **values))
    rows = [{"build_id": build_id, "number": number, "cve": cve[:64]} for cve in known.manifest.cves]
    if rows:
        connection.execute(sa.insert(LIVEPATCH_CVES), rows)


def livepatches(connection: sa.Connection, *, most: int = 200) -> Sequence[KnownLivepatch]:
    """What is known, the kernel learned last first, highest numbers first."""
    wanted = sa.select(LIVEPATCHES).order_by(
        LIVEPATCHES.c.learned.desc(), LIVEPATCHES.c.build_id, LIVEPATCHES.c.number.desc()
    )
    return [_known(row) for row in connection.execute(wanted.limit(most))]


def find_livepatch(connection: sa.Connection, build_id: str, number: int) -> KnownLivepatch | None:
    """One livepatch, if it is known."""
    mine = (LIVEPATCHES.c.build_id == build_id, LIVEPATCHES.c.number == number)
    row = connection.execute(sa.select(LIVEPATCHES).where(*mine)).first()
    return _known(row) if row else None


def seen_in(connection: sa.Connection) -> dict[LivepatchKey, tuple[str, ...]]:
    """For each livepatch that is known the channels where it was seen."""
    wanted = sa.select(LIVEPATCHES.c.build_id, LIVEPATCHES.c.number, LIVEPATCHES.c.channels)
    return {
        (row.build_id, row.number): wire.load(tuple[str, ...], row.channels, what="channels")
        for row in connection.execute(wanted)
    }


def concerned(connection: sa.Connection) -> tuple[set[str], set[LivepatchKey]]:
    """Kernels of the fleet, and livepatches that run in it or that a rollout brings."""
    running = running_counts(connection)
    targets = connection.execute(sa.select(TARGETS.c.build_id, TARGETS.c.number).distinct()).all()
    kernels = {one.build_id for one in running} | {row.build_id for row in targets}
    numbered = {(one.build_id, one.number) for one in running if one.number is not None}
    return kernels, numbered | {(row.build_id, row.number) for row in targets}


def standing(cve: str, wanted: Standing) -> sa.ColumnElement[bool]:
    """Hosts that stand so with a CVE, as a condition."""
    for_kernel = sa.exists().where(LIVEPATCH_CVES.c.cve == cve, LIVEPATCH_CVES.c.build_id == HOSTS.c.build_id)
    closed = for_kernel.where(LIVEPATCH_CVES.c.number == HOSTS.c.running)
    match wanted:
        case Standing.OPEN:
            return sa.and_(for_kernel, ~closed)
        case Standing.CLOSED:
            return closed
        case Standing.UNKNOWN:
            return ~for_kernel


def count_standing(connection: sa.Connection, cve: str) -> dict[Standing, int]:
    """How many hosts stand how with a CVE."""
    counts = {
        one: connection.execute(sa.select(sa.func.count()).select_from(HOSTS).where(standing(cve, one)))
        for one in Standing
    }
    return {one: int(result.scalar_one()) for one, result in counts.items()}


def cve_counts(connection: sa.Connection) -> Sequence[CveCount]:
    """Every CVE that a known livepatch for the fleet's kernels closes; those open on most hosts first."""
    closes = _closes(connection)
    open_, closed = dict[str, int](), dict[str, int]()
    for one in running_counts(connection):
        has = closes.get((one.build_id, one.number or 0), frozenset())
        for cve in _for_kernel(closes, one.build_id):
            counted = closed if cve in has else open_
            counted[cve] = counted.get(cve, 0) + one.hosts
    counts = [
        CveCount(cve=cve, open=open_.get(cve, 0), closed=closed.get(cve, 0))
        for cve in open_.keys() | closed.keys()
    ]
    return sorted(counts, key=lambda one: (-one.open, one.cve))


def sample(connection: sa.Connection, *, now: datetime) -> Sample:
    """The counts as they are now."""
    closes = _closes(connection)
    open_cves: set[str] = set()
    open_hosts = 0
    for one in running_counts(connection):
        lacks = _for_kernel(closes, one.build_id) - closes.get((one.build_id, one.number or 0), frozenset())
        open_cves |= lacks
        open_hosts += one.hosts if lacks else 0
    hosts = connection.execute(sa.select(sa.func.count()).select_from(HOSTS)).scalar_one()
    hour = now.replace(minute=0, second=0, microsecond=0)
    return Sample(hour=hour, hosts=int(hosts), open_hosts=open_hosts, open_cves=len(open_cves))


def has_sample(connection: sa.Connection, *, now: datetime) -> bool:
    """Whether this hour was counted already."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    return bool(connection.execute(sa.select(SAMPLES.c.hour).where(SAMPLES.c.hour == hour)).first())


def keep_sample(connection: sa.Connection, counted: Sample) -> None:
    """Keep an hour's counts, and drop those that are too old."""
    connection.execute(
        sa.insert(SAMPLES).values(
            hour=counted.hour, hosts=counted.hosts, open_hosts=counted.open_hosts, open_cves=counted.open_cves
        )
    )
    connection.execute(sa.delete(SAMPLES).where(SAMPLES.c.hour < counted.hour - _KEEP))


def samples(connection: sa.Connection, *, since: datetime) -> Sequence[Sample]:
    """The hourly counts since a moment, oldest first."""
    wanted = sa.select(SAMPLES).where(SAMPLES.c.hour >= since - _HOUR).order_by(SAMPLES.c.hour)
    return [Sample(**row._asdict()) for row in connection.execute(wanted)]


def _closes(connection: sa.Connection) -> dict[LivepatchKey, frozenset[str]]:
    """What each known livepatch closes."""
    found: dict[LivepatchKey, set[str]] = {}
    for row in connection.execute(sa.select(LIVEPATCH_CVES)):
        found.setdefault((row.build_id, row.number), set()).add(row.cve)
    return {key: frozenset(cves) for key, cves in found.items()}


def _for_kernel(closes: dict[LivepatchKey, frozenset[str]], build_id: str) -> frozenset[str]:
    return frozenset[str]().union(*(cves for (kernel, _), cves in closes.items() if kernel == build_id))


def _known(row: sa.Row[Any]) -> KnownLivepatch:
    what = f"livepatch {row.number} for {row.build_id}"
    return KnownLivepatch(
        manifest=wire.load(Livepatch, row.manifest, what=what),
        report=None if row.report is None else wire.load(LabReport, row.report, what=what),
        channels=wire.load(tuple[str, ...], row.channels, what=what),
        published=row.published,
    )
