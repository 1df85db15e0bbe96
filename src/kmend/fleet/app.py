"""Wires the server: database, settings, API, dashboard, files."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from kmend.fleet.again import again_and_again
from kmend.fleet.api.call import Settings
from kmend.fleet.api.http import Server, fail, now, refuse
from kmend.fleet.counting import count_hour
from kmend.fleet.deliver import deliver_all
from kmend.fleet.judging import keep_judging
from kmend.fleet.library import learn
from kmend.fleet.pruning import keep_pruning
from kmend.fleet.site.pages import site_routes
from kmend.fleet.store.database import Database
from kmend.fleet.store.log import add_audit
from kmend.fleet.store.tokens import add_token, tokens
from kmend.kit.errors import BusyError
from kmend.model.fleet import Role, Token

_EVERY = 60
"""Seconds between two looks at the repository, and at the clock."""


def make_app(
    database: Database,
    *,
    settings: Settings | None = None,
    clock: Callable[[], datetime] = now,
    repository: Path | None = None,
) -> Starlette:
    """The server as an ASGI application.

    Args:
        database: Open and migrated.
        settings: How it is set up.
        clock: Its time.
        repository: Folder of a signed repository to serve under /repository and to check rollouts by, if any.
    """
    known = replace(settings or Settings(), repository=repository)
    server = Server(database=database, settings=known, clock=clock)
    routes: list[BaseRoute] = [*server.routes(), *site_routes(server)]
    if repository is not None:
        routes.append(Mount("/repository", StaticFiles(directory=repository)))

    @asynccontextmanager
    async def while_it_runs(_: Starlette) -> AsyncIterator[None]:
        work = [asyncio.create_task(one) for one in _beside(server, repository)]
        yield
        for one in work:
            one.cancel()

    app = Starlette(
        routes=routes,
        lifespan=while_it_runs,
        exception_handlers={
            HTTPException: refuse,
            HTTPStatus.NOT_FOUND.value: refuse,
            HTTPStatus.METHOD_NOT_ALLOWED.value: refuse,
            Exception: fail,
        },
    )
    app.state.streams = server.streams
    return app


def _beside(server: Server, repository: Path | None) -> Iterator[Coroutine[Any, Any, None]]:
    """What the server does beside the requests."""
    database, clock = server.database, server.clock
    yield keep_judging(database, lambda: server.hearing(clock()))
    yield again_and_again(
        lambda: count_hour(database, now=clock()), every=_EVERY, what="the fleet cannot be counted now"
    )
    yield again_and_again(
        lambda: deliver_all(database, clock=clock), every=1, what="webhooks cannot be told of anything now"
    )
    yield keep_pruning(database, clock, days=server.settings.keep_days)
    if repository is not None:
        yield again_and_again(
            lambda: learn(database, repository, now=clock()), every=_EVERY, what="the repository says nothing new"
        )


def first_admin_token(database: Database, *, moment: datetime, again: bool = False) -> str | None:
    """The text of a new admin token when there was never one, or when one is asked for; else None."""
    token = Token(
        id=secrets.token_hex(6) if again else "first-admin",
        name="made at start",
        role=Role.ADMIN,
        created=moment,
        expires=None,
        revoked=None,
        last_used=None,
        uses_left=None,
        channel="",
        labels={},
    )
    try:
        with database.writing() as connection:
            if not again and any(known.role == Role.ADMIN for known in tokens(connection)):
                return None
            text = add_token(connection, token)
            add_audit(connection, "token-create", token.id, actor="server", now=moment, detail=token.name)
    except BusyError:
        return None  # another replica started at the same moment and made it
    return text
