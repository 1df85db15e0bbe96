"""Tokens, webhooks and the audit log, for admins."""

from __future__ import annotations

import sqlalchemy as sa

from kmend.fleet.api.call import Call, cursor_number, make_cursor
from kmend.fleet.store.log import audit
from kmend.fleet.store.tokens import tokens
from kmend.fleet.store.webhooks import deliveries, webhooks
from kmend.model.fleet import Token

_PAGE = 50


def access(connection: sa.Connection, call: Call) -> dict[str, object]:
    """All tokens and webhooks, and a page of the audit log."""
    found = audit(connection, before=cursor_number(call.cursor()), most=_PAGE + 1)
    return {
        "tokens": [{"token": one, "state": _state(one, call)} for one in tokens(connection)],
        "webhooks": [
            {"webhook": one, "last": next(iter(deliveries(connection, one.id, most=1)), None)}
            for one in webhooks(connection)
        ],
        "records": found[:_PAGE],
        "next": make_cursor(str(found[_PAGE - 1].id)) if len(found) > _PAGE else "",
    }


def _state(one: Token, call: Call) -> str:
    if one.revoked is not None:
        return "revoked"
    if one.expires is not None and one.expires <= call.now:
        return "expired"
    return "used up" if one.uses_left == 0 else "holds"
