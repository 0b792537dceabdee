"""Requests about releases of the agent: which there are, and which device is to be which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hub.bundles.assigning import chosen
from hub.programs import assigning
from hub.programs.counter import show
from hub.programs.keeping import add_program
from hub.serving.service import Service
from hub.store.ledger import Row


def _add(service: Service, request: Row) -> Row:
    return add_program(service.home, Path(str(request["folder"])))


def _list(service: Service, request: Row) -> Row:
    names = ("sha256", "version", "system", "bytes", "stream_bytes", "added_at_s")
    return {"releases": [{name: row[name] for name in names} for row in service.home.ledger.programs()]}


def _assign(service: Service, request: Row) -> Row:
    devices = chosen(service.home, list(request.get("devices") or ()), str(request.get("group") or ""))
    found = assigning.order(service.home, devices, str(request["release"]), service.clock())
    service.programs.tell(devices)
    return {"devices": found}


def _show(service: Service, request: Row) -> Row:
    return {"devices": show(service.home)}


TABLE: dict[str, Callable[[Service, Row], Row]] = {
    "release add": _add,
    "release list": _list,
    "release assign": _assign,
    "release show": _show,
}
