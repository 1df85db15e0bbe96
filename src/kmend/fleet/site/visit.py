"""Who looks at a page, and the form tokens that show that a form was sent from one of our pages."""

from __future__ import annotations

import hashlib
import hmac
from http import HTTPStatus

from starlette.requests import Request

from kmend.fleet.api.call import Call
from kmend.fleet.api.http import Server
from kmend.fleet.api.problems import RefusedError
from kmend.fleet.checks import check_plain
from kmend.model.fleet import Role

COOKIE = "kmend_token"


def cookie_of(request: Request) -> str:
    """The token in the cookie.

    Raises:
        RefusedError: Nobody is logged in.
    """
    text = request.cookies.get(COOKIE, "")
    if not text:
        raise RefusedError(HTTPStatus.UNAUTHORIZED, "Nobody is logged in.", hint="Log in with a token.")
    return text


def visit(server: Server, request: Request, text: str, *, needs: Role) -> Call:
    """The request as the API would see it, with the token whose text is given.

    Raises:
        RefusedError: The token does not hold, or may not do this.
        InputError: The address holds what no text does.
    """
    source = request.client.host if request.client else "unknown"
    check_plain(list(request.path_params.values()))
    now = server.clock()
    token = server.token(text, needs=needs, source=source, moment=now)
    return Call(
        database=server.database,
        settings=server.settings,
        now=now,
        path=request.path_params,
        query=dict(request.query_params),
        source=source,
        last_event=request.headers.get("last-event-id", ""),
        token=token,
    )


def form_token(text: str) -> str:
    """What every form of somebody's pages carries: only who knows the token in the cookie can make it.

    So a form on another site cannot act for somebody, whatever a browser does with its cookies, and no server has
    to remember anything.
    """
    return hmac.new(text.encode(), b"kmend form", hashlib.sha256).hexdigest()


def check_form(request: Request, text: str, given: str) -> None:
    """Make sure that a form was sent from one of our pages.

    Raises:
        RefusedError: It was not, or the page is of an earlier login.
    """
    elsewhere = request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}
    if elsewhere or not hmac.compare_digest(form_token(text).encode(), given.encode()):
        raise RefusedError(
            HTTPStatus.FORBIDDEN,
            "This form was not sent from a page of yours.",
            hint="Open the page again and send it from there.",
        )
