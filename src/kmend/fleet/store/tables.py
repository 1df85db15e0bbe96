"""The tables. A change here needs a migration; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """A moment as microseconds since 1970: the same in every database, and it compares as a number."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else _EPOCH + value * _MICROSECOND


METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
# SQLite counts up by itself only in a column that is called INTEGER.
_COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _host_key(*, primary: bool = False) -> sa.Column[str]:
    return sa.Column(
        "host_id",
        sa.String(40),
        sa.ForeignKey("hosts.id", ondelete="CASCADE"),
        primary_key=primary,
        nullable=False,
    )


def _rollout_key() -> sa.Column[str]:
    return sa.Column(
        "rollout_id", sa.String(40), sa.ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True
    )


HOSTS = sa.Table(
    "hosts",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("channel", sa.String(32), nullable=False),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("share", sa.BigInteger, nullable=False),
    sa.Column("enrolled", Moment, nullable=False),
    sa.Column("token_id", sa.String(40), nullable=False),
    sa.Column("credential", sa.String(64), nullable=False),
    sa.Column("next_credential", sa.String(64)),
    sa.Column("seen", Moment),
    sa.Column("build_id", sa.String(128)),
    sa.Column("running", sa.Integer),
    sa.Column("failed", Moment),
    sa.Column("quarantined", Moment),
    sa.Column("rebooted", Moment),
    sa.Column("report", sa.Text),
    sa.Index(None, "channel", "build_id"),
    sa.Index(None, "credential"),
    sa.Index(None, "name"),
)

LABELS = sa.Table(
    "host_labels",
    METADATA,
    _host_key(primary=True),
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.String(64), nullable=False),
    sa.Index(None, "key", "value"),
)

