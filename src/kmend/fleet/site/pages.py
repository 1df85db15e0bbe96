"""The dashboard's pages and the metrics. What changes something goes through the same acts as the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

import sqlalchemy as sa
from anyio import to_thread
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from kmend.fleet.api.auth import bearer
from kmend.fleet.api.call import Call
from kmend.fleet.api.http import Handler, Server, read_body
from kmend.fleet.api.problems import RefusedError, problem_for, status_of, told
from kmend.fleet.api.things import first_after
from kmend.fleet.checks import check_plain
from kmend.fleet.metrics import MEDIA_TYPE, Counted, render
from kmend.fleet.site.access import access
from kmend.fleet.site.exposure import exposure
from kmend.fleet.site.home import home
from kmend.fleet.site.hosts import host, host_list
from kmend.fleet.site.livepatches import cves, livepatch, livepatch_list
from kmend.fleet.site.rollouts import act_on_rollout, rollout, rollout_list
from kmend.fleet.site.visit import COOKIE, check_form, cookie_of, form_token, visit
from kmend.fleet.store.livepatches import sample
from kmend.fleet.store.log import newest_event
from kmend.fleet.store.rollouts import rollouts
from kmend.fleet.store.summary import running_counts, stage_counts, summary
from kmend.fleet.store.webhooks import count_waiting
from kmend.kit.errors import KmendError
from kmend.model.fleet import Role

_HERE = Path(__file__).parent
_ROLLOUTS = 20
_DAY = 24 * 3600
_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 200
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FILES = {"style.css": "text/css", "icon.svg": "image/svg+xml", "live.js": "text/javascript"}
View = Callable[[sa.Connection, Call], dict[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page: where it is, what fills it, who may look."""

    path: str
    template: str
    view: View
    place: str
    """Which entry of the navigation it belongs to."""
    needs: Role = Role.VIEWER


