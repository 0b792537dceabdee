"""Schema 3: identities that boards claim, and what the hub serves beside messages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Add what is new; nothing that was there changes."""
    _masks()
    _claims()
    op.add_column("devices", sa.Column("expires_at_s", sa.Float))
    _retention()
    _bundles()
    _workers()
    op.execute("UPDATE meta SET value = '3' WHERE key = 'schema'")


def _masks() -> None:
    op.create_table(
        "masks",
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("stage", sa.String, nullable=False),
        sa.Column("device", sa.String, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("round", "stage", "device", name="uq_masks_round"),
    )


def _claims() -> None:
    op.create_table(
        "claims",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("replace", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("made_at_s", sa.Float, nullable=False),
        sa.Column("expires_at_s", sa.Float, nullable=False),
        sa.Column("used_at_s", sa.Float),
        sa.Column("key", sa.String, nullable=False, server_default=""),
        sa.Column("request", sa.String, nullable=False, server_default=""),
        sa.Column("certificate", sa.LargeBinary),
    )


def _retention() -> None:
    with op.batch_alter_table("updates") as updates:
        updates.add_column(sa.Column("dropped_at_s", sa.Float))


def _bundles() -> None:
    """What a hub must know of bundles to serve them, and which device gets which."""
    with op.batch_alter_table("bundles") as bundles:
        bundles.add_column(sa.Column("signature", sa.LargeBinary))
        bundles.add_column(sa.Column("added_at_s", sa.Float))
    op.create_table(
        "assignments",
        sa.Column("device", sa.String, primary_key=True),
        sa.Column("bundle", sa.String, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("why", sa.String, nullable=False, server_default=""),
        sa.Column("failed", sa.String, nullable=False, server_default=""),
        sa.Column("at_s", sa.Float, nullable=False),
    )


def _workers() -> None:
    op.create_table(
        "arrivals",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("device", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("job", sa.String, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("whole", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("fault", sa.String, nullable=False, server_default=""),
        sa.UniqueConstraint("device", "digest", "job", name="uq_arrivals_device"),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("at_s", sa.Float, nullable=False),
        sa.Column("taken", sa.Integer, nullable=False, server_default=sa.text("0")),
    )
