"""Requests about who and what belongs to the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hub.identity import claims
from hub.identity.grant import addresses
from hub.serving.service import Service
from hub.show import status as show_status
from hub.store import registry
from hub.store.ledger import Row


def _add(service: Service, request: Row) -> Row:
    found = registry.add_bundle(service.home, Path(request["folder"]), copy=bool(request.get("copy", True)))
    for desk in service.learn_models():
        service.greet(desk)
    service.bundles.added()
    return found


def _enroll(service: Service, request: Row) -> Row:
    replace = bool(request.get("replace"))
    found = registry.enroll(service.home, request["name"], request["line"], replace=replace)
    service.allow(registry.let_in(service.home))
    return found


def _tokens(service: Service, request: Row) -> Row:
    at = addresses(service.home.config, service.web)
    replace, names = bool(request.get("replace")), list(map(str, request["names"]))
    made = claims.make(service.home, names, float(request["expires_s"]), replace, service.clock(), at)
    return claims.shown(made)


def _outstanding(service: Service, request: Row) -> Row:
    return {"tokens": claims.outstanding(service.home, service.clock())}


def _cancel(service: Service, request: Row) -> Row:
    return {"cancelled": claims.cancel(service.home, list(map(str, request["names"])))}


def status(service: Service, request: Row) -> Row:
    """The whole hub at a glance."""
    return {
        **show_status.status(service.home, service.broker, service.broker_lacks, service.clock()),
        "mqtt": service.transport.capabilities.protocol,
        "workers": [{"worker": row["name"], "taken": row["taken"]} for row in service.helped.present],
        "messages_denied": dict(service.denied.counts),
        "messages_ignored": service.guard.ignored,
        "ignored_because": [f"{where}: {why}" for where, why in service.guard.reasons.items()],
    }


TABLE: dict[str, Callable[[Service, Row], Row]] = {
    "add": _add,
    "enroll": _enroll,
    "tokens": _tokens,
    "tokens_outstanding": _outstanding,
    "tokens_cancel": _cancel,
    "status": status,
}
