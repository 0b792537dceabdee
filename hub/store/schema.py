"""The tables of the ledger, as the last migration leaves them (hub.migrations); `meta` holds the schema number."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    text,
)

SCHEMA = 4
NAMES = {"uq": "uq_%(table_name)s_%(column_0_name)s"}  # of constraints; migrations must be able to name them
metadata = MetaData(naming_convention=NAMES)


class Words(TypeDecorator[str]):
    """Text with words from outside in it: PostgreSQL has no place for a NUL."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """What is kept of it."""
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if value else value


def _words(name: str, default: str | None = None) -> Column[Any]:
    return Column(name, Words, nullable=False, server_default=default)


def _number(name: str, default: int) -> Column[Any]:
    return Column(name, Integer, nullable=False, default=default, server_default=text(str(default)))


def _flag(name: str) -> Column[Any]:
    return Column(name, Boolean, nullable=False, default=False, server_default=text("false"))


def _list(name: str) -> Column[Any]:
    return Column(name, JSON, nullable=False, default=list, server_default="[]")


def _fields(name: str) -> Column[Any]:
    return Column(name, JSON, nullable=False, default=dict, server_default="{}")


meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))

models = Table(
    "models",
    metadata,
    Column("model", String, primary_key=True),
    Column("tip", String, nullable=False),  # digest of the version that work goes on from
)

devices = Table(
    "devices",
    metadata,
    Column("name", String, primary_key=True),
    Column("key", String, nullable=False, unique=True),  # the line of its .pub file
    Column("hello", JSON),  # the last one, as plain fields
    Column("online", Boolean, nullable=False, default=False),
    Column("seen_at_s", Float),
    Column("model", String, nullable=False, server_default=""),  # of its last hello; empty: it has said none
    _list("groups"),  # names that people gave
    _list("tags"),  # what it says of itself
    Column("trained_at_s", Float),  # when an update of it last counted
    Column("marker", JSON),  # how far its data had come then
    _flag("revoked"),  # its key is believed no more
    _words("quarantine", ""),  # why it is left out of rounds; empty: it is not
    Column("expires_at_s", Float),  # when the certificate that it claimed or renewed last runs out
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
    Column("signature", LargeBinary),  # manifest.sig; empty: it was added before bundles were served
    Column("added_at_s", Float),
)

assignments = Table(
    "assignments",
    metadata,
    Column("device", String, primary_key=True),
    Column("bundle", String, nullable=False),  # SHA-256 of its manifest.json
    Column("sequence", BigInteger, nullable=False),  # in the one order with releases
    _words("why", ""),  # by hand, or of its kind of board
    _words("failed", ""),  # why the device could not take it; empty: it did, or has not said
    Column("at_s", Float, nullable=False),
)

programs = Table(
    "programs",
    metadata,
    Column("sha256", String, primary_key=True),  # of program.json
    Column("version", String, nullable=False),
    Column("system", String, nullable=False),  # that it is for, in words
    Column("bytes", BigInteger, nullable=False),  # of all files
    Column("stream_sha256", String, nullable=False),
    Column("stream_bytes", BigInteger, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("added_at_s", Float, nullable=False),
)

orders = Table(
    "orders",
    metadata,
    Column("device", String, primary_key=True),
    Column("program", String, nullable=False),  # SHA-256 of its program.json
    Column("sequence", BigInteger, nullable=False),  # in the one order with releases of models
    _words("failed", ""),  # why the device could not be it; empty: it is, or has not said
    Column("at_s", Float, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("digest", String, primary_key=True),  # of body
    Column("model", String, nullable=False, server_default=""),
    Column("number", Integer, nullable=False),  # counts from 0 for each model
    Column("parent", String, nullable=False),
    _list("parents"),  # digests of all that it was made of
    Column("round", Integer, nullable=False),
    _list("participants"),  # device, samples and share of those whose updates are in it
    _fields("metrics"),  # what was found when it was made
    Column("created_at_s", Float),  # empty: an older edgequilt made it
    Column("body", LargeBinary, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("cut", JSON, nullable=False),  # per slot: [Frobenius norm that truncation cut off, norm of the whole]
    UniqueConstraint("model", "number"),
)

rounds = Table(
    "rounds",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("model", String, nullable=False, server_default=""),
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
    _number("lap", 0),
    Column("body", LargeBinary, nullable=False),  # the message; the same bytes every time it is sent
)

updates = Table(
    "updates",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("device", String, nullable=False),
    Column("kind", String, nullable=False),
    _number("lap", 0),  # a round of several laps counts an update of a device in each
    Column("digest", String, nullable=False),  # the blob
    Column("base", String, nullable=False),
    Column("base_number", Integer),  # of the version that it started from
    _number("staleness", 0),  # how many versions were made since that one when it arrived
    Column("job", String, nullable=False),
    Column("samples", BigInteger, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("dropped_at_s", Float),  # when its blob was let go; empty: it is there
    UniqueConstraint("round", "device", "kind", "lap"),
)

masks = Table(  # of sums under masks that are not opened yet; emptied with their round
    "masks",
    metadata,
    Column("round", Integer, nullable=False),
    Column("stage", String, nullable=False),  # keys, shares, agreed, reveals
    Column("device", String, nullable=False),
    Column("body", LargeBinary, nullable=False),  # keys: the envelope; else what it said, as MessagePack
    UniqueConstraint("round", "stage", "device"),
)

receipts = Table(
    "receipts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("job", String, nullable=False),
    Column("status", String, nullable=False),
    _words("reason"),
    Column("at_s", Float, nullable=False),
    UniqueConstraint("device", "digest", "job"),
)

releases = Table(
    "releases",
    metadata,
    Column("sequence", BigInteger, primary_key=True),
    Column("model", String, nullable=False, server_default=""),
    Column("group", String, nullable=False, server_default=""),  # empty: all devices
    Column("version", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("why", String, nullable=False),
    Column("at_s", Float, nullable=False),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("group", String, nullable=False),
    Column("state", String, nullable=False),
    Column("against", String, nullable=False),  # digest of the version that it is compared with; empty: of none
    Column("round", Integer),  # that judges it
    _words("sentence", ""),
    Column("opened_at_s", Float, nullable=False),
    Column("closed_at_s", Float),
    _fields("detail"),
)

arrivals = Table(  # updates that workers took in, until the hub has counted them
    "arrivals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", String, nullable=False),
    Column("device", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("job", String, nullable=False),
    Column("body", LargeBinary, nullable=False),  # of its begin; the worker has checked who signed it
    _flag("whole"),  # its blob is there and was looked at
    _words("fault", ""),  # what is wrong with it; empty: nothing
    UniqueConstraint("device", "digest", "job"),
)

workers = Table(
    "workers",
    metadata,
    Column("name", String, primary_key=True),
    Column("at_s", Float, nullable=False),  # when it was last there, by the clock of the database
    _number("taken", 0),
)

claims = Table(
    "claims",
    metadata,
    Column("name", String, primary_key=True),  # of the device to be
    Column("hash", String, nullable=False),  # SHA-256 of the token's secret
    _flag("replace"),  # whether a device of that name may get another key
    Column("made_at_s", Float, nullable=False),
    Column("expires_at_s", Float, nullable=False),
    Column("used_at_s", Float),
    Column("key", String, nullable=False, server_default=""),  # id of the key that claimed it
    Column("request", String, nullable=False, server_default=""),  # SHA-256 of the TLS key that did
    Column("certificate", LargeBinary),  # what it was answered
)

spending = Table(
    "spending",
    metadata,
    Column("round", Integer, primary_key=True),  # it spends once, however often it is made
    Column("model", String, nullable=False),
    Column("epsilon", Float, nullable=False),
    Column("delta", Float, nullable=False),
    _fields("detail"),
    Column("at_s", Float, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("round", Integer),
    Column("device", String),
    _words("text"),
)
