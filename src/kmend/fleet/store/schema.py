"""The database's schema: which one it has, and the steps that bring it up to date."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from kmend import __version__
from kmend.kit.errors import InputError


def migrate(engine: sa.Engine, *, revision: str = "head") -> None:
    """Bring the schema to a revision. Safe to run by several replicas at once: one does it, the others wait.

    Raises:
        InputError: The database has a schema that this kmend does not know.
    """
    with engine.execution_options(kmend_writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(5170236341)"))
        check_revision(revision_of(connection), what="The database")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def revision_of(connection: sa.Connection) -> str | None:
    """The name of the database's schema; None when it has none of kmend's."""
    return MigrationContext.configure(connection).get_current_revision()


def revisions() -> list[str]:
    """The schemas that this kmend knows, the first one first."""
    return [step.revision for step in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def check_revision(revision: str | None, *, what: str) -> None:
    """Check that this kmend knows a schema.

    Raises:
        InputError: It does not: the schema is newer.
    """
    known = revisions()
    if revision is not None and revision not in known:
        raise InputError(
            f"{what} has the schema {revision}, which kmend {__version__} does not know; its own is {known[-1]}.",
            hint="It is of a newer kmend: install that one, or go back to a backup from before the upgrade.",
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
