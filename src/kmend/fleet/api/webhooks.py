"""Webhooks: make, list, try, forget; and what was sent."""

from __future__ import annotations

import secrets

from kmend.fleet.acts import ConflictError, UnknownError
from kmend.fleet.api.call import Call, cursor_number, make_cursor
from kmend.fleet.api.endpoint import CURSOR, LIMIT, Endpoint
from kmend.fleet.checks import check_number, check_words
from kmend.fleet.deliver import check_url
from kmend.fleet.store import webhooks as store
from kmend.fleet.store.log import add_audit
from kmend.model.fleet import Role
from kmend.model.protocol import DeliveryPage, NewWebhook, WebhookList, WebhookRequest
from kmend.model.webhook import Delivery, Happening, Notice, Webhook

_MOST = 50


def _webhooks(call: Call) -> WebhookList:
    with call.database.reading() as connection:
        return WebhookList(items=tuple(store.webhooks(connection)))


def _create(call: Call) -> NewWebhook:
    asked = call.read(WebhookRequest)
    check_words(asked.name, what="the webhook's name")
    check_url(asked.url)
    check_number(len(asked.happenings), what="the number of happenings", lowest=0, highest=len(Happening))
    webhook = Webhook(
        id=f"w{secrets.token_hex(6)}",
        name=asked.name,
        url=asked.url,
        happenings=tuple(dict.fromkeys(asked.happenings)),
        created=call.now,
    )
    with call.database.writing() as connection:
        if len(store.webhooks(connection)) >= _MOST:
            raise ConflictError(f"There are {_MOST} webhooks; that is the most.", hint="Remove one first.")
        secret = store.add_webhook(connection, webhook)
        detail = f"{webhook.name}, {webhook.url}"
        add_audit(connection, "webhook-create", webhook.id, actor=call.actor.name, now=call.now, detail=detail)
    return NewWebhook(webhook=webhook, secret=secret)


def _remove(call: Call) -> None:
    with call.database.writing() as connection:
        webhook = _known(store.find_webhook(connection, call.path["webhook"]), call)
        store.remove_webhook(connection, webhook.id)
        add_audit(
            connection, "webhook-remove", webhook.id, actor=call.actor.name, now=call.now, detail=webhook.name
        )


def _try(call: Call) -> Delivery:
    notice = Notice(
        id=f"n{secrets.token_hex(8)}", happening=Happening.TEST, at=call.now, text=f"tried by {call.actor.name}"
    )
    with call.database.writing() as connection:
        webhook = _known(store.find_webhook(connection, call.path["webhook"]), call)
        queued = store.queue(connection, webhook, notice)
        if queued is None:
            raise ConflictError(f"{store.MOST_WAITING} notices wait for this webhook.", hint="See its deliveries.")
        add_audit(connection, "webhook-test", webhook.id, actor=call.actor.name, now=call.now, detail=webhook.name)
    return queued


def _deliveries(call: Call) -> DeliveryPage:
    before = cursor_number(call.cursor())
    with call.database.reading() as connection:
        webhook = _known(store.find_webhook(connection, call.path["webhook"]), call)
        found = store.deliveries(connection, webhook.id, before=before, most=call.limit + 1)
    page = tuple(found[: call.limit])
    return DeliveryPage(items=page, next=make_cursor(str(page[-1].id)) if len(found) > call.limit else None)


def _known(found: Webhook | None, call: Call) -> Webhook:
    if found is None:
        raise UnknownError(f"There is no webhook {call.path['webhook']}.")
    return found


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/webhooks",
        about="All webhooks.",
        needs=Role.ADMIN,
        does=_webhooks,
        answer=WebhookList,
    ),
    Endpoint(
        method="POST",
        path="/webhooks",
        about="Tell an address of what happens. The key of the signatures is in the answer, this once.",
        needs=Role.ADMIN,
        does=_create,
        body=WebhookRequest,
        answer=NewWebhook,
        status=201,
    ),
    Endpoint(
        method="DELETE",
        path="/webhooks/{webhook}",
        about="Forget a webhook, and what waits for it.",
        needs=Role.ADMIN,
        does=_remove,
        answer=None,
        status=204,
    ),
    Endpoint(
        method="POST",
        path="/webhooks/{webhook}/test",
        about="Send a notice that says that nothing happened.",
        needs=Role.ADMIN,
        does=_try,
        answer=Delivery,
        status=202,
        refuses=(409,),
    ),
    Endpoint(
        method="GET",
        path="/webhooks/{webhook}/deliveries",
        about="What was sent to a webhook or waits for it, the newest first.",
        needs=Role.ADMIN,
        does=_deliveries,
        answer=DeliveryPage,
        query=(LIMIT, CURSOR),
    ),
)
