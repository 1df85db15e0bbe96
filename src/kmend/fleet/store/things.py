"""Channels, groups and blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from kmend.fleet.store.tables import BLOCKS, CHANNELS, GROUPS
from kmend.model.fleet import Block, Channel, Group


def channels(connection: sa.Connection) -> Sequence[Channel]:
    """All channels by name."""
    return [_channel(row) for row in connection.execute(sa.select(CHANNELS).order_by(CHANNELS.c.name))]


def find_channel(connection: sa.Connection, name: str, *, lock: bool = False) -> Channel | None:
    """The channel with a name; with ``lock`` nobody else changes it until the transaction ends."""
    wanted = sa.select(CHANNELS).where(CHANNELS.c.name == name)
    row = connection.execute(wanted.with_for_update() if lock else wanted).first()
    return _channel(row) if row else None


def save_channel(connection: sa.Connection, channel: Channel) -> None:
    """Keep a channel, a new one or one that is known."""
    _put(connection, CHANNELS, {"name": channel.name}, {"paused": channel.paused, "reason": channel.reason})


def groups(connection: sa.Connection) -> Sequence[Group]:
    """All groups by name."""
    wanted = sa.select(GROUPS).order_by(GROUPS.c.name)
    return [Group(name=row.name, selector=row.selector) for row in connection.execute(wanted)]


def find_group(connection: sa.Connection, name: str) -> Group | None:
    """The group with a name."""
    row = connection.execute(sa.select(GROUPS).where(GROUPS.c.name == name)).first()
    return Group(name=row.name, selector=row.selector) if row else None


def save_group(connection: sa.Connection, group: Group) -> None:
    """Keep a group, a new one or one that is known."""
    _put(connection, GROUPS, {"name": group.name}, {"selector": group.selector})


def remove_group(connection: sa.Connection, name: str) -> bool:
    """Forget a group; whether there was one."""
    return bool(connection.execute(sa.delete(GROUPS).where(GROUPS.c.name == name)).rowcount)


def blocks(connection: sa.Connection) -> Sequence[Block]:
    """All blocks, the newest first."""
    wanted = sa.select(BLOCKS).order_by(BLOCKS.c.since.desc(), BLOCKS.c.build_id, BLOCKS.c.number)
    return [_block(row) for row in connection.execute(wanted)]


def blocks_for(connection: sa.Connection, build_id: str) -> Sequence[Block]:
    """The blocks of one kernel's livepatches."""
    return [_block(row) for row in connection.execute(sa.select(BLOCKS).where(BLOCKS.c.build_id == build_id))]


def save_block(connection: sa.Connection, block: Block) -> None:
    """Keep a block, a new one or one that is known."""
    key = {"build_id": block.build_id, "number": block.number}
    _put(connection, BLOCKS, key, {"reason": block.reason, "since": block.since})


def remove_block(connection: sa.Connection, build_id: str, number: int) -> bool:
    """Lift a block; whether there was one."""
    mine = (BLOCKS.c.build_id == build_id, BLOCKS.c.number == number)
    return bool(connection.execute(sa.delete(BLOCKS).where(*mine)).rowcount)


def _put(connection: sa.Connection, table: sa.Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    """Change the row with a key, or add it. Two who add at once: one of them fails, and can try again."""
    mine = [table.c[name] == value for name, value in key.items()]
    if not connection.execute(sa.update(table).where(*mine).values(**values)).rowcount:
        connection.execute(sa.insert(table).values(**key, **values))


def _channel(row: sa.Row[Any]) -> Channel:
    return Channel(name=row.name, paused=row.paused, reason=row.reason)


def _block(row: sa.Row[Any]) -> Block:
    return Block(build_id=row.build_id, number=row.number, reason=row.reason, since=row.since)
