"""Tokens of people, programs and enrolments."""

from __future__ import annotations

import secrets
from datetime import timedelta

from kmend.fleet.acts import UnknownError
from kmend.fleet.api.call import Call, need
from kmend.fleet.api.endpoint import Endpoint
from kmend.fleet.checks import check_number, check_words
from kmend.fleet.store import tokens as store
from kmend.fleet.store.log import add_audit
from kmend.fleet.store.things import find_channel
from kmend.kit.errors import InputError
from kmend.model.fleet import Role, Token
from kmend.model.labels import check_labels
from kmend.model.protocol import NewToken, TokenList, TokenRequest

_LONGEST = 3660
_MOST_USES = 1_000_000


def _tokens(call: Call) -> TokenList:
    with call.database.reading() as connection:
        return TokenList(items=tuple(store.tokens(connection)))


def _create(call: Call) -> NewToken:
    asked = call.read(TokenRequest)
    _check(asked)
    token = Token(
        id=secrets.token_hex(6),
        name=asked.name,
        role=asked.role,
        created=call.now,
        expires=None if asked.days is None else call.now + timedelta(days=asked.days),
        revoked=None,
        last_used=None,
        uses_left=asked.uses,
        channel=asked.channel,
        labels=asked.labels,
    )
    with call.database.writing() as connection:
        if asked.channel and find_channel(connection, asked.channel) is None:
            raise UnknownError(f"There is no channel {asked.channel}.")
        text = store.add_token(connection, token)
        detail = f"{token.name}, {token.role}"
        add_audit(connection, "token-create", token.id, actor=call.actor.name, now=call.now, detail=detail)
    return NewToken(token=token, text=text)


def _revoke(call: Call) -> None:
    with call.database.writing() as connection:
        token = store.find_token(connection, call.path["token"])
        if token is None:
            raise UnknownError(f"There is no token {call.path['token']}.")
        store.revoke_token(connection, token.id, now=call.now)
        add_audit(connection, "token-revoke", token.id, actor=call.actor.name, now=call.now, detail=token.name)


def _whoami(call: Call) -> Token:
    return need(call.token, "token")


def _check(asked: TokenRequest) -> None:
    check_words(asked.name, what="the token's name")
    check_labels(asked.labels)
    if asked.days is not None:
        check_number(asked.days, what="the number of days", highest=_LONGEST)
    if asked.uses is not None:
        check_number(asked.uses, what="the number of uses", highest=_MOST_USES)
    if asked.role != Role.ENROL and (asked.uses is not None or asked.channel or asked.labels):
        raise InputError("uses, channel and labels are for enrolment tokens only.", hint="Give the role enrol.")


ENDPOINTS = (
    Endpoint(method="GET", path="/tokens", about="All tokens.", needs=Role.ADMIN, does=_tokens, answer=TokenList),
    Endpoint(
        method="POST",
        path="/tokens",
        about="Make a token. Its text is in the answer and cannot be had again.",
        needs=Role.ADMIN,
        does=_create,
        body=TokenRequest,
        answer=NewToken,
        status=201,
        refuses=(404,),
    ),
    Endpoint(
        method="DELETE",
        path="/tokens/{token}",
        about="Revoke a token. Hosts that were enrolled with it stay.",
        needs=Role.ADMIN,
        does=_revoke,
        answer=None,
        status=204,
    ),
    Endpoint(
        method="GET",
        path="/whoami",
        about="The token that asks.",
        needs=Role.VIEWER,
        does=_whoami,
        answer=Token,
    ),
)
