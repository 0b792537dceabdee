"""The journal of the hub, through SQLAlchemy Core. What is committed here survives a kill at any instant.

Writes take the connection of a `transaction`, so that what belongs together is committed together. A commit has
reached the disk when it returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, extract, func, select
from sqlalchemy.exc import SQLAlchemyError

from console.errors import StorageError
from hub.migrations import prepare
from hub.rounds.state import OPEN, Round
from hub.store import schema as t
from hub.store.database import Database
from wire.record import read_record

Row = dict[str, Any]


class Ledger:
    """The ledger of one hub; one process at a time may write to it.

    Args:
        database: where it is.
        reading: only look at it, while another process may be at work on it.

    Raises:
        StorageError: it cannot be opened or is not a database.
        HubError: a newer edgequilt wrote it, or another hub is at work on it.
    """

    def __init__(self, database: Database, *, reading: bool = False) -> None:
        self.database = database
        self._open: Connection | None = None  # the transaction that is under way; what is read meanwhile is read in it
        self._sharing = False  # whether reads share a transaction
        self._shared: Connection | None = None
        self.failures = 0  # transactions of which nobody knows whether they are there
        self._engine = database.engine(reading=reading)
        try:
            with _storage(database):
                prepare(self._engine, str(database), reading=reading)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """All of what is written inside, or nothing.

        Raises:
            StorageError: the disk does not take it.
        """
        self._end_shared()
        try:
            with _storage(self.database), self._engine.begin() as tx:
                self._open = tx
                yield tx
        except StorageError:
            self.failures += 1
            raise
        finally:
            self._open = None

    @contextmanager
    def reading_together(self) -> Iterator[None]:
        """What is read inside is read in one transaction, a new one after every write: beginning it is what costs."""
        self._sharing = True
        try:
            yield
        finally:
            self._sharing = False
            self._end_shared()

    def get(self, key: str) -> str:
        """A single value of `meta`, empty if it was never set."""
        return self._scalar(select(t.meta.c.value).where(t.meta.c.key == key)) or ""

    def devices(self) -> list[Row]:
        """All devices by name."""
        return self._rows(select(t.devices).order_by(t.devices.c.name))

    def device(self, name: str) -> Row | None:
        """A device."""
        return self._row(select(t.devices).where(t.devices.c.name == name))

    def claims(self) -> list[Row]:
        """All claim tokens that were made and not cancelled, by the name of their device."""
        return self._rows(select(t.claims).order_by(t.claims.c.name))

    def claim(self, name: str) -> Row | None:
        """The claim token of a device to be."""
        return self._row(select(t.claims).where(t.claims.c.name == name))

    def bundles(self, model: str | None = None) -> list[Row]:
        """All bundles of a model, or of all models, by the kind of board."""
        query = select(t.bundles).order_by(t.bundles.c.device, t.bundles.c.sha256)
        return self._rows(query if model is None else query.where(t.bundles.c.model == model))

    def bundle(self, sha256: str) -> Row | None:
        """A bundle."""
        return self._row(select(t.bundles).where(t.bundles.c.sha256 == sha256))

    def assignment(self, device: str) -> Row | None:
        """Which bundle a device gets."""
        return self._row(select(t.assignments).where(t.assignments.c.device == device))

    def programs(self) -> list[Row]:
        """All releases of the agent, the newest last."""
        return self._rows(select(t.programs).order_by(t.programs.c.added_at_s, t.programs.c.sha256))

    def program(self, sha256: str) -> Row | None:
        """A release of the agent."""
        return self._row(select(t.programs).where(t.programs.c.sha256 == sha256))

    def order(self, device: str) -> Row | None:
        """Which release of the agent a device is to be."""
        return self._row(select(t.orders).where(t.orders.c.device == device))

    def models(self) -> list[Row]:
        """All models by name, each with its tip."""
        return self._rows(select(t.models).order_by(t.models.c.model))

    def tip(self, model: str) -> str:
        """The digest of the version that work on a model goes on from; empty before its first bundle."""
        return self._scalar(select(t.models.c.tip).where(t.models.c.model == model)) or ""

    def versions(self, model: str | None = None) -> list[Row]:
        """All versions of a model in order, or those of all models."""
        query = select(t.versions).order_by(t.versions.c.model, t.versions.c.number)
        return self._rows(query if model is None else query.where(t.versions.c.model == model))

    def version(self, digest: str) -> Row | None:
        """A version by digest."""
        return self._row(select(t.versions).where(t.versions.c.digest == digest))

    def rounds(self) -> list[Round]:
        """All rounds in order."""
        return [_round(r) for r in self._rows(select(t.rounds).order_by(t.rounds.c.number))]

    def open_rounds(self, model: str | None = None) -> list[Round]:
        """Rounds of a model, or of all models, to go on with after a restart."""
        query = select(t.rounds).where(t.rounds.c.phase.in_(OPEN)).order_by(t.rounds.c.number)
        return [_round(r) for r in self._rows(query if model is None else query.where(t.rounds.c.model == model))]

    def round(self, number: int) -> Round | None:
        """A round."""
        row = self._row(select(t.rounds).where(t.rounds.c.number == number))
        return None if row is None else _round(row)

    def opened_at_s(self, number: int) -> float | None:
        """When a round was opened."""
        row = self._row(select(t.rounds.c.opened_at_s).where(t.rounds.c.number == number))
        return None if row is None else float(row["opened_at_s"])

    def last_round(self) -> int:
        """The highest number given to a round, or that a ledger which is lost may have given; 0 before the first."""
        return max(self._scalar(select(func.max(t.rounds.c.number))) or 0, int(self.get("round_floor") or 0))

    def job(self, job: str) -> Row | None:
        """A job."""
        return self._row(select(t.jobs).where(t.jobs.c.job == job))

    def updates(self, number: int, kind: str | None = None, lap: int | None = None) -> list[Row]:
        """What a round counts, lap by lap, by device: an order that does not depend on arrival."""
        c = t.updates.c
        query = select(t.updates).where(c.round == number)
        if kind is not None:
            query = query.where(c.kind == kind)
        if lap is not None:
            query = query.where(c.lap == lap)
        return self._rows(query.order_by(c.lap, c.device, c.kind))

    def all_updates(self) -> list[Row]:
        """What all rounds count, in the order of their arrival."""
        return self._rows(select(t.updates).order_by(t.updates.c.id))

    def update_of(self, number: int, device: str, kind: str, lap: int = 0) -> Row | None:
        """What a device gave to a lap of a round."""
        c = t.updates.c
        return self._row(select(t.updates).where(c.round == number, c.device == device, c.kind == kind, c.lap == lap))

    def update_for(self, job: str, device: str) -> Row | None:
        """What counts for a job as a device's."""
        return self._row(select(t.updates).where(t.updates.c.job == job, t.updates.c.device == device))

    def masks(self, number: int, stage: str) -> list[Row]:
        """What boards said at a stage of a sum under masks, by device."""
        c = t.masks.c
        return self._rows(select(t.masks).where(c.round == number, c.stage == stage).order_by(c.device))

    def receipt(self, device: str, digest: str, job: str | None = None) -> Row | None:
        """The answer that was given for an update; the last one when the job is not named."""
        c = t.receipts.c
        query = select(t.receipts).where(c.device == device, c.digest == digest)
        if job is not None:
            query = query.where(c.job == job)
        return self._row(query.order_by(c.id.desc()).limit(1))

    def arrivals(self, limit: int) -> list[Row]:
        """What workers took in and the hub has not answered, the oldest first."""
        return self._rows(select(t.arrivals).order_by(t.arrivals.c.id).limit(limit))

    def arrival(self, device: str, digest: str, job: str | None = None) -> Row | None:
        """The same of one update, for a job or for any."""
        c = t.arrivals.c
        query = select(t.arrivals).where(c.device == device, c.digest == digest)
        return self._row((query if job is None else query.where(c.job == job)).limit(1))

    def workers(self) -> list[Row]:
        """Workers by name, each with `age_s`, the seconds since it was last there; over PostgreSQL only."""
        age_s = (extract("epoch", func.clock_timestamp()) - t.workers.c.at_s).label("age_s")
        return self._rows(select(t.workers, age_s).order_by(t.workers.c.name))

    def receipts(self, limit: int) -> list[Row]:
        """The last answers, newest first."""
        return self._rows(select(t.receipts).order_by(t.receipts.c.id.desc()).limit(limit))

    def release(self, model: str, group: str = "") -> Row | None:
        """The version of a model that a group of devices is to serve; the empty group is all of them."""
        c = t.releases.c
        query = select(t.releases).where(c.model == model, c.group == group)
        return self._row(query.order_by(c.sequence.desc()).limit(1))

    def releases(self, model: str) -> list[Row]:
        """All releases of a model in order, those to groups too."""
        return self._rows(select(t.releases).where(t.releases.c.model == model).order_by(t.releases.c.sequence))

    def deployments(self, model: str) -> list[Row]:
        """All deployments of a model in order."""
        return self._rows(select(t.deployments).where(t.deployments.c.model == model).order_by(t.deployments.c.id))

    def deployment(self, number: int) -> Row | None:
        """A deployment."""
        return self._row(select(t.deployments).where(t.deployments.c.id == number))

    def last_deployment(self) -> int:
        """The highest number given to a deployment; 0 before the first."""
        return self._scalar(select(func.max(t.deployments.c.id))) or 0

    def events(self, limit: int = 20) -> list[Row]:
        """What happened last, newest first."""
        return self._rows(select(t.events).order_by(t.events.c.id.desc()).limit(limit))

    def _rows(self, query: Any) -> list[Row]:
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _row(self, query: Any) -> Row | None:
        return next(iter(self._rows(query)), None)

    def _scalar(self, query: Any) -> Any:
        with self._reading() as connection:
            return connection.execute(query).scalar()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _storage(self.database):
            if self._open is not None:
                yield self._open
            elif self._sharing:
                self._shared = self._shared or self._engine.connect()
                yield self._shared
            else:
                with self._engine.connect() as connection:
                    yield connection

    def _end_shared(self) -> None:
        if self._shared is not None:
            shared, self._shared = self._shared, None
            with _storage(self.database):
                shared.close()


def _round(row: Row) -> Round:
    return read_record(Round, row["state"], f"round {row['number']} in the ledger")


@contextmanager
def _storage(database: Database) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise StorageError(
            f"expected to read and write the ledger {database}, the database said: {reason}; {database.mend}"
        ) from error
