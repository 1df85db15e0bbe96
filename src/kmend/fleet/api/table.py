"""The whole API in one table: routes and the OpenAPI document are made from it."""

from __future__ import annotations

from kmend.fleet.api import agents, hosts, livepatches, looks, rollouts, things, tokens, webhooks
from kmend.fleet.api.endpoint import Endpoint

PREFIX = "/api/v1"
ENDPOINTS: tuple[Endpoint, ...] = (
    *agents.ENDPOINTS,
    *hosts.ENDPOINTS,
    *livepatches.ENDPOINTS,
    *looks.ENDPOINTS,
    *rollouts.ENDPOINTS,
    *things.ENDPOINTS,
    *tokens.ENDPOINTS,
    *webhooks.ENDPOINTS,
)
