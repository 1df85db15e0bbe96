"""Hosts, their labels and their reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from kmend.fleet.rollout import share_of
from kmend.fleet.store.choose import chosen_by, heard_since
from kmend.fleet.store.tables import HOSTS, LABELS, REPORTS
from kmend.model import wire
from kmend.model.fleet import Host, HostReport


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
) -> Sequence[Host]:
    """Hosts in the order of their ids, beginning after one.

    Args:
        connection: The transaction.
        selector: Only those that it chooses.
        after: Id of the last host that is already known.
        most: How many.
        silent_before: Only those that were not heard of since.
        filters: Column → value: channel, name, build_id, running.
    """
    wanted = sa.select(HOSTS).order_by(HOSTS.c.id).limit(most).where(chosen_by(selector))
    if after:
        wanted = wanted.where(HOSTS.c.id > after)
    if silent_before:
        wanted = wanted.where(~heard_since(silent_before))
    for name, value in (filters or {}).items():
        wanted = wanted.where(HOSTS.c[name] == value)
    return [_host(row) for row in connection.execute(wanted)]


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


def save_report(
    connection: sa.Connection, host: Host, report: HostReport, *, now: datetime, troubles: Sequence[str]
) -> None:
    """Keep what a host reported; ``troubles`` are the columns of what went wrong since the last report.

    The last report is always kept whole; the history has those that differ from the one before them.
    """
    content = wire.dump(report)
    values: dict[str, Any] = dict.fromkeys(troubles, now)
    values |= {"seen": now, "build_id": report.kernel.build_id, "running": report.running, "report": content}
    connection.execute(sa.update(HOSTS).where(HOSTS.c.id == host.id).values(**values))
    if host.report is None or _lasting(host.report) != _lasting(report):
        connection.execute(sa.insert(REPORTS).values(host_id=host.id, at=now, content=content))


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


def _lasting(report: HostReport) -> dict[str, Any]:
    """A report without its time, which differs always."""
    return {name: value for name, value in wire.plain(report).items() if name != "at"}


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
