"""Schema 2: several models, where versions come from, laps of a round, groups, deployments, privacy that was spent."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"
NAMES = {"uq": "uq_%(table_name)s_%(column_0_name)s"}  # by which SQLite's unnamed constraints are found


def upgrade() -> None:
    """Change the tables, and tell the model of what is there: schema 1 had one."""
    _devices()
    _versions()
    _rounds()
    _deployments()
    if op.get_context().dialect.name == "sqlite":
        with op.batch_alter_table("receipts", recreate="always", naming_convention=NAMES):
            pass  # its constraint gets its name
    with op.batch_alter_table("releases") as releases:
        releases.alter_column("sequence", type_=sa.BigInteger, existing_type=sa.Integer, existing_nullable=False)
        releases.add_column(_text("model"))
        releases.add_column(_text("group"))
    models = op.create_table(
        "models", sa.Column("model", sa.String, primary_key=True), sa.Column("tip", sa.String, nullable=False)
    )
    _fill(models)
    op.execute("UPDATE meta SET value = '2' WHERE key = 'schema'")


def _devices() -> None:
    with op.batch_alter_table("devices", naming_convention=NAMES) as devices:
        devices.add_column(_text("model"))
        devices.add_column(_json("groups", "[]"))
        devices.add_column(_json("tags", "[]"))
        devices.add_column(sa.Column("trained_at_s", sa.Float))
        devices.add_column(sa.Column("marker", sa.JSON))
        devices.add_column(sa.Column("revoked", sa.Boolean, nullable=False, server_default=sa.text("false")))
        devices.add_column(_text("quarantine"))


def _versions() -> None:
    with op.batch_alter_table("versions", naming_convention=NAMES) as versions:
        versions.add_column(_text("model"))
        versions.add_column(_json("parents", "[]"))
        versions.add_column(_json("participants", "[]"))
        versions.add_column(_json("metrics", "{}"))
        versions.add_column(sa.Column("created_at_s", sa.Float))
        versions.drop_constraint("uq_versions_number", type_="unique")
        versions.create_unique_constraint("uq_versions_model", ["model", "number"])


def _rounds() -> None:
    with op.batch_alter_table("rounds") as rounds:
        rounds.add_column(_text("model"))
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(_number("lap"))
    with op.batch_alter_table("updates", naming_convention=NAMES) as updates:
        updates.add_column(_number("lap"))
        updates.add_column(sa.Column("base_number", sa.Integer))
        updates.add_column(_number("staleness"))
        updates.alter_column("samples", type_=sa.BigInteger, existing_type=sa.Integer, existing_nullable=False)
        updates.drop_constraint("uq_updates_round", type_="unique")
        updates.create_unique_constraint("uq_updates_round", ["round", "device", "kind", "lap"])


def _deployments() -> None:
    op.create_table(
        "deployments",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("group", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("against", sa.String, nullable=False),
        sa.Column("round", sa.Integer),
        _text("sentence"),
        sa.Column("opened_at_s", sa.Float, nullable=False),
        sa.Column("closed_at_s", sa.Float),
        _json("detail", "{}"),
    )
    op.create_table(
        "spending",
        sa.Column("round", sa.Integer, primary_key=True),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("epsilon", sa.Float, nullable=False),
        sa.Column("delta", sa.Float, nullable=False),
        _json("detail", "{}"),
        sa.Column("at_s", sa.Float, nullable=False),
    )


def _fill(models: sa.Table) -> None:
    tx = op.get_bind()
    model = tx.execute(sa.text("SELECT model FROM bundles ORDER BY device, sha256 LIMIT 1")).scalar()
    if model is None:
        return  # neither versions nor rounds without a bundle
    tip = tx.execute(sa.text("SELECT value FROM meta WHERE key = 'tip'")).scalar_one()
    op.bulk_insert(models, [{"model": model, "tip": tip}])
    tx.execute(sa.text("DELETE FROM meta WHERE key = 'tip'"))
    for name in ("versions", "rounds", "releases"):
        tx.execute(sa.update(sa.table(name, sa.column("model"))).values(model=model))
    devices = sa.table("devices", sa.column("model"), sa.column("seen_at_s"))
    tx.execute(sa.update(devices).where(devices.c.seen_at_s.is_not(None)).values(model=model))
    _descent(tx)
    rounds = sa.table("rounds", sa.column("number"), sa.column("state", sa.JSON))
    for number, state in tx.execute(sa.select(rounds.c.number, rounds.c.state)).all():
        named = {**state, "model": model}
        tx.execute(sa.update(rounds).where(rounds.c.number == number).values(state=named))


def _descent(tx: sa.Connection) -> None:
    """Parents and participants, which schema 1 knew without saying them."""
    versions = sa.table(
        "versions",
        *(sa.column(name) for name in ("digest", "number", "parent", "round")),
        *(sa.column(name, sa.JSON) for name in ("parents", "participants")),
    )
    updates = sa.table("updates", *(sa.column(n) for n in ("round", "device", "kind", "base", "base_number")))
    for row in tx.execute(sa.select(versions)).all():
        given = sa.select(updates.c.device).where(updates.c.round == row.round, updates.c.kind != "scores")
        found: dict[str, Any] = {
            "parents": [row.parent] if row.parent else [],
            "participants": sorted(tx.execute(given).scalars()) if row.round else [],
        }
        tx.execute(sa.update(versions).where(versions.c.digest == row.digest).values(**found))
        tx.execute(sa.update(updates).where(updates.c.base == row.digest).values(base_number=row.number))


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=False, server_default="")


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0"))


def _json(name: str, default: str) -> sa.Column[object]:
    return sa.Column(name, sa.JSON, nullable=False, server_default=default)
