"""Claim tokens: one word with which a board that knows nothing finds its hub, believes it and is believed once.

`eqc1.` and base64url without padding of MessagePack `[addresses, fleet, name, secret, fingerprint]` and the first four
bytes of its SHA-256, which tell a word that was copied badly. docs/identity.md has the fields.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass, field

from console.errors import BadData, UsageError
from wire.pack import pack, unpack
from wire.record import NAME

PREFIX = "eqc1."
SECRET_BYTES, FINGERPRINT_BYTES, CHECK_BYTES = 16, 32, 4
TOKEN_LIMIT = 4096


@dataclass(frozen=True)
class Token:
    """What a token says; its secret appears in no repr.

    Attributes:
        addresses: HOST:PORT of the hub's HTTPS, to be tried in this order.
        fleet: the fleet's name.
        name: what the device will be called.
        secret: 128 random bits.
        fingerprint: SHA-256 of the fleet's authority, hexadecimal.
    """

    addresses: tuple[str, ...]
    fleet: str
    name: str
    secret: bytes = field(repr=False)
    fingerprint: str

    @property
    def text(self) -> str:
        """The word."""
        fields = [list(self.addresses), self.fleet, self.name, self.secret, bytes.fromhex(self.fingerprint)]
        body = pack(fields)
        return PREFIX + base64.urlsafe_b64encode(body + _check(body)).decode().rstrip("=")


def new_secret() -> bytes:
    """A secret that nobody guesses."""
    return secrets.token_bytes(SECRET_BYTES)


def parse_token(text: str) -> Token:
    """Read a token; blanks around it do no harm.

    Raises:
        UsageError: it is none, or it was copied badly. The token is not repeated.
    """
    word = "".join(text.split()) if len(text) <= TOKEN_LIMIT else ""
    try:
        if not word.startswith(PREFIX):
            raise ValueError("prefix")
        encoded = word[len(PREFIX) :]
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        body, check = data[:-CHECK_BYTES], data[-CHECK_BYTES:]
        if check != _check(body):
            raise ValueError("check")
        return _token(unpack(body, "a claim token"))
    except (ValueError, binascii.Error, BadData) as error:
        raise UsageError(
            f"expected a claim token, one word that begins with {PREFIX}, found something else or a word that lacks a "
            f"letter; copy the whole line that `edgequilt hub enroll NAME` printed"
        ) from error


def _token(fields: object) -> Token:
    """ValueError if these are no fields of a token."""
    if not isinstance(fields, list) or len(fields) != 5:
        raise ValueError("fields")
    addresses, fleet, name, secret, fingerprint = fields
    texts = addresses if isinstance(addresses, list) else []
    if not texts or not all(isinstance(a, str) and a for a in texts):
        raise ValueError("addresses")
    if not all(isinstance(word, str) and re.fullmatch(NAME, word) for word in (fleet, name)):
        raise ValueError("names")
    sized = ((secret, SECRET_BYTES), (fingerprint, FINGERPRINT_BYTES))
    if not all(isinstance(value, bytes) and len(value) == size for value, size in sized):
        raise ValueError("sizes")
    return Token(tuple(texts), fleet, name, secret, fingerprint.hex())


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:CHECK_BYTES]
