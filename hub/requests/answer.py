"""The requests that a hub answers, by name."""

from __future__ import annotations

from collections.abc import Callable

from console.errors import UsageError
from hub.requests import (
    bundles,
    fixes,
    fleet,
    groups,
    importance,
    keeping,
    programs,
    rotating,
    rounds,
    shutting,
    versions,
)
from hub.serving.desk import Desk
from hub.serving.service import Service
from hub.store.ledger import Row

OF_THE_HUB: dict[str, Callable[[Service, Row], Row]] = {
    **fleet.TABLE,
    **groups.TABLE,
    **keeping.TABLE,
    **bundles.TABLE,
    **programs.TABLE,
    **shutting.TABLE,
    **rotating.TABLE,
    **rounds.READING,
}
OF_A_MODEL: dict[str, Callable[[Desk, Row], Row]] = {
    **rounds.TABLE,
    **versions.TABLE,
    **fixes.TABLE,
    **importance.TABLE,
}


def answer(service: Service, request: Row) -> Row:
    """Do what is asked; `model` names the model where there are several and a round does not.

    Raises:
        EdgequiltError: it cannot be done, and why.
    """
    what = request.get("request")
    if what in OF_THE_HUB:
        return OF_THE_HUB[what](service, request)
    if what in OF_A_MODEL:
        return OF_A_MODEL[what](_desk(service, request), request)
    known = ", ".join([*OF_THE_HUB, *OF_A_MODEL])
    raise UsageError(f"expected a request among {known}, found {what!r}; use the same edgequilt as the hub")


def _desk(service: Service, request: Row) -> Desk:
    wanted = str(request.get("model") or "")
    state = service.home.ledger.round(int(request["round"])) if "round" in request and not wanted else None
    return service.desk(wanted if state is None else state.model)
