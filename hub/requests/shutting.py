"""Requests about devices that are shut out: revoked (believed and served no more) or in quarantine (out of rounds)."""

from __future__ import annotations

from collections.abc import Callable

from console.errors import HubError
from hub.serving.service import Service
from hub.store.ledger import Row
from hub.store.registry import let_in
from hub.store.writes import put_device
from wire.keys import new_key


def _revoke(service: Service, request: Row) -> Row:
    """Believe a device no more, at once; or let its name be enrolled anew, with another key."""
    name, undo = str(request["device"]), bool(request.get("undo"))
    row = _device(service, name)
    if undo and not row["revoked"]:
        raise HubError(f"expected a device that is revoked, found that {name} is not; there is nothing to undo")
    known: Row = {"revoked": not undo, "online": False}
    if undo:  # the key that may be in wrong hands must not be believed again; nobody has the other half of this one
        known["key"] = new_key("device", name).public.line
    with service.home.ledger.transaction() as tx:
        put_device(tx, name, **known)
    service.allow(let_in(service.home))
    if not undo:
        service.end_session(name)
        service.leave_rounds(name, "it was revoked")
    return {"device": name, "revoked": not undo}


def _quarantine(service: Service, request: Row) -> Row:
    """Leave a device out of rounds, or take it in again; it stays connected and gets releases."""
    name, reason = str(request["device"]), str(request.get("reason") or "")
    _device(service, name)
    with service.home.ledger.transaction() as tx:
        put_device(tx, name, quarantine=reason)
    if reason:
        service.leave_rounds(name, f"it is in quarantine: {reason}")
    return {"device": name, "quarantine": reason}


def _device(service: Service, name: str) -> Row:
    row = service.home.ledger.device(name)
    if row is None:
        raise HubError(f"expected an enrolled device, found {name}; see `edgequilt hub status`")
    return row


TABLE: dict[str, Callable[[Service, Row], Row]] = {"revoke": _revoke, "quarantine": _quarantine}
