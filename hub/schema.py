"""The tables of the ledger, and how an older file becomes a newer one.

`meta` holds the schema number. A file of a newer schema is refused: an older hub would lose what it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    inspect,
    select,
)

from console.errors import HubError

SCHEMA = 1
metadata = MetaData()

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))

devices = Table(
    "devices",
    metadata,
    Column("name", String, primary_key=True),
    Column("key", String, nullable=False, unique=True),  # the line of its .pub file
    Column("hello", JSON),  # the last one, as plain fields
    Column("online", Boolean, nullable=False, default=False),
    Column("seen_at_s", Float),
)

bundles = Table(
    "bundles",
    metadata,
    Column("sha256", String, primary_key=True),  # of manifest.json
    Column("model", String, nullable=False),
    Column("device", String, nullable=False),  # the kind of board that it was made for
    Column("rank", Integer, nullable=False),
    Column("mode", String, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("folder", String, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("digest", String, primary_key=True),  # of body
    Column("number", Integer, nullable=False, unique=True),
    Column("parent", String, nullable=False),
    Column("round", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("cut", JSON, nullable=False),  # per slot: [Frobenius norm that truncation cut off, norm of the whole]
)

rounds = Table(
    "rounds",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("kind", String, nullable=False),
    Column("phase", String, nullable=False),
    Column("state", JSON, nullable=False),
    Column("opened_at_s", Float, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job", String, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("device", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("body", LargeBinary, nullable=False),  # the message; the same bytes every time it is sent
)

updates = Table(
    "updates",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("device", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("digest", String, nullable=False),  # the blob
    Column("base", String, nullable=False),
    Column("job", String, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("at_s", Float, nullable=False),
    UniqueConstraint("round", "device", "kind"),
)

receipts = Table(
    "receipts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("job", String, nullable=False),
    Column("status", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("at_s", Float, nullable=False),
    UniqueConstraint("device", "digest", "job"),
)

releases = Table(
    "releases",
    metadata,
    Column("sequence", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("why", String, nullable=False),
    Column("at_s", Float, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("round", Integer),
    Column("device", String),
    Column("text", String, nullable=False),
)

Migrations = Mapping[int, Callable[[Connection], None]]
MIGRATIONS: Migrations = {}  # MIGRATIONS[n] makes schema n + 1 out of schema n


def prepare(engine: Engine, where: str, target: int = SCHEMA, migrations: Migrations = MIGRATIONS) -> None:
    """Create the tables, or bring an older file to the target schema, all or nothing.

    Raises:
        HubError: the file was written by a newer edgequilt.
    """
    if not inspect(engine).has_table("meta"):
        with engine.begin() as tx:
            metadata.create_all(tx)
            tx.execute(meta.insert().values(key="schema", value=str(target)))
        return
    with engine.begin() as tx:
        found = int(tx.execute(select(meta.c.value).where(meta.c.key == "schema")).scalar_one())
        if found > target:
            raise HubError(f"expected a ledger of schema {target} or older in {where}, found {found}; update edgequilt")
        for number in range(found, target):
            migrations[number](tx)
        if found < target:
            tx.execute(meta.update().where(meta.c.key == "schema").values(value=str(target)))
