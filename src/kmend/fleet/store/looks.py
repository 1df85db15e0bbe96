"""The newest look at each host: what its audit failed, and which CVEs its containers reach."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from kmend.fleet.store.tables import CVE_SETS, FAILED_CHECKS, HOSTS, LOOKS, REACH_GROUPS, SET_CVES
from kmend.model import wire
from kmend.model.finding import Severity
from kmend.model.look import Look, OpenCve, ReachGroup, Told
from kmend.model.protocol import HostContainers, KeptLook, ReachedCve

_FORGET_AFTER = timedelta(days=2)
"""Sets that no host has had for so long; a host that has one again in this time finds it."""
_SEVERITIES = tuple(Severity)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckCount:
    """A check that failed on some hosts."""

    check: str
    severity: Severity
    hosts: int
    subjects: int


def keep_look(connection: sa.Connection, host_id: str, look: Look, *, now: datetime) -> None:
    """Keep a host's look instead of the one before it."""
    for table in (LOOKS, FAILED_CHECKS, REACH_GROUPS):
        connection.execute(sa.delete(table).where(table.c.host_id == host_id))
    groups = look.exposure.groups if look.exposure else ()
    failed = {one.check: one for one in look.audit.failed} if look.audit else {}
    # The groups stand in tables of their own, where hosts share what is the same.
    bare = replace(look, exposure=replace(look.exposure, groups=())) if look.exposure else look
    connection.execute(
        sa.insert(LOOKS).values(
            host_id=host_id,
            at=look.at,
            taken=now,
            worst=max((one.severity.rank for one in failed.values()), default=None),
            reachable=look.exposure.reachable if look.exposure else None,
            content=wire.dump(bare),
        )
    )
    checks = [
        {"host_id": host_id, "check_id": one.check, "rank": one.severity.rank, "subjects": one.count}
        for one in failed.values()
    ]
    if checks:
        connection.execute(sa.insert(FAILED_CHECKS), checks)
    _keep_groups(connection, host_id, groups, now)


def find_look(connection: sa.Connection, host_id: str) -> KeptLook | None:
    """The newest look at a host, if it has sent one."""
    row = connection.execute(sa.select(LOOKS).where(LOOKS.c.host_id == host_id)).first()
    if row is None:
        return None
    look = wire.load(Look, row.content, what="a look")
    if look.exposure is not None:
        groups = tuple(_groups(connection, host_id))
        look = replace(look, exposure=replace(look.exposure, groups=groups))
    return KeptLook(taken=row.taken, look=look)


def containers_reaching(
    connection: sa.Connection,
    cve: str,
    *,
    reach: Told | None = None,
    after: tuple[str, int] | None = None,
    most: int = 100,
) -> Sequence[tuple[int, HostContainers]]:
    """Containers that can reach a CVE or may, by host; each with its place among the host's groups.

    Args:
        connection: The transaction.
        cve: The CVE.
        reach: Only those that can, or only those of which it could not be told.
        after: Host and place of the last that is known already.
        most: How many.
    """
    sets = sa.select(SET_CVES.c.set_id).where(SET_CVES.c.cve == cve)
    key = sa.tuple_(REACH_GROUPS.c.host_id, REACH_GROUPS.c.place)
    wanted = (
        sa.select(REACH_GROUPS, HOSTS.c.name, LOOKS.c.at)
        .join(HOSTS, HOSTS.c.id == REACH_GROUPS.c.host_id)
        .join(LOOKS, LOOKS.c.host_id == REACH_GROUPS.c.host_id)
        .where(REACH_GROUPS.c.set_id.in_(sets))
        .order_by(REACH_GROUPS.c.host_id, REACH_GROUPS.c.place)
        .limit(most)
    )
    if reach is not None:
        wanted = wanted.where(REACH_GROUPS.c.reach == reach.value)
    if after is not None:
        wanted = wanted.where(key > after)
    return [
        (
            row.place,
            HostContainers(
                host=row.host_id,
                name=row.name,
                looked=row.at,
                reach=Told(row.reach),
                containers=_names(row.names),
                count=row.containers,
            ),
        )
        for row in connection.execute(wanted)
    ]


def reached_cves(connection: sa.Connection, *, most: int = 100) -> Sequence[ReachedCve]:
    """CVEs that containers somewhere can reach, the most urgent first."""
    used = (
        sa.select(
            REACH_GROUPS.c.set_id,
            sa.func.count().label("hosts"),
            sa.func.sum(REACH_GROUPS.c.containers).label("containers"),
        )
        .where(REACH_GROUPS.c.reach == Told.REACHABLE.value)
        .group_by(REACH_GROUPS.c.set_id)
        .subquery()
    )
    score = sa.func.max(SET_CVES.c.score).label("score")
    exploited = sa.func.max(sa.case((SET_CVES.c.exploited, 1), else_=0)).label("exploited")
    containers = sa.func.sum(used.c.containers).label("containers")
    wanted = (
        sa.select(SET_CVES.c.cve, score, exploited, sa.func.sum(used.c.hosts).label("hosts"), containers)
        .join(used, used.c.set_id == SET_CVES.c.set_id)
        .group_by(SET_CVES.c.cve)
        .order_by(exploited.desc(), score.desc(), containers.desc(), SET_CVES.c.cve)
        .limit(most)
    )
    return [
        ReachedCve(
            cve=row.cve,
            score=row.score,
            exploited=bool(row.exploited),
            hosts=int(row.hosts),
            containers=int(row.containers),
        )
        for row in connection.execute(wanted)
    ]


