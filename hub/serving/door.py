"""Who speaks: what a device said is believed by the key that it was enrolled with."""

from __future__ import annotations

from typing import Any

from console.errors import BadData
from hub.store.ledger import Ledger, Row
from wire import messages as m
from wire.envelope import Trust, unseal
from wire.keys import parse_public_key
from wire.topics import Address


def believed(ledger: Ledger, address: Address, payload: bytes) -> tuple[Row, Any]:
    """The device, and its message.

    Raises:
        BadData: it is not enrolled, or not a message of it.
        SignatureError: another key signed it, or none.
    """
    kind, device = address.topic.message, ledger.device(address.device)
    if device is None:
        raise BadData(f"expected an enrolled device, found {address.device}; enroll it with `edgequilt hub enroll`")
    if device["revoked"]:
        raise BadData(f"expected a device that is not revoked, found {address.device}; it was ignored")
    trust = Trust([parse_public_key(device["key"], "device", "the ledger")])
    body, _ = unseal(payload, "device", trust, f"a {kind.TYPE} message of {address.device}")
    message = m.decode(body, kind)
    if message.sender.device != address.device:
        raise BadData(f"expected a message of {address.device}, found one of {message.sender.device}; it was ignored")
    return device, message
