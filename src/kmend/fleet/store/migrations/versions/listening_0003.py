"""When a server listened last, so that an outage or a set clock silences no host."""

import sqlalchemy as sa
from alembic import op

revision = "0003_listening"
down_revision = "0002_dashboard"


def upgrade() -> None:
    """One row; nobody has listened yet."""
    table = op.create_table(
        "listening",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in ("last", "silent_before", "grace_until")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_listening")),
    )
    op.bulk_insert(table, [{"id": 1}])
