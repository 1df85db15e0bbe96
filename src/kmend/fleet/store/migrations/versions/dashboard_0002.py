"""What the dashboard shows beside hosts and rollouts: livepatches with their CVEs, and hourly counts."""

import sqlalchemy as sa
from alembic import op

revision = "0002_dashboard"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "livepatches",
        sa.Column("build_id", sa.String(length=128), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("channels", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("report", sa.Text(), nullable=True),
        sa.Column("published", sa.BigInteger(), nullable=True),
        sa.Column("learned", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("build_id", "number", name=op.f("pk_livepatches")),
    )
    op.create_table(
        "livepatch_cves",
        sa.Column("build_id", sa.String(length=128), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cve", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["build_id", "number"],
            ["livepatches.build_id", "livepatches.number"],
            name=op.f("fk_livepatch_cves_build_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("build_id", "number", "cve", name=op.f("pk_livepatch_cves")),
    )
    op.create_index(op.f("ix_livepatch_cves_cve_build_id"), "livepatch_cves", ["cve", "build_id"], unique=False)
    op.create_table(
        "samples",
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hosts", sa.Integer(), nullable=False),
        sa.Column("open_hosts", sa.Integer(), nullable=False),
        sa.Column("open_cves", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("hour", name=op.f("pk_samples")),
    )
