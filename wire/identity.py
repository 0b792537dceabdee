"""What a board and its hub say to each other over HTTPS about who the board is (docs/identity.md).

A request is JSON: the exact text that the device's key signed, and the signature. So whoever claims or renews shows
that it holds the device's signing key; that it holds the TLS key, the signing request in it shows.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from console.errors import BadData
from wire.envelope import Trust, sign
from wire.json_text import parse_json
from wire.keys import PrivateKey, PublicKey
from wire.record import NAME, at_least, matching, plain, read_record

SCHEMA = 1
CLAIM_PATH, NONCE_PATH, RENEWAL_PATH = "/1/claim", "/1/nonce", "/1/renewal"
SECRET = r"[0-9a-f]{32}"  # noqa: S105  # what a secret looks like, not one
Body = TypeVar("Body", "Claim", "Renewal")


@dataclass(frozen=True)
class Claim:
    """A board that holds a token asks to become the device that it names."""

    TYPE = "claim"

    fleet: str = field(metadata=matching(NAME))
    name: str = field(metadata=matching(NAME))
    secret: str = field(metadata=matching(SECRET), repr=False)  # of the token, hexadecimal
    key: str  # the line of its .pub file
    request: str  # PKCS#10, PEM
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Renewal:
    """A device asks for a certificate of a new key."""

    TYPE = "renewal"

    fleet: str = field(metadata=matching(NAME))
    name: str = field(metadata=matching(NAME))
    nonce: str  # of `GET /1/nonce`, less than five minutes old
    request: str  # PKCS#10, PEM
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BrokerAt:
    """Where a device finds the broker; an empty host: where it found the hub."""

    tls: bool
    host: str
    port: int = field(metadata=at_least(1, 65535))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Granted:
    """The answer to both: who the device is now, and all whom it should believe.

    Attributes:
        fleet, name: of the device.
        certificate: for the key of the request, PEM.
        ca: all authorities that the hub trusts, PEM.
        hub: the line of the hub's .pub file.
        publishers: the lines of those whose bundles the hub takes.
        broker: where messages go.
        web: HOST:PORT of the hub's HTTPS.
        at_s: the hub's time, seconds since 1970.
        expires_at_s: when the certificate runs out.
    """

    fleet: str = field(metadata=matching(NAME))
    name: str = field(metadata=matching(NAME))
    certificate: str
    ca: str
    hub: str
    publishers: tuple[str, ...]
    broker: BrokerAt
    web: tuple[str, ...]
    at_s: float = field(metadata=at_least(0))
    expires_at_s: float = field(metadata=at_least(0))
    extra: dict[str, Any] = field(default_factory=dict)


def signed(key: PrivateKey, body: Claim | Renewal) -> dict[str, Any]:
    """The request, as JSON will carry it."""
    text = json.dumps({"type": body.TYPE, **plain(body)})
    return {"v": SCHEMA, "body": text, "sig": base64.b64encode(sign(key, text.encode())).decode()}


def read_signed(found: object, kind: type[Body]) -> tuple[Body, Mapping[str, Any]]:
    """The body of a request, whose signature is not looked at yet (`check_signed`), and the request.

    Raises:
        BadData: it is none.
    """
    what = f"a {kind.TYPE}"
    if not isinstance(found, dict) or found.get("v") != SCHEMA or not isinstance(found.get("body"), str):
        raise BadData(f"expected {what} of version {SCHEMA}, found something else; use the same edgequilt as the hub")
    try:
        fields = parse_json(found["body"])
    except ValueError as error:
        raise BadData(f"expected {what} as JSON, found something else") from error
    if not isinstance(fields, dict) or fields.pop("type", None) != kind.TYPE:
        raise BadData(f"expected {what}, found a request of another kind")
    return read_record(kind, fields, what), found


def check_signed(found: Mapping[str, Any], key: PublicKey, what: str) -> None:
    """See that a device's key signed the request.

    Raises:
        SignatureError: it did not.
    """
    try:
        signature = base64.b64decode(str(found.get("sig", "")), validate=True)
    except (ValueError, binascii.Error):
        signature = b""
    Trust([key]).check("device", key.id, signature, found["body"].encode(), what)


def read_granted(found: object) -> Granted:
    """The hub's answer.

    Raises:
        BadData: it is none.
    """
    return read_record(Granted, found, "the hub's answer")
