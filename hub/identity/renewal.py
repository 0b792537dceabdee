"""Renewing certificates: the device's signing key proves who asks, also long after the certificate ran out.

A nonce makes a request fresh: the hub's time and random bytes under a key that the hub draws at every start, so that
nothing is kept for whoever asks for one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct

from console.errors import HubError
from hub import authority
from hub.identity.grant import Where, granted
from hub.store.registry import Home
from hub.store.writes import put_device
from wire.identity import Granted, Renewal, check_signed, read_signed
from wire.keys import parse_public_key

FRESH_S = 300.0


class Nonces:
    """Makes nonces and knows its own."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def make(self, now_s: float) -> str:
        """A nonce."""
        head = struct.pack(">d", now_s) + secrets.token_bytes(8)
        return base64.urlsafe_b64encode(head + self._proof(head)).decode()

    def is_fresh(self, nonce: str, now_s: float) -> bool:
        """Whether this was made here, less than five minutes ago."""
        try:
            data = base64.b64decode(nonce, altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            return False
        head, proof = data[:16], data[16:]
        if len(head) != 16 or not hmac.compare_digest(proof, self._proof(head)):
            return False
        age_s = now_s - float(struct.unpack(">d", head[:8])[0])
        return 0 <= age_s <= FRESH_S

    def _proof(self, head: bytes) -> bytes:
        return hmac.new(self._key, head, hashlib.sha256).digest()[:16]


def renew(home: Home, found: object, shown: str, nonces: Nonces, where: Where, now_s: float) -> Granted:
    """A certificate for the new key of a device.

    Args:
        home: the hub's folder, opened.
        found: the request.
        shown: the name in the certificate of the connection, empty without one.
        nonces: the hub's.
        where: where boards find the hub.
        now_s: the hub's time.

    Raises:
        BadData: it is no request.
        SignatureError: the device's key did not sign it.
        HubError: it is not fresh, or of no device that may have one.
    """
    renewal, request = read_signed(found, Renewal)
    row = home.ledger.device(renewal.name)
    if row is None or row["revoked"] or renewal.fleet != home.config.fleet or shown not in ("", renewal.name):
        raise HubError("expected a device that is enrolled and not revoked, found another; ask who runs the fleet")
    check_signed(request, parse_public_key(row["key"], "device", "the ledger"), f"a renewal of {renewal.name}")
    if not nonces.is_fresh(renewal.nonce, now_s):
        raise HubError("expected a nonce of less than five minutes, found another one; ask for a new one")
    days = home.config.identity.certificate_days
    made = authority.issue_device(authority.load(home.folder), renewal.name, renewal.request.encode(), days)
    answer = granted(home, renewal.name, made, where, now_s)
    with home.ledger.transaction() as tx:
        put_device(tx, renewal.name, expires_at_s=answer.expires_at_s)
    return answer
