"""The fleet at a glance, counted in the database."""

from __future__ import annotations

import sqlalchemy as sa

from kmend.fleet.store.choose import count_each, heard_since
from kmend.fleet.store.health import Hearing
from kmend.fleet.store.tables import HOSTS, PARTS, ROLLOUTS
from kmend.model.protocol import FleetSummary
from kmend.model.rollout import IN_FLIGHT, Stage


def summary(connection: sa.Connection, hearing: Hearing) -> FleetSummary:
    """How many hosts stand how."""
    heard = heard_since(hearing.silent_before)
    in_stage = sa.select(PARTS.c.host_id).where(PARTS.c.host_id == HOSTS.c.id)
    soaking = sa.exists(in_stage.where(PARTS.c.stage.in_([stage.value for stage in IN_FLIGHT])))
    troubled = sa.exists(in_stage.where(PARTS.c.stage == Stage.TROUBLED.value))
    counts = {
        "silent": ~heard,
        "safe": sa.and_(heard, HOSTS.c.running.is_not(None)),
        "soaking": sa.and_(heard, soaking),
        "troubled": troubled,
    }
    row = connection.execute(count_each({"hosts": sa.true(), **counts}).select_from(HOSTS)).one()
    by_state = sa.select(ROLLOUTS.c.state, sa.func.count().label("many")).group_by(ROLLOUTS.c.state)
    states = connection.execute(by_state)
    return FleetSummary(
        hosts=int(row.hosts),
        silent=int(row.silent),
        safe=int(row.safe),
        soaking=int(row.soaking),
        troubled=int(row.troubled),
        rollouts={row.state: row.many for row in states},
    )
