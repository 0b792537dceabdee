"""Run by Alembic for each command: the connection, and with it the transaction, is the caller's."""

from __future__ import annotations

from alembic import context

from hub.store.schema import metadata

if __name__ == "env_py":  # Alembic's name for it; whoever imports it starts nothing
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        render_as_batch=True,  # SQLite cannot change a table in place
    )
    context.run_migrations()