PAGES = (
    Page(path="/", template="home.html.j2", view=home, place="home"),
    Page(path="/rollouts", template="rollouts.html.j2", view=rollout_list, place="rollouts"),
    Page(path="/rollouts/{rollout}", template="rollout.html.j2", view=rollout, place="rollouts"),
    Page(path="/hosts", template="hosts.html.j2", view=host_list, place="hosts"),
    Page(path="/hosts/{host}", template="host.html.j2", view=host, place="hosts"),
    Page(path="/livepatches", template="livepatches.html.j2", view=livepatch_list, place="livepatches"),
    Page(
        path="/livepatches/{build_id}/{number}", template="livepatch.html.j2", view=livepatch, place="livepatches"
    ),
    Page(path="/cves", template="cves.html.j2", view=cves, place="cves"),
    Page(path="/exposure", template="exposure.html.j2", view=exposure, place="exposure"),
    Page(path="/access", template="access.html.j2", view=access, place="access", needs=Role.ADMIN),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    """The pages of one server."""

    server: Server
    templates: Environment

    def page(self, page: Page) -> Handler:
        """What answers for a page."""

        async def show(request: Request) -> Response:
            return await self._answer(request, lambda: self._page(request, page))

        return show

    async def act(self, request: Request) -> Response:
        """A button of a rollout's page was pressed."""
        try:
            form = await self._form(request)
        except KmendError as error:
            return self._failed(request, error)
        return await self._answer(request, lambda: self._act(request, form))

    async def live(self, request: Request) -> Response:
        """Events as they happen, for who is logged in: tells a page that there is something new."""

        def ask() -> int | None:
            return first_after(self._viewer(request, cookie_of(request)))

        try:
            after = await to_thread.run_sync(ask, limiter=self.server.threads)
            return self.server.streams.open(after=after, holds=lambda: self._viewer(request, cookie_of(request)))
        except KmendError as error:
            return problem_for(error)

    async def login_form(self, _: Request) -> Response:
        """Asks for a token."""
        return self._show("login.html.j2", {"refused": ""})

    async def login(self, request: Request) -> Response:
        """Takes a token, if it holds, and keeps it in a cookie: the server itself remembers no sessions."""
        try:
            text = (await self._form(request)).get("token", "").strip()
            await to_thread.run_sync(self._viewer, request, text, limiter=self.server.threads)
        except RefusedError as error:
            refused = f"{error.message} {error.hint}".strip()
            return self._show("login.html.j2", {"refused": refused}, status=error.status)
        except KmendError as error:
            return self._failed(request, error)
        answer = _go("/")
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, text, max_age=_DAY, httponly=True, secure=secure, samesite="strict")
        return answer

    async def logout(self, _: Request) -> Response:
        """Forgets the cookie."""
        answer = _go("/login")
        answer.delete_cookie(COOKIE)
        return answer

    def file(self, name: str) -> Handler:
        """One of the files that the pages use."""
        content, kind = (_HERE / name).read_bytes(), _FILES[name]

        async def answer(_: Request) -> Response:
            headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
            return Response(content, media_type=kind, headers=headers)

        return answer

    async def metrics(self, request: Request) -> Response:
        """The fleet's state for Prometheus."""
        try:
            return await to_thread.run_sync(self._metrics, request, limiter=self.server.threads)
        except KmendError as error:
            return problem_for(error)

    async def _answer(self, request: Request, work: Callable[[], Response]) -> Response:
        try:
            return await to_thread.run_sync(work, limiter=self.server.threads)
        except KmendError as error:
            return self._failed(request, error)

    def _failed(self, request: Request, error: KmendError) -> Response:
        """A page that says what is wrong; who is not logged in is sent to the form."""
        status = status_of(error)
        if status == HTTPStatus.UNAUTHORIZED:
            return _go("/login")
        back = request.headers.get("sec-fetch-site") == "same-origin" and request.method == "POST"
        values = {
            "status": status,
            "error": told(error),
            "back": request.url.path.rpartition("/")[0] if back else "/",
        }
        return self._show("error.html.j2", values, status=status)

    def _show(self, name: str, values: Mapping[str, object], *, status: int = 200) -> Response:
        text = self.templates.get_template(name).render(values)
        return HTMLResponse(text, status_code=status, headers=_HEADERS)

    async def _form(self, request: Request) -> dict[str, str]:
        body = await read_body(request, self.server.settings, kind=_FORM)
        try:
            fields = dict(
                parse_qsl(body.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
            )
        except ValueError:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"The form has more than {_MOST_FIELDS} fields.") from None
        for text in fields.values():
            check_plain(text)
        return fields

    def _viewer(self, request: Request, text: str) -> Call:
        return visit(self.server, request, text, needs=Role.VIEWER)

    def _page(self, request: Request, page: Page) -> Response:
        text = cookie_of(request)
        call = visit(self.server, request, text, needs=page.needs)
        with self.server.database.reading() as connection:
            # First, so that the page tells itself of what happens while it is made.
            newest = newest_event(connection, settled_by=call.now)
            values = page.view(connection, call)
        basis = {
            "me": call.token,
            "now": call.now,
            "place": page.place,
            "form": form_token(text),
            "newest": newest,
            "link": lambda **more: _link(request, **more),
        }
        return self._show(page.template, {**basis, **values})

    def _act(self, request: Request, form: dict[str, str]) -> Response:
        text = cookie_of(request)
        call = visit(self.server, request, text, needs=Role.OPERATOR)
        check_form(request, text, form.get("form", ""))
        with self.server.database.writing() as connection:
            act_on_rollout(connection, call, act=call.path["act"], form=form)
        return _go(f"/rollouts/{quote(call.path['rollout'], safe='')}")

    def _metrics(self, request: Request) -> Response:
        self._viewer(request, bearer(request.headers.get("authorization", "")))
        with self.server.database.reading() as connection:
            found = rollouts(connection, most=_ROLLOUTS)
            counted = Counted(
                summary=summary(connection, self.server.hearing(self.server.clock())),
                running=running_counts(connection),
                rollouts=found,
                stages=stage_counts(connection, [one.id for one in found]),
                exposed=sample(connection, now=self.server.clock()),
                notices=count_waiting(connection),
            )
        return PlainTextResponse(render(counted), media_type=MEDIA_TYPE)


def site_routes(server: Server) -> list[BaseRoute]:
    """The addresses of the dashboard and of the metrics."""
    templates = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters |= {"ago": _ago, "span": _span, "plain": _plain, "utc": _utc}
    site = _Site(server=server, templates=templates)
    return [
        *(Route(page.path, site.page(page), methods=["GET"]) for page in PAGES),
        Route("/rollouts/{rollout}/{act}", site.act, methods=["POST"]),
        Route("/login", site.login_form, methods=["GET"]),
        Route("/login", site.login, methods=["POST"]),
        Route("/logout", site.logout, methods=["POST"]),
        *(Route(f"/{name}", site.file(name)) for name in _FILES),
        Route("/live", site.live, methods=["GET"]),
        Route("/metrics", site.metrics),
    ]


def _go(address: str) -> Response:
    return RedirectResponse(address, status_code=HTTPStatus.SEE_OTHER, headers=_HEADERS)


def _link(request: Request, **more: str) -> str:
    """This page with other query parameters; what is empty is left out."""
    asked = {**request.query_params, **more}
    return f"{request.url.path}?{urlencode({name: value for name, value in asked.items() if value})}"


def _ago(moment: datetime, now: datetime) -> str:
    seconds = max(0, int((now - moment).total_seconds()))
    return f"{_span(seconds)} ago" if seconds >= 60 else "just now"  # noqa: PLR2004 - a minute


def _span(seconds: float) -> str:
    """A time in the largest unit that it fills."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _plain(text: str) -> str:
    """A text from outside, with what no reader sees made visible, such as control characters."""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in " ".join(text.split()))
