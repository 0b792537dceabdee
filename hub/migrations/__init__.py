"""How an older ledger becomes a newer one, all or nothing. A newer one is refused: this hub would lose what it says.

The steps are Alembic's, one file each in `versions/`; an empty database goes through all of them. Each sets `schema`
in `meta` too, by which an edgequilt from before a step knows that it must not touch the ledger.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, select

from console.errors import HubError
from hub.store.schema import SCHEMA, meta


def prepare(engine: Engine, where: str, *, reading: bool = False) -> None:
    """Make the tables, or bring an older ledger up to date.

    Args:
        engine: the database.
        where: its name for people.
        reading: nothing may be changed; another process may be at work on it.

    Raises:
        HubError: the ledger was written by a newer edgequilt, or by an older one and nothing may be changed.
    """
    with engine.begin() as tx:
        found = schema_of(tx)
        if found == SCHEMA:
            return
        if found > SCHEMA:
            raise HubError(f"expected a ledger of schema {SCHEMA} or older in {where}, found {found}; update edgequilt")
        if reading:
            raise HubError(
                f"expected a ledger of schema {SCHEMA} in {where}, found {found}; start the hub, which brings it up "
                f"to date"
            )
        upgrade(tx, found)


def schema_of(tx: Connection) -> int:
    """The schema number of a ledger; 0 of an empty database."""
    if not inspect(tx).has_table("meta"):
        return 0
    return int(tx.execute(select(meta.c.value).where(meta.c.key == "schema")).scalar_one())


def upgrade(tx: Connection, found: int, target: str = "head") -> None:
    """Take a ledger of schema `found` through all steps after it."""
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": tx})
    # Alembic reads a percent sign as the beginning of a variable
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    if found == 1 and not inspect(tx).has_table("alembic_version"):
        command.stamp(config, "1")  # from before there were steps
    command.upgrade(config, target)
