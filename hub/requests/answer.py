"""The requests that a hub answers, by name."""

from __future__ import annotations

from collections.abc import Callable

from console.errors import UsageError
from hub.ledger import Row
from hub.requests import fleet, rounds, versions
from hub.service import Service

TABLE: dict[str, Callable[[Service, Row], Row]] = {**fleet.TABLE, **rounds.TABLE, **versions.TABLE}


def answer(service: Service, request: Row) -> Row:
    """Do what is asked.

    Raises:
        EdgequiltError: it cannot be done, and why.
    """
    what = request.get("request")
    if not isinstance(what, str) or what not in TABLE:
        raise UsageError(
            f"expected a request among {', '.join(TABLE)}, found {what!r}; use the same edgequilt as the hub"
        )
    return TABLE[what](service, request)
