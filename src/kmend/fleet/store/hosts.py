"""Hosts, their labels and their reports."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from kmend.fleet.rollout import share_of
from kmend.fleet.store.choose import chosen_by, heard_since
from kmend.fleet.store.tables import HOSTS, LABELS, REPORTS
from kmend.model import wire
from kmend.model.fleet import Host, HostReport

_TROUBLES = ("failed", "quarantined", "rebooted")
_SAVE = (
    sa.update(HOSTS)
    .where(HOSTS.c.id == sa.bindparam("of"))
    .values(
        seen=sa.bindparam("at", type_=HOSTS.c.seen.type),
        build_id=sa.bindparam("kernel"),
        running=sa.bindparam("number"),
        report=sa.bindparam("content"),
        **{
            name: sa.func.coalesce(sa.bindparam(f"new_{name}", type_=HOSTS.c.seen.type), HOSTS.c[name])
            for name in _TROUBLES
        },
    )
)


def add_host(connection: sa.Connection, host: Host, *, credential: str, token_id: str) -> None:
    """Keep a new host; ``credential`` is the hash of its secret."""
    connection.execute(
        sa.insert(HOSTS).values(
            id=host.id,
            name=host.name,
            channel=host.channel,
            labels=wire.dump(host.labels),
            share=share_of(host.id),
            enrolled=host.enrolled,
            token_id=token_id,
            credential=credential,
        )
    )
    _write_labels(connection, host.id, host.labels)


def find_host(connection: sa.Connection, host_id: str, *, lock: bool = False) -> Host | None:
    """The host with an id; with ``lock`` nobody else changes it until the transaction ends."""
    wanted = sa.select(HOSTS).where(HOSTS.c.id == host_id)
    row = connection.execute(wanted.with_for_update() if lock else wanted).first()
    return _host(row) if row else None


def hosts(
    connection: sa.Connection,
    *,
    selector: str = "",
    after: str = "",
    most: int = 100,
    silent_before: datetime | None = None,
    filters: Mapping[str, Any] | None = None,
    which: sa.ColumnElement[bool] | None = None,
) -> Sequence[Host]:
    """Hosts in the order of their ids, beginning after one.

    Args:
        connection: The transaction.
        selector: Only those that it chooses.
        after: Id of the last host that is already known.
        most: How many.
        silent_before: Only those that were not heard of since.
        filters: Column → value: channel, name, build_id, running.
        which: One condition more.
    """
    wanted = sa.select(HOSTS).order_by(HOSTS.c.id).limit(most).where(chosen_by(selector))
    if after:
        wanted = wanted.where(HOSTS.c.id > after)
    if which is not None:
        wanted = wanted.where(which)
    if silent_before:
        wanted = wanted.where(~heard_since(silent_before))
    for name, value in (filters or {}).items():
        wanted = wanted.where(HOSTS.c[name] == value)
    return [_host(row) for row in connection.execute(wanted)]


def called(part: str) -> sa.ColumnElement[bool]:
    """Hosts with a text somewhere in their name, as a condition; capitals make no difference."""
    return HOSTS.c.name.icontains(part, autoescape=True)


def change_host(connection: sa.Connection, host: Host) -> None:
    """Keep a host's name, channel and labels."""
    connection.execute(
        sa.update(HOSTS)
        .where(HOSTS.c.id == host.id)
        .values(name=host.name, channel=host.channel, labels=wire.dump(host.labels))
    )
    connection.execute(sa.delete(LABELS).where(LABELS.c.host_id == host.id))
    _write_labels(connection, host.id, host.labels)


def remove_host(connection: sa.Connection, host_id: str) -> bool:
    """Forget a host, its reports and its credential; whether there was one."""
    return bool(connection.execute(sa.delete(HOSTS).where(HOSTS.c.id == host_id)).rowcount)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHost:
    """A host with the hashes of its secret, and of the one that it is changing to."""

    host: Host
    credential: str
    next_credential: str | None


def lock_hosts(connection: sa.Connection, host_ids: Collection[str]) -> dict[str, KeptHost]:
    """Those of the hosts that there are, by id; nobody else changes them until the transaction ends."""
    wanted = sa.select(HOSTS).where(HOSTS.c.id.in_(sorted(host_ids))).order_by(HOSTS.c.id).with_for_update()
    return {
        row.id: KeptHost(host=_host(row), credential=row.credential, next_credential=row.next_credential)
        for row in connection.execute(wanted)
    }


class ReportWriter:
    """Keeps what hosts reported, many at a time; nothing is written before `flush`.

    The last report is always kept whole; the history has those that differ from the one before them.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._last: list[dict[str, Any]] = []
        self._history: list[dict[str, Any]] = []

    def add(self, host: Host, report: HostReport, *, now: datetime, troubles: Collection[str]) -> None:
        """Keep a report; ``troubles`` are the columns of what went wrong since the last one."""
        content = wire.line(report)
        self._last.append(
            {
                "of": host.id,
                "at": now,
                "kernel": report.kernel.build_id,
                "number": report.running,
                "content": content,
                **{f"new_{name}": now if name in troubles else None for name in _TROUBLES},
            }
        )
        if host.report is None or replace(host.report, at=report.at) != report:
            self._history.append({"host_id": host.id, "at": now, "content": content})

    def flush(self) -> None:
        """Write what was added."""
        if self._last:
            self._connection.execute(_SAVE, self._last)
        if self._history:
            self._connection.execute(sa.insert(REPORTS), self._history)
        self._last, self._history = [], []


def reports(connection: sa.Connection, host_id: str, *, most: int = 100) -> Sequence[tuple[datetime, HostReport]]:
    """The history of a host: when the server took a report, and the report; newest first."""
    wanted = (
        sa.select(REPORTS.c.at, REPORTS.c.content)
        .where(REPORTS.c.host_id == host_id)
        .order_by(REPORTS.c.id.desc())
        .limit(most)
    )
    return [(row.at, wire.load(HostReport, row.content, what="a report")) for row in connection.execute(wanted)]


def credentials_of(connection: sa.Connection, host_id: str) -> tuple[str, str | None] | None:
    """The hash of a host's secret and of the next one, if it has one; None when there is no such host."""
    wanted = sa.select(HOSTS.c.credential, HOSTS.c.next_credential).where(HOSTS.c.id == host_id)
    row = connection.execute(wanted).first()
    return (row.credential, row.next_credential) if row else None


def host_with(connection: sa.Connection, credential: str) -> Host | None:
    """The host whose secret has a hash: one that enrolled already but did not hear the answer."""
    row = connection.execute(sa.select(HOSTS).where(HOSTS.c.credential == credential)).first()
    return _host(row) if row else None


def set_credentials(
    connection: sa.Connection, host_id: str, *, credential: str, next_credential: str | None
) -> None:
    """Keep the hashes of a host's secrets."""
    values = {"credential": credential, "next_credential": next_credential}
    connection.execute(sa.update(HOSTS).where(HOSTS.c.id == host_id).values(**values))


def _write_labels(connection: sa.Connection, host_id: str, labels: Mapping[str, str]) -> None:
    rows = [{"host_id": host_id, "key": key, "value": value} for key, value in labels.items()]
    if rows:
        connection.execute(sa.insert(LABELS), rows)


def _host(row: sa.Row[Any]) -> Host:
    return Host(
        id=row.id,
        name=row.name,
        channel=row.channel,
        labels=wire.load(dict[str, str], row.labels, what="labels"),
        enrolled=row.enrolled,
        seen=row.seen,
        report=None if row.report is None else wire.load(HostReport, row.report, what="a report"),
    )
