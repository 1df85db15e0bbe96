"""Errors as RFC 9457 problems: one shape for all, with what to do next and nothing secret."""

from __future__ import annotations

import json
from http import HTTPStatus

from starlette.responses import Response

from kmend.fleet.acts import UnknownError
from kmend.kit.errors import BusyError, InputError, KmendError, MachineError
from kmend.model import wire
from kmend.model.protocol import Problem

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 10


class RefusedError(KmendError):
    """A request that is refused for who sends it or how: the status says which."""

    def __init__(self, status: HTTPStatus, message: str, *, hint: str = "", retry: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retry = retry
        """Seconds to wait before trying again."""


def problem_for(error: KmendError) -> Response:
    """The answer that an error means."""
    retry = None
    if isinstance(error, RefusedError):
        status, retry = error.status, error.retry
    elif isinstance(error, UnknownError):
        status = HTTPStatus.NOT_FOUND
    elif isinstance(error, InputError):
        status = HTTPStatus.BAD_REQUEST
    elif isinstance(error, BusyError):
        status = HTTPStatus.CONFLICT
    elif isinstance(error, MachineError):
        # What exactly is wrong with the database is for the log, not for everybody.
        status, retry = HTTPStatus.SERVICE_UNAVAILABLE, RETRY_SECONDS
        error = KmendError("The server cannot reach its database.", hint="Try again a little later.")
    else:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    return problem(status, error.message, hint=error.hint, retry=retry)


def problem(status: HTTPStatus, detail: str, *, hint: str = "", retry: int | None = None) -> Response:
    """An answer that tells of an error."""
    told = Problem(
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
    content = json.dumps(wire.plain(told))
    return Response(content, status_code=status.value, headers=headers, media_type=MEDIA_TYPE)
