"""Requests about the hub's own key: announce the next one, and speak with it."""

from __future__ import annotations

from collections.abc import Callable

from hub.identity import rotation
from hub.serving.service import Service
from hub.store.ledger import Row
from wire.record import plain


def _rotate(service: Service, request: Row) -> Row:
    if request.get("finish"):
        anyway = bool(request.get("anyway"))
        return dict(plain(rotation.finish(service.home, anyway=anyway, speak=service.speak_with)))
    found = rotation.begin(service.home)
    service.standings.keys_to_all()
    return dict(plain(found))


TABLE: dict[str, Callable[[Service, Row], Row]] = {"rotate-key": _rotate}
