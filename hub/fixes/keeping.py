"""What is written to the ledger of a fix that is over."""

from __future__ import annotations

from sqlalchemy import Connection, select

from hub.fixes.asking import forgotten_job
from hub.store import schema as t


def forget_inputs(tx: Connection, number: int) -> None:
    """Take what was put into the model out of the job of a fix."""
    c = t.jobs.c
    for row in tx.execute(select(c.job, c.body).where(c.round == number)).all():
        tx.execute(t.jobs.update().where(c.job == row.job).values(body=forgotten_job(bytes(row.body))))
