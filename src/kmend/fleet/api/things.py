"""Channels, groups, blocks, events and the audit log."""

from __future__ import annotations

from dataclasses import replace

from kmend.fleet import acts
from kmend.fleet.api.call import Call, cursor_number, make_cursor
from kmend.fleet.api.endpoint import CURSOR, LIMIT, Endpoint, Query
from kmend.fleet.checks import check_name, check_number, check_selector, check_words
from kmend.fleet.store import log
from kmend.fleet.store import things as store
from kmend.kit.errors import InputError
from kmend.model.fleet import Block, Channel, Event, Group, Role
from kmend.model.protocol import (
    AuditPage,
    Blocking,
    BlockList,
    ChannelChange,
    ChannelList,
    EventPage,
    GroupChange,
    GroupList,
)
from kmend.trust.layout import check_build_id, check_channel

_NEWEST = 1 << 53


def _channels(call: Call) -> ChannelList:
    with call.database.reading() as connection:
        return ChannelList(items=tuple(store.channels(connection)))


def _put_channel(call: Call) -> Channel:
    change = call.read(ChannelChange)
    check_words(change.reason, what="the reason", most=1000, empty=True)
    name = check_channel(call.path["channel"])
    channel = Channel(name=name, paused=change.paused, reason=change.reason if change.paused else "")
    with call.database.writing() as connection:
        acts.change_channel(connection, channel, call.actor)
    return channel


def _groups(call: Call) -> GroupList:
    with call.database.reading() as connection:
        return GroupList(items=tuple(store.groups(connection)))


def _put_group(call: Call) -> Group:
    group = Group(name=call.path["group"], selector=call.read(GroupChange).selector)
    check_name(group.name, what="the name of a group")
    check_selector(group.selector)
    with call.database.writing() as connection:
        store.save_group(connection, group)
        log.add_audit(connection, "group", group.name, actor=call.actor.name, now=call.now, detail=group.selector)
    return group


def _remove_group(call: Call) -> None:
    name = call.path["group"]
    with call.database.writing() as connection:
        if not store.remove_group(connection, name):
            raise acts.UnknownError(f"There is no group {name}.")
        log.add_audit(connection, "group-remove", name, actor=call.actor.name, now=call.now)


def _blocks(call: Call) -> BlockList:
    with call.database.reading() as connection:
        return BlockList(items=tuple(store.blocks(connection)))


def _put_block(call: Call) -> Block:
    build_id, number = _livepatch(call)
    reason = call.read(Blocking).reason
    check_words(reason, what="the reason", most=1000)
    block = Block(build_id=build_id, number=number, reason=reason, since=call.now)
    with call.database.writing() as connection:
        acts.block_livepatch(connection, block, call.actor)
    return block


def _remove_block(call: Call) -> None:
    build_id, number = _livepatch(call)
    with call.database.writing() as connection:
        if not store.remove_block(connection, build_id, number):
            raise acts.UnknownError(f"Livepatch {number} is not blocked for {build_id}.")
        subject = f"{build_id}/{number}"
        log.add_audit(connection, "unblock", subject, actor=call.actor.name, now=call.now)


def _livepatch(call: Call) -> tuple[str, int]:
    text = call.path["number"]
    if not text.isascii() or not text.isdigit() or len(text) > 9:  # noqa: PLR2004 - a billion is no number
        raise InputError(f"{text[:30]!r} is no livepatch's number.")
    check_number(int(text), what="the livepatch's number")
    return check_build_id(call.path["build_id"]), int(text)


def _events(call: Call) -> EventPage:
    after = call.number("after", default=0, lowest=0, highest=_NEWEST)
    before = cursor_number(call.cursor())
    if after and before is not None:
        raise InputError(
            "`after` and `cursor` do not go together.", hint="With `after`, pass on the last id seen."
        )
    host, rollout = call.text("host"), call.text("rollout")
    with call.database.reading() as connection:
        found = log.events(
            connection,
            host=host,
            rollout=rollout,
            after=after,
            before=before,
            most=call.limit + 1,
            settled_by=call.now,
        )
    page = tuple(found[: call.limit])
    more = len(found) > call.limit and not after
    return EventPage(items=page, next=make_cursor(str(page[-1].id)) if more else None)


def first_after(call: Call) -> int | None:
    """After which event a stream begins: a browser that comes back names the last one it had; None is now.

    Raises:
        InputError: It is no event's id.
    """
    if call.last_event:
        call = replace(call, query={"after": call.last_event})
    return call.number("after", default=0, lowest=0, highest=_NEWEST) if "after" in call.query else None


def _audit(call: Call) -> AuditPage:
    with call.database.reading() as connection:
        found = log.audit(connection, before=cursor_number(call.cursor()), most=call.limit + 1)
    page = tuple(found[: call.limit])
    return AuditPage(items=page, next=make_cursor(str(page[-1].id)) if len(found) > call.limit else None)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/channels",
        about="All channels.",
        needs=Role.VIEWER,
        does=_channels,
        answer=ChannelList,
    ),
    Endpoint(
        method="PUT",
        path="/channels/{channel}",
        about="Make a channel, pause it, or go on with it. A paused one offers nothing but rollbacks.",
        needs=Role.OPERATOR,
        does=_put_channel,
        body=ChannelChange,
        answer=Channel,
    ),
    Endpoint(method="GET", path="/groups", about="All groups.", needs=Role.VIEWER, does=_groups, answer=GroupList),
    Endpoint(
        method="PUT",
        path="/groups/{group}",
        about="Make or change a group.",
        needs=Role.OPERATOR,
        does=_put_group,
        body=GroupChange,
        answer=Group,
    ),
    Endpoint(
        method="DELETE",
        path="/groups/{group}",
        about="Forget a group; rollouts that were made with it keep its selector.",
        needs=Role.OPERATOR,
        does=_remove_group,
        answer=None,
        status=204,
    ),
    Endpoint(
        method="GET",
        path="/blocks",
        about="Livepatches that no host is offered.",
        needs=Role.VIEWER,
        does=_blocks,
        answer=BlockList,
    ),
    Endpoint(
        method="PUT",
        path="/blocks/{build_id}/{number}",
        about="Offer a livepatch to no host any more.",
        needs=Role.OPERATOR,
        does=_put_block,
        body=Blocking,
        answer=Block,
    ),
    Endpoint(
        method="DELETE",
        path="/blocks/{build_id}/{number}",
        about="Let a livepatch be offered again.",
        needs=Role.OPERATOR,
        does=_remove_block,
        answer=None,
        status=204,
    ),
    Endpoint(
        method="GET",
        path="/events",
        about="What happened, the newest first; with `after` what came later than that id, the oldest first.",
        needs=Role.VIEWER,
        does=_events,
        answer=EventPage,
        query=(
            Query(name="host", about="Only of this host (id)."),
            Query(name="rollout", about="Only of this rollout (id)."),
            Query(name="after", about="An event's id.", kind=int),
            LIMIT,
            CURSOR,
        ),
    ),
    Endpoint(
        method="GET",
        path="/events/stream",
        about="Events as they happen: server-sent events, each with its id and, as JSON, the event. After a break "
        "the header Last-Event-ID says where to go on.",
        needs=Role.VIEWER,
        does=first_after,
        stream=True,
        answer=Event,
        query=(Query(name="after", about="An event's id: begin behind it; left out: with what comes.", kind=int),),
    ),
    Endpoint(
        method="GET",
        path="/audit",
        about="Who changed what, the newest first.",
        needs=Role.ADMIN,
        does=_audit,
        answer=AuditPage,
        query=(LIMIT, CURSOR),
    ),
)
