"""Schema 4: releases of the agent, and which device is to be which."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Add what is new; nothing that was there changes."""
    op.create_table(
        "programs",
        sa.Column("sha256", sa.String, primary_key=True),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("system", sa.String, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("stream_sha256", sa.String, nullable=False),
        sa.Column("stream_bytes", sa.BigInteger, nullable=False),
        sa.Column("manifest", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("added_at_s", sa.Float, nullable=False),
    )
    op.create_table(
        "orders",
        sa.Column("device", sa.String, primary_key=True),
        sa.Column("program", sa.String, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.String, nullable=False, server_default=""),
        sa.Column("at_s", sa.Float, nullable=False),
    )
    op.execute("UPDATE meta SET value = '4' WHERE key = 'schema'")
