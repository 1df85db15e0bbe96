"""From HTTP to calls and back: limits, credentials, JSON, problems."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from kmend.fleet.allowance import Allowance
from kmend.fleet.api.auth import bearer, host_of, not_too_often, token_of
from kmend.fleet.api.call import Call, Settings, need
from kmend.fleet.api.endpoint import Bearer, Endpoint
from kmend.fleet.api.openapi import document
from kmend.fleet.api.problems import RefusedError, problem, problem_for
from kmend.fleet.api.table import ENDPOINTS, PREFIX
from kmend.fleet.door import Door
from kmend.fleet.gather import Gatherer
from kmend.fleet.store.database import Database
from kmend.fleet.store.health import Hearing
from kmend.fleet.store.listening import listen
from kmend.fleet.streams import MEDIA_TYPE as STREAM
from kmend.fleet.streams import Streams
from kmend.kit.errors import KmendError
from kmend.model import wire
from kmend.model.fleet import Role, Token

_log = logging.getLogger(__name__)
_LATEST = 60
"""Seconds; nobody is asked to come back later, and no agent later than at its next check-in."""
_THREADS = 12
"""Requests that use the database at a time; the others wait in line."""
Handler = Callable[[Request], Awaitable[Response]]


def now() -> datetime:
    """The server's time."""
    return datetime.now(tz=UTC)


@dataclass(slots=True, kw_only=True)
class Server:
    """What all requests share: no state of the fleet, which is in the database."""

    database: Database
    settings: Settings
    clock: Callable[[], datetime] = now
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_THREADS))
    gatherers: dict[str, Gatherer[Call, object]] = field(default_factory=dict)
    streams: Streams = field(init=False)
    agents: Door = field(init=False)
    people: Door = field(init=False)
    """And programs: they get in while agents crowd the other door."""
    allowance: Allowance = field(init=False)
    """Of each token."""

    def __post_init__(self) -> None:
        """Streams share the database, too."""
        limits = self.settings
        self.agents = Door(most=limits.most_waiting, latest=max(limits.interval, _LATEST))
        self.people = Door(most=limits.most_people, latest=_LATEST)
        self.allowance = Allowance(per_second=limits.per_second, at_once=limits.at_once)
        self.streams = Streams(
            database=self.database,
            clock=self.clock,
            most=limits.most_streams,
            heartbeat=limits.heartbeat,
        )

    def hearing(self, moment: datetime) -> Hearing:
        """A moment, and how long hosts may be silent."""
        return Hearing(now=moment, silence=timedelta(seconds=self.settings.silence))

    def routes(self) -> list[Route]:
        """The routes of the API."""
        paths: dict[str, dict[str, Endpoint]] = {}
        for one in _in_order(ENDPOINTS):
            paths.setdefault(one.path, {})[one.method] = one
        # One route for each path, so that the Allow header of a refusal names all its methods.
        api = [Route(f"{PREFIX}{path}", self._handler(ways), methods=list(ways)) for path, ways in paths.items()]
        described = json.dumps(document(ENDPOINTS))

        async def describe(_: Request) -> Response:
            return Response(described, media_type="application/json")

        return [*api, Route(f"{PREFIX}/openapi.json", describe), *self._probes()]

    def _handler(self, ways: dict[str, Endpoint]) -> Handler:
        async def handle(request: Request) -> Response:
            endpoint = ways["GET" if request.method == "HEAD" else request.method]
            door = self.agents if endpoint.needs in {Bearer.HOST, Role.ENROL} else self.people
            if (later := door.enter()) is not None:
                return problem(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "The server has too much to do.",
                    hint="Try again after the time that Retry-After gives.",
                    retry=later,
                )
            try:
                return await self._serve(request, endpoint)
            finally:
                door.leave()

        return handle

    async def _serve(self, request: Request, endpoint: Endpoint) -> Response:
        try:
            body = await read_body(request, self.settings, kind="application/json") if endpoint.body else b""
            call = Call(
                database=self.database,
                settings=self.settings,
                now=self.clock(),
                path=request.path_params,
                query=_query(request, endpoint),
                body=body,
                authorization=request.headers.get("authorization", ""),
                source=request.client.host if request.client else "unknown",
                last_event=request.headers.get("last-event-id", ""),
            )
            if endpoint.stream:
                return await self._stream(call, endpoint, quiet=request.method == "HEAD")
            if endpoint.together is None:
                answer = await to_thread.run_sync(self._work, call, endpoint, limiter=self.threads)
            else:
                answer = await self._gatherer(endpoint.path, endpoint.together).do(call)
        except KmendError as error:
            return problem_for(error)
        if endpoint.answer is None:
            return Response(status_code=endpoint.status)
        content = json.dumps(wire.plain(answer), separators=(",", ":"))
        headers = {"Cache-Control": "no-store"}
        return Response(content, status_code=endpoint.status, headers=headers, media_type="application/json")

    async def _stream(self, call: Call, endpoint: Endpoint, *, quiet: bool) -> Response:
        after = await to_thread.run_sync(self._work, call, endpoint, limiter=self.threads)
        if quiet:
            return Response(media_type=STREAM)

        def holds() -> object:
            return self._authenticate(replace(call, now=self.clock()), endpoint)

        return self.streams.open(after=after if isinstance(after, int) else None, holds=holds)

    def _gatherer(
        self, path: str, together: Callable[[Sequence[Call]], Sequence[object]]
    ) -> Gatherer[Call, object]:
        if path not in self.gatherers:
            self.gatherers[path] = Gatherer(together, threads=CapacityLimiter(1))  # never behind people's requests
        return self.gatherers[path]

    def _work(self, call: Call, endpoint: Endpoint) -> object:
        token, host_id, digest = self._authenticate(call, endpoint)
        known = replace(call, token=token, host_id=host_id, secret_hash=digest)
        return need(endpoint.does, f"function for {endpoint.path}")(known)

    def _authenticate(self, call: Call, endpoint: Endpoint) -> tuple[Token | None, str, str]:
        if endpoint.needs == Bearer.NOBODY:
            return None, "", ""
        text = bearer(call.authorization)
        if isinstance(endpoint.needs, Bearer):
            return None, *host_of(self.database, text, source=call.source, now=call.now)
        return self.token(text, needs=endpoint.needs, source=call.source, moment=call.now), "", ""

    def token(self, text: str, *, needs: Role, source: str, moment: datetime) -> Token:
        """The token that a text is.

        Raises:
            RefusedError: It does not hold, may not do what is asked, or has asked too often.
        """
        found = token_of(self.database, text, needs=needs, source=source, now=moment)
        not_too_often(self.allowance, found)
        return found

    def _probes(self) -> list[Route]:
        """What asks nobody for a token, and costs next to nothing however often it is asked."""

        def reads() -> None:
            with self.database.reading() as connection:
                connection.exec_driver_sql("SELECT 1")

        def writes() -> None:
            # A server writes down every few seconds that it listens: only when that did not go is it tried here.
            with self.database.writing() as connection:
                listen(connection, self.hearing(self.clock()))

        def answer(ask: Callable[[], None]) -> Callable[[Request], Awaitable[Response]]:
            async def probe(_: Request) -> Response:
                try:
                    await to_thread.run_sync(ask, limiter=self.threads)
                except KmendError as error:
                    return problem_for(error)
                return Response('{"status":"ok"}', media_type="application/json")

            return probe

        return [Route("/healthz", answer(reads)), Route("/readyz", answer(writes))]


