"""Schema 3: identities that boards claim, and what the hub serves beside messages."""

from __future__ import annotations

from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Add what is new; nothing that was there changes."""
    op.execute("UPDATE meta SET value = '3' WHERE key = 'schema'")
