"""What the table of the API is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kmend.fleet.api.call import Call
from kmend.model.fleet import Role


class Bearer(StrEnum):
    """Whose credential an endpoint wants, where it is no role's."""

    NOBODY = "nobody"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query parameter."""

    name: str
    about: str
    kind: type[str | int | bool] = str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of one path: who may use it, what goes in, what comes out, and the function that does it."""

    method: str
    path: str
    about: str
    needs: Role | Bearer
    answer: type[object] | None
    """None: no content."""
    does: Callable[[Call], object] | None = None
    together: Callable[[Sequence[Call]], Sequence[object]] | None = None
    """Instead of ``does``: does many calls in one transaction, finds out who asks; errors are results."""
    stream: bool = False
    """Whether it answers with server-sent events; ``does`` then says after which event's id."""
    body: type[object] | None = None
    query: tuple[Query, ...] = ()
    status: int = 200
    refuses: tuple[int, ...] = ()
    """Statuses of problems beside those that every endpoint may have."""


LIMIT = Query(name="limit", about="How many, 1 to 1000; 100 when it is left out.", kind=int)
CURSOR = Query(name="cursor", about="`next` of the page before.")