def failed_checks(connection: sa.Connection, *, most: int = 100) -> Sequence[CheckCount]:
    """Checks that failed somewhere, the worst first: by severity, then by hosts."""
    rank = sa.func.max(FAILED_CHECKS.c.rank).label("rank")
    hosts = sa.func.count().label("hosts")
    wanted = (
        sa.select(FAILED_CHECKS.c.check_id, rank, hosts, sa.func.sum(FAILED_CHECKS.c.subjects).label("subjects"))
        .group_by(FAILED_CHECKS.c.check_id)
        .order_by(rank.desc(), hosts.desc(), FAILED_CHECKS.c.check_id)
        .limit(most)
    )
    return [
        CheckCount(check=row.check_id, severity=_SEVERITIES[row.rank], hosts=row.hosts, subjects=int(row.subjects))
        for row in connection.execute(wanted)
    ]


def remove_unused_sets(connection: sa.Connection, _before: datetime, most: int) -> int:
    """Remove sets of CVEs that no host has any more; how many."""
    newest = connection.execute(sa.select(sa.func.max(CVE_SETS.c.used))).scalar()
    if newest is None:
        return 0
    unused = sa.and_(
        CVE_SETS.c.used < newest - _FORGET_AFTER, ~sa.exists().where(REACH_GROUPS.c.set_id == CVE_SETS.c.id)
    )
    some = sa.select(CVE_SETS.c.id).where(unused).limit(most)
    return connection.execute(sa.delete(CVE_SETS).where(CVE_SETS.c.id.in_(some), unused)).rowcount


def _keep_groups(connection: sa.Connection, host_id: str, groups: Sequence[ReachGroup], now: datetime) -> None:
    ids = [_set_id(one.cves) for one in groups]
    # In one order for all, so that no two hosts wait for each other.
    for set_id, group in sorted(dict(zip(ids, groups, strict=True)).items(), key=lambda pair: pair[0]):
        _keep_set(connection, set_id, group.cves, now)
    rows = [
        {
            "host_id": host_id,
            "place": place,
            "reach": one.reach.value,
            "set_id": set_id,
            "containers": one.count,
            "names": wire.dump(one.containers),
        }
        for place, (set_id, one) in enumerate(zip(ids, groups, strict=True))
    ]
    if rows:
        connection.execute(sa.insert(REACH_GROUPS), rows)


def _keep_set(connection: sa.Connection, set_id: str, cves: Iterable[OpenCve], now: datetime) -> None:
    """Keep a set, or note that it is in use; who notes the same meanwhile waits here."""
    mine = CVE_SETS.c.id == set_id
    if connection.execute(sa.update(CVE_SETS).where(mine).values(used=now)).rowcount:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = dialect.insert(CVE_SETS).values(id=set_id, used=now).on_conflict_do_nothing().returning(CVE_SETS.c.id)
    added = connection.execute(new).first()
    rows = [
        {"set_id": set_id, "cve": one.cve, "score": one.score, "exploited": one.exploited}
        for one in {one.cve: one for one in cves}.values()
    ]
    if added and rows:
        connection.execute(sa.insert(SET_CVES), rows)


def _set_id(cves: Iterable[OpenCve]) -> str:
    known = {one.cve: one for one in cves}
    return hashlib.sha256(wire.dump(tuple(known[cve] for cve in sorted(known))).encode()).hexdigest()


def _groups(connection: sa.Connection, host_id: str) -> Iterable[ReachGroup]:
    mine = sa.select(REACH_GROUPS).where(REACH_GROUPS.c.host_id == host_id).order_by(REACH_GROUPS.c.place)
    rows = connection.execute(mine).all()
    order = (SET_CVES.c.exploited.desc(), SET_CVES.c.score.desc(), SET_CVES.c.cve)
    members = sa.select(SET_CVES).where(SET_CVES.c.set_id.in_({row.set_id for row in rows})).order_by(*order)
    sets: dict[str, list[OpenCve]] = {}
    for row in connection.execute(members):
        one = OpenCve(cve=row.cve, score=row.score, exploited=row.exploited)
        sets.setdefault(row.set_id, []).append(one)
    for row in rows:
        yield ReachGroup(
            reach=Told(row.reach),
            containers=_names(row.names),
            count=row.containers,
            cves=tuple(sets.get(row.set_id, ())),
        )


def _names(content: str) -> tuple[str, ...]:
    return wire.load(tuple[str, ...], content, what="names of containers")
