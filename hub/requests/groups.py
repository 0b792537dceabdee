"""Requests about groups and tags of devices: names that people give, and by which rounds and trials choose."""

from __future__ import annotations

import re
from collections.abc import Callable

from console.errors import HubError, UsageError
from hub.serving.service import Service
from hub.store.ledger import Row
from hub.store.writes import put_device
from wire.record import NAME

KINDS = {"group": "groups", "tag": "tags"}


def _list(service: Service, request: Row) -> Row:
    column, found = _column(request), dict[str, list[str]]()
    for row in service.home.ledger.devices():
        for name in row[column] or ():
            found.setdefault(name, []).append(row["name"])
    return {column: dict(sorted(found.items()))}


def _change(service: Service, request: Row) -> Row:
    column, name, devices = _column(request), str(request["name"]), list(request["devices"])
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"expected a name of small letters, digits, '.', '_' or '-' (at most 63), found {name!r}; choose another"
        )
    rows = {row["name"]: row for row in service.home.ledger.devices()}
    unknown = [device for device in devices if device not in rows]
    if unknown:
        raise HubError(
            f"expected enrolled devices, found {', '.join(unknown)}; enroll them with `edgequilt hub enroll`"
        )
    with service.home.ledger.transaction() as tx:
        for device in devices:
            before = set(rows[device][column] or ())
            after = before | {name} if request["add"] else before - {name}
            put_device(tx, device, **{column: sorted(after)})
    return _list(service, request)


def _column(request: Row) -> str:
    kind = request.get("of")
    if kind not in KINDS:
        raise UsageError(f"expected group or tag, found {kind!r}; use the same edgequilt as the hub")
    return KINDS[kind]


TABLE: dict[str, Callable[[Service, Row], Row]] = {"names": _list, "name": _change}
