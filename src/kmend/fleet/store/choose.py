"""Selectors, waves and silence as conditions in SQL; they mean what kmend.fleet.rollout and model.labels say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from kmend.fleet.store.tables import HOSTS, LABELS
from kmend.model.labels import Relation, Requirement, parse_selector
from kmend.model.rollout import Rollout, RolloutPlan


def chosen_by(selector: str) -> sa.ColumnElement[bool]:
    """Hosts that a selector chooses."""
    requirements = parse_selector(selector).requirements
    return sa.and_(sa.true(), *(_holds(requirement) for requirement in requirements))


def taking_part(plan: RolloutPlan) -> sa.ColumnElement[bool]:
    """Hosts that a rollout is for: its channel, its kernels, its selector."""
    kernels = [target.build_id for target in plan.livepatches]
    return sa.and_(HOSTS.c.channel == plan.channel, HOSTS.c.build_id.in_(kernels), chosen_by(plan.selector))


def in_open_waves(rollout: Rollout) -> sa.ColumnElement[bool]:
    """Hosts of the waves that are open."""
    opened = list(zip(rollout.plan.waves, rollout.cuts, strict=True))[: rollout.wave + 1]
    return sa.or_(*(sa.and_(HOSTS.c.share < cut, chosen_by(wave.selector)) for wave, cut in opened))


def below_target(plan: RolloutPlan) -> sa.ColumnElement[bool]:
    """Hosts that run a lower number than the rollout brings to their kernel, or none."""
    lower = (
        sa.and_(HOSTS.c.build_id == target.build_id, HOSTS.c.running < target.number)
        for target in plan.livepatches
    )
    return sa.or_(HOSTS.c.running.is_(None), *lower)


def heard_since(moment: datetime) -> sa.ColumnElement[bool]:
    """Hosts that reported at that moment or later."""
    return sa.and_(HOSTS.c.seen.is_not(None), HOSTS.c.seen >= moment)


def count_each(tests: Mapping[str, sa.ColumnElement[bool]]) -> sa.Select[Any]:
    """For each test the count of rows that pass it, under its name."""
    sums = {name: sa.func.sum(sa.case((test, 1), else_=0)) for name, test in tests.items()}
    columns = (sa.func.coalesce(total, 0).label(name) for name, total in sums.items())
    wanted: sa.Select[Any] = sa.select()
    return wanted.add_columns(*columns)


def _holds(requirement: Requirement) -> sa.ColumnElement[bool]:
    mine = sa.select(LABELS.c.key).where(LABELS.c.host_id == HOSTS.c.id, LABELS.c.key == requirement.key)
    with_value = mine.where(LABELS.c.value.in_(requirement.values))
    match requirement.relation:
        case Relation.AMONG:
            return sa.exists(with_value)
        case Relation.NOT_AMONG:
            return ~sa.exists(with_value)
        case Relation.THERE:
            return sa.exists(mine)
        case Relation.ABSENT:
            return ~sa.exists(mine)
