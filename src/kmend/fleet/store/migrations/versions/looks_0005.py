"""The newest look at each host: failed checks, and the CVEs that its containers can reach."""

import sqlalchemy as sa
from alembic import op

revision = "0005_looks"
down_revision = "0004_webhooks"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "looks",
        sa.Column("host_id", sa.String(length=40), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.Column("worst", sa.Integer(), nullable=True),
        sa.Column("reachable", sa.BigInteger(), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        _of_host("looks"),
        sa.PrimaryKeyConstraint("host_id", name=op.f("pk_looks")),
    )
    op.create_table(
        "failed_checks",
        sa.Column("host_id", sa.String(length=40), nullable=False),
        sa.Column("check_id", sa.String(length=120), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("subjects", sa.BigInteger(), nullable=False),
        _of_host("failed_checks"),
        sa.PrimaryKeyConstraint("host_id", "check_id", name=op.f("pk_failed_checks")),
    )
    op.create_index(op.f("ix_failed_checks_check_id"), "failed_checks", ["check_id"], unique=False)
    op.create_table(
        "cve_sets",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cve_sets")),
    )
    op.create_index(op.f("ix_cve_sets_used"), "cve_sets", ["used"], unique=False)
    op.create_table(
        "cve_set_members",
        sa.Column("set_id", sa.String(length=64), nullable=False),
        sa.Column("cve", sa.String(length=32), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("exploited", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["set_id"], ["cve_sets.id"], name=op.f("fk_cve_set_members_set_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("set_id", "cve", name=op.f("pk_cve_set_members")),
    )
    op.create_index(op.f("ix_cve_set_members_cve_set_id"), "cve_set_members", ["cve", "set_id"], unique=False)
    op.create_table(
        "reach_groups",
        sa.Column("host_id", sa.String(length=40), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("reach", sa.String(length=16), nullable=False),
        sa.Column("set_id", sa.String(length=64), nullable=False),
        sa.Column("containers", sa.BigInteger(), nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        _of_host("reach_groups"),
        sa.ForeignKeyConstraint(["set_id"], ["cve_sets.id"], name=op.f("fk_reach_groups_set_id")),
        sa.PrimaryKeyConstraint("host_id", "place", name=op.f("pk_reach_groups")),
    )
    op.create_index(
        op.f("ix_reach_groups_set_id_host_id_place"),
        "reach_groups",
        ["set_id", "host_id", "place"],
        unique=False,
    )


def _of_host(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name=op.f(f"fk_{table}_host_id"), ondelete="CASCADE")
