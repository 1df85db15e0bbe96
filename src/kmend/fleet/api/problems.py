"""Errors as RFC 9457 problems: one shape for all, with what to do next and nothing secret."""

from __future__ import annotations

import json
from http import HTTPStatus

from starlette.responses import Response

from kmend.fleet.acts import UnknownError
from kmend.fleet.store.database import DiskFullError
from kmend.kit.errors import BusyError, InputError, KmendError, MachineError
from kmend.model import wire
from kmend.model.protocol import Problem

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 10


_STATUSES: tuple[tuple[type[KmendError], HTTPStatus], ...] = (
    (UnknownError, HTTPStatus.NOT_FOUND),
    (InputError, HTTPStatus.BAD_REQUEST),
    (BusyError, HTTPStatus.CONFLICT),
    (MachineError, HTTPStatus.SERVICE_UNAVAILABLE),
)


class RefusedError(KmendError):
    """A request that is refused for who sends it or how: the status says which."""

    def __init__(self, status: HTTPStatus, message: str, *, hint: str = "", retry: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retry = retry
        """Seconds to wait before trying again."""


def status_of(error: KmendError) -> HTTPStatus:
    """The status that an error means."""
    if isinstance(error, RefusedError):
        return error.status
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def problem_for(error: KmendError) -> Response:
    """The answer that an error means."""
    retry = error.retry if isinstance(error, RefusedError) else None
    if isinstance(error, MachineError):
        retry = RETRY_SECONDS
    shown = told(error)
    return problem(status_of(error), shown.message, hint=shown.hint, retry=retry)


def told(error: KmendError) -> KmendError:
    """What everybody may read of an error: what exactly is wrong with the database is for the log."""
    if isinstance(error, MachineError) and not isinstance(error, DiskFullError):
        return KmendError("The server cannot reach its database.", hint="Try again a little later.")
    return error


def problem(status: HTTPStatus, detail: str, *, hint: str = "", retry: int | None = None) -> Response:
    """An answer that tells of an error."""
    content = Problem(
        type=f"urn:kmend:problem:{status.name.lower().replace('_', '-')}",
        title=status.phrase,
        status=status.value,
        detail=detail,
        hint=hint,
    )
    headers = {"Cache-Control": "no-store"}
    if retry is not None:
        headers["Retry-After"] = str(retry)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="kmend"'
    return Response(
        json.dumps(wire.plain(content)), status_code=status.value, headers=headers, media_type=MEDIA_TYPE
    )