async def refuse(_: Request, error: Exception) -> Response:
    """The answer where no endpoint was found."""
    if not isinstance(error, HTTPException):
        return await fail(_, error)
    status = HTTPStatus(error.status_code)
    answer = problem(
        status, "There is nothing at this address for this method.", hint=f"See {PREFIX}/openapi.json."
    )
    answer.headers.update(error.headers or {})
    return answer


async def fail(_: Request, error: Exception) -> Response:
    """The answer to what was not foreseen; what it was stands in the log only."""
    _log.error("not foreseen: %s", type(error).__name__, exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "kmend did not expect this.", hint="The server's log has more."
    )


async def read_body(request: Request, settings: Settings, *, kind: str) -> bytes:
    """The body, if it is of a media type, not too long and not too slow.

    Raises:
        RefusedError: It is not.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != kind:
        raise RefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The body has to be {kind}.",
            hint=f"Send Content-Type: {kind}.",
        )
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > settings.body_limit:
                    raise RefusedError(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                        f"The body is longer than {settings.body_limit} bytes.",
                    )
    except TimeoutError:
        raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, "The body did not arrive in time.") from None
    except ClientDisconnect:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "The body ended early.") from None
    return bytes(body)


def _query(request: Request, endpoint: Endpoint) -> dict[str, str]:
    """The query parameters, each known and given once: a misspelt filter must not select everything.

    Raises:
        RefusedError: One is not known or is given twice.
    """
    pairs = request.query_params.multi_items()
    names = [name for name, _ in pairs]
    known = {one.name for one in endpoint.query}
    wrong = [name for name in names if name not in known or names.count(name) > 1]
    if wrong:
        raise RefusedError(
            HTTPStatus.BAD_REQUEST,
            f"The query parameter {wrong[0][:30]!r} is not known here, or is given twice.",
            hint=f"Known: {', '.join(sorted(known)) or 'none'}.",
        )
    return dict(pairs)


def _in_order(endpoints: tuple[Endpoint, ...]) -> list[Endpoint]:
    """Fixed paths before those with parameters; first what agents ask, which is most of what is asked."""
    return sorted(endpoints, key=lambda one: ("{" in one.path, one.together is None))
