"""Schema 1: devices, bundles, versions, rounds, jobs, updates, receipts, releases, events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    meta = op.create_table(
        "meta", sa.Column("key", sa.String, primary_key=True), sa.Column("value", sa.String, nullable=False)
    )
    op.create_table(
        "devices",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("hello", sa.JSON),
        sa.Column("online", sa.Boolean, nullable=False),
        sa.Column("seen_at_s", sa.Float),
        sa.UniqueConstraint("key", name="uq_devices_key"),
    )
    _versions()
    _rounds()
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at_s", sa.Float, nullable=False),
        sa.Column("round", sa.Integer),
        sa.Column("device", sa.String),
        sa.Column("text", sa.String, nullable=False),
    )
    op.bulk_insert(meta, [{"key": "schema", "value": "1"}])


def _versions() -> None:
    op.create_table(
        "bundles",
        sa.Column("sha256", sa.String, primary_key=True),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("device", sa.String, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("mode", sa.String, nullable=False),
        sa.Column("manifest", sa.LargeBinary, nullable=False),
        sa.Column("folder", sa.String, nullable=False),
    )
    op.create_table(
        "versions",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("parent", sa.String, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("cut", sa.JSON, nullable=False),
        sa.UniqueConstraint("number", name="uq_versions_number"),
    )
    op.create_table(
        "releases",
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("why", sa.String, nullable=False),
        sa.Column("at_s", sa.Float, nullable=False),
    )


def _rounds() -> None:
    op.create_table(
        "rounds",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("phase", sa.String, nullable=False),
        sa.Column("state", sa.JSON, nullable=False),
        sa.Column("opened_at_s", sa.Float, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("job", sa.String, primary_key=True),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("device", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "updates",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("device", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("base", sa.String, nullable=False),
        sa.Column("job", sa.String, nullable=False),
        sa.Column("samples", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("at_s", sa.Float, nullable=False),
        sa.UniqueConstraint("round", "device", "kind", name="uq_updates_round"),
    )
    op.create_table(
        "receipts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("device", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("job", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("at_s", sa.Float, nullable=False),
        sa.UniqueConstraint("device", "digest", "job", name="uq_receipts_device"),
    )