REPORTS = sa.Table(
    "reports",
    METADATA,
    sa.Column("id", _COUNTED, primary_key=True),
    _host_key(),
    sa.Column("at", Moment, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Index(None, "host_id", "id"),
)

CHANNELS = sa.Table(
    "channels",
    METADATA,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)

GROUPS = sa.Table(
    "host_groups",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("selector", sa.Text, nullable=False),
)

BLOCKS = sa.Table(
    "blocks",
    METADATA,
    sa.Column("build_id", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("since", Moment, nullable=False),
)

ROLLOUTS = sa.Table(
    "rollouts",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("channel", sa.String(32), nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("cuts", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("wave", sa.Integer, nullable=False),
    sa.Column("wave_opened", Moment, nullable=False),
    sa.Column("created", Moment, nullable=False),
    sa.Column("counted_from", Moment, nullable=False),
    sa.Column("back_to", sa.Text, nullable=False),
    sa.Column("health", sa.Text, nullable=False),
    sa.Column("judged", Moment),
    sa.Index(None, "channel", "state"),
)

TARGETS = sa.Table(
    "rollout_targets",
    METADATA,
    _rollout_key(),
    sa.Column("build_id", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Index(None, "build_id", "number"),
)

PARTS = sa.Table(
    "parts",
    METADATA,
    _rollout_key(),
    _host_key(primary=True),
    sa.Column("stage", sa.String(16), nullable=False),
    sa.Column("offered", Moment),
    sa.Column("changed", Moment, nullable=False),
    sa.Index(None, "rollout_id", "stage"),
    sa.Index(None, "stage", "host_id"),
    sa.Index(None, "host_id"),
)

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("id", _COUNTED, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("host", sa.String(40), nullable=False),
    sa.Column("rollout", sa.String(40), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Index(None, "host", "id"),
    sa.Index(None, "rollout", "id"),
)

ACTOR_LENGTH = 255
AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("id", _COUNTED, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("actor", sa.String(ACTOR_LENGTH), nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(255), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)

TOKENS = sa.Table(
    "tokens",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("salt", sa.String(32), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("created", Moment, nullable=False),
    sa.Column("expires", Moment),
    sa.Column("revoked", Moment),
    sa.Column("last_used", Moment),
    sa.Column("uses_left", sa.Integer),
    sa.Column("channel", sa.String(32), nullable=False),
    sa.Column("labels", sa.Text, nullable=False),
)

LOCKOUTS = sa.Table(
    "lockouts",
    METADATA,
    sa.Column("source", sa.String(64), primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("since", Moment, nullable=False),
    sa.Column("until", Moment),
)

LIVEPATCHES = sa.Table(
    "livepatches",
    METADATA,
    sa.Column("build_id", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("channels", sa.Text, nullable=False),
    sa.Column("manifest", sa.Text, nullable=False),
    sa.Column("report", sa.Text),
    sa.Column("published", Moment),
    sa.Column("learned", Moment, nullable=False),
)

LIVEPATCH_CVES = sa.Table(
    "livepatch_cves",
    METADATA,
    sa.Column("build_id", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("cve", sa.String(64), primary_key=True),
    sa.ForeignKeyConstraint(
        ["build_id", "number"], ["livepatches.build_id", "livepatches.number"], ondelete="CASCADE"
    ),
    sa.Index(None, "cve", "build_id"),
)

SAMPLES = sa.Table(
    "samples",
    METADATA,
    sa.Column("hour", Moment, primary_key=True, autoincrement=False),
    sa.Column("hosts", sa.Integer, nullable=False),
    sa.Column("open_hosts", sa.Integer, nullable=False),
    sa.Column("open_cves", sa.Integer, nullable=False),
)

LISTENING = sa.Table(
    "listening",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last", Moment),
    sa.Column("silent_before", Moment),
    sa.Column("grace_until", Moment),
)

WEBHOOKS = sa.Table(
    "webhooks",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("secret", sa.String(64), nullable=False),
    sa.Column("happenings", sa.Text, nullable=False),
    sa.Column("created", Moment, nullable=False),
)

DELIVERIES = sa.Table(
    "deliveries",
    METADATA,
    sa.Column("id", _COUNTED, primary_key=True),
    sa.Column("webhook_id", sa.String(40), sa.ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("notice", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("due", Moment, nullable=False),
    sa.Column("claimed", Moment),
    sa.Column("status", sa.Integer),
    sa.Column("error", sa.Text, nullable=False),
    sa.Index(None, "state", "due"),
    sa.Index(None, "webhook_id", "state"),
)

LOOKS = sa.Table(
    "looks",
    METADATA,
    _host_key(primary=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("taken", Moment, nullable=False),
    sa.Column("worst", sa.Integer),
    sa.Column("reachable", sa.BigInteger),
    sa.Column("content", sa.Text, nullable=False),
)
"""``worst``: rank of the worst severity that failed; ``reachable``: open CVEs that a container can reach."""

FAILED_CHECKS = sa.Table(
    "failed_checks",
    METADATA,
    _host_key(primary=True),
    sa.Column("check_id", sa.String(120), primary_key=True),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("subjects", sa.BigInteger, nullable=False),
    sa.Index(None, "check_id"),
)

CVE_SETS = sa.Table(
    "cve_sets",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("used", Moment, nullable=False),
    sa.Index(None, "used"),
)
"""Hosts with one kernel are open to the same CVEs, so each set of them is kept once; ``id`` is its hash."""

SET_CVES = sa.Table(
    "cve_set_members",
    METADATA,
    sa.Column("set_id", sa.String(64), sa.ForeignKey("cve_sets.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("cve", sa.String(32), primary_key=True),
    sa.Column("score", sa.Float, nullable=False),
    sa.Column("exploited", sa.Boolean, nullable=False),
    sa.Index(None, "cve", "set_id"),
)

REACH_GROUPS = sa.Table(
    "reach_groups",
    METADATA,
    _host_key(primary=True),
    sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("reach", sa.String(16), nullable=False),
    sa.Column("set_id", sa.String(64), sa.ForeignKey("cve_sets.id"), nullable=False),
    sa.Column("containers", sa.BigInteger, nullable=False),
    sa.Column("names", sa.Text, nullable=False),
    sa.Index(None, "set_id", "host_id", "place"),
)
