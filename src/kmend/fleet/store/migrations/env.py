"""What alembic runs: the steps, inside the transaction that kmend.fleet.store.database opened."""

from alembic import context

from kmend.fleet.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
