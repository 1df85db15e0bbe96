"""The dashboard's pages and the metrics. They only show: every change goes through the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs

from anyio import to_thread
from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from kmend.fleet.api.auth import bearer, token_of
from kmend.fleet.api.http import Server, read_body
from kmend.fleet.api.problems import RefusedError, problem_for
from kmend.fleet.metrics import MEDIA_TYPE, Counted, render
from kmend.fleet.store.log import events
from kmend.fleet.store.rollouts import rollouts
from kmend.fleet.store.summary import running_counts, stage_counts, summary
from kmend.kit.errors import KmendError
from kmend.model.fleet import Role, Token
from kmend.model.rollout import Rollout

_HERE = Path(__file__).parent
_COOKIE = "kmend_token"
_ROLLOUTS = 20
_EVENTS = 30
_DAY = 24 * 3600
_FORM = "application/x-www-form-urlencoded"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    """The pages of one server."""

    server: Server
    templates: Environment

    async def home(self, request: Request) -> Response:
        """The fleet at a glance, for who is logged in."""
        try:
            return await to_thread.run_sync(self._home, request, limiter=self.server.threads)
        except RefusedError:
            return _go("/login")
        except KmendError as error:
            return problem_for(error)

    async def login_form(self, _: Request) -> Response:
        """Asks for a token."""
        return self._show("login.html.j2", {"refused": ""})

    async def login(self, request: Request) -> Response:
        """Takes a token, if it holds, and keeps it in a cookie: the server itself remembers no sessions."""
        try:
            form = parse_qs(
                (await read_body(request, self.server.settings, kind=_FORM)).decode("ascii", "replace")
            )
            text = form.get("token", [""])[0].strip()
            await to_thread.run_sync(self._visitor, request, text, limiter=self.server.threads)
        except RefusedError as error:
            refused = f"{error.message} {error.hint}".strip()
            return self._show("login.html.j2", {"refused": refused}, status=error.status)
        except KmendError as error:
            return problem_for(error)
        answer = _go("/")
        secure = request.url.scheme == "https"
        answer.set_cookie(_COOKIE, text, max_age=_DAY, httponly=True, secure=secure, samesite="strict")
        return answer

    async def logout(self, _: Request) -> Response:
        """Forgets the cookie."""
        answer = _go("/login")
        answer.delete_cookie(_COOKIE)
        return answer

    async def style(self, _: Request) -> Response:
        """How the pages look."""
        return Response((_HERE / "style.css").read_bytes(), media_type="text/css")

    async def metrics(self, request: Request) -> Response:
        """The fleet's state for Prometheus."""
        try:
            return await to_thread.run_sync(self._metrics, request, limiter=self.server.threads)
        except KmendError as error:
            return problem_for(error)

    def _show(self, name: str, values: Mapping[str, object], *, status: int = 200) -> Response:
        text = self.templates.get_template(name).render(values)
        return HTMLResponse(text, status_code=status, headers=_HEADERS)

    def _visitor(self, request: Request, text: str) -> Token:
        """The token of who looks.

        Raises:
            RefusedError: There is none that holds.
        """
        source = request.client.host if request.client else "unknown"
        return token_of(self.server.database, text, needs=Role.VIEWER, source=source, now=self.server.clock())

    def _home(self, request: Request) -> Response:
        text = request.cookies.get(_COOKIE, "")
        if not text:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "Nobody is logged in.")
        token = self._visitor(request, text)
        now = self.server.clock()
        with self.server.database.reading() as connection:
            found = rollouts(connection, most=_ROLLOUTS)
            values = {
                "token": token,
                "now": now,
                "fleet": summary(connection, self.server.hearing(now)),
                "rollouts": [{"rollout": one, "waves": _waves(one)} for one in found],
                "events": events(connection, most=_EVENTS),
            }
        return self._show("home.html.j2", values)

    def _metrics(self, request: Request) -> Response:
        self._visitor(request, bearer(request.headers.get("authorization", "")))
        with self.server.database.reading() as connection:
            found = rollouts(connection, most=_ROLLOUTS)
            counted = Counted(
                summary=summary(connection, self.server.hearing(self.server.clock())),
                running=running_counts(connection),
                rollouts=found,
                stages=stage_counts(connection, [one.id for one in found]),
            )
        return PlainTextResponse(render(counted), media_type=MEDIA_TYPE)


def site_routes(server: Server) -> list[BaseRoute]:
    """The addresses of the dashboard and of the metrics."""
    templates = Environment(loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    templates.filters["ago"] = _ago
    site = _Site(server=server, templates=templates)
    return [
        Route("/", site.home),
        Route("/login", site.login_form, methods=["GET"]),
        Route("/login", site.login, methods=["POST"]),
        Route("/logout", site.logout, methods=["POST"]),
        Route("/style.css", site.style),
        Route("/metrics", site.metrics),
    ]


def _go(address: str) -> Response:
    return RedirectResponse(address, status_code=HTTPStatus.SEE_OTHER, headers=_HEADERS)


def _waves(rollout: Rollout) -> list[dict[str, object]]:
    """Each wave in words, and how it stands."""
    shown: list[dict[str, object]] = []
    for index, wave in enumerate(rollout.plan.waves):
        over = index < rollout.wave or rollout.state.value == "finished"
        state = "over" if over else "open" if index == rollout.wave else "later"
        who = f"{wave.percent:g}%{f' of {wave.selector}' if wave.selector else ''}"
        shown.append({"who": who, "state": state})
    return shown


def _ago(moment: datetime, now: datetime) -> str:
    seconds = max(0, int((now - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"
