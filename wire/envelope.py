r"""The one signature envelope: exact bytes, key id, signature.

What is signed is `b"edgequilt/1/" + role + b"\0" + body`: a signature made in one role is worth nothing in
another. Messages carry the envelope as MessagePack; a bundle keeps body and envelope in two files, so that
the body stays readable.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from console.errors import SignatureError
from wire.json_text import parse_json
from wire.keys import PrivateKey, PublicKey, verify_raw
from wire.pack import pack, unpack

SCHEMA = 1


class Trust:
    """The public keys that are believed, by role."""

    def __init__(self, keys: Iterable[PublicKey] = ()) -> None:
        self._keys: dict[tuple[str, str], PublicKey] = {}
        for key in keys:
            self.add(key)

    def add(self, key: PublicKey) -> None:
        """Believe this key in its role."""
        self._keys[key.role, key.id] = key

    def drop(self, key: PublicKey) -> None:
        """Believe this key no more."""
        self._keys.pop((key.role, key.id), None)

    def ids(self, role: str) -> tuple[str, ...]:
        """The ids of the keys that are believed in a role, the longest believed first."""
        return tuple(key_id for of, key_id in self._keys if of == role)

    def check(self, role: str, key_id: str, signature: bytes, body: bytes, what: str) -> PublicKey:
        """The key that signed.

        Raises:
            SignatureError: no such key is trusted in this role, or the bytes are not those it signed.
        """
        key = self._keys.get((role, key_id))
        if key is None:
            raise SignatureError(
                f"expected {what} signed by a trusted {role} key, found key {key_id or '(none)'}; add "
                f"its .pub file to the trusted keys if you know it"
            )
        if not verify_raw(key, signature, _signed(role, body)):
            raise SignatureError(
                f"expected {what} as {key.name} signed it, found other bytes; fetch it again and do not use it"
            )
        return key


def seal(key: PrivateKey, body: bytes) -> bytes:
    """The envelope of a message, as MessagePack bytes."""
    return pack({"v": SCHEMA, "role": key.public.role, "key": key.public.id, "body": body, "sig": sign(key, body)})


def unseal(data: bytes, role: str, trust: Trust, what: str) -> tuple[bytes, PublicKey]:
    """Body and signer of an envelope.

    Raises:
        BadData: it is not MessagePack.
        SignatureError: it is no envelope, or its signature does not hold.
    """
    envelope = unpack(data, what)
    if not isinstance(envelope, dict) or envelope.get("v") != SCHEMA or not isinstance(envelope.get("body"), bytes):
        raise SignatureError(f"expected {what} in a version {SCHEMA} envelope, found something else; it was ignored")
    body, signature = envelope["body"], envelope.get("sig")
    if not isinstance(signature, bytes):
        raise SignatureError(f"expected {what} with a signature, found none; it was ignored")
    return body, trust.check(role, str(envelope.get("key", "")), signature, body, what)


def body_of(data: bytes, what: str) -> bytes:
    """The body of an envelope, whoever signed it.

    Raises:
        BadData, SignatureError: it is no envelope.
    """
    envelope = unpack(data, what)
    body = envelope.get("body") if isinstance(envelope, dict) else None
    if not isinstance(body, bytes):
        raise SignatureError(f"expected {what} in an envelope, found something else; it was ignored")
    return body


def detached(key: PrivateKey, body: bytes) -> bytes:
    """The envelope of a file whose bytes are kept beside it, as JSON."""
    record = {
        "v": SCHEMA,
        "role": key.public.role,
        "key": key.public.id,
        "sig": base64.b64encode(sign(key, body)).decode(),
    }
    return json.dumps(record, indent=1).encode() + b"\n"


def check_detached(envelope: bytes, body: bytes, role: str, trust: Trust, what: str) -> PublicKey:
    """The signer of a file with a detached envelope.

    Raises:
        SignatureError: it is no envelope, or its signature does not hold.
    """
    try:
        record = parse_json(envelope)
        key_id, signature = str(record["key"]), base64.b64decode(record["sig"], validate=True)
        canonical = base64.b64encode(signature).decode() == record["sig"]
        if record["v"] != SCHEMA or record["role"] != role or not canonical:
            raise ValueError(record["v"], record["role"])
    except (ValueError, KeyError, TypeError) as error:
        raise SignatureError(
            f"expected a version {SCHEMA} signature of {what}, found something else; fetch it again"
        ) from error
    return trust.check(role, key_id, signature, body, what)


def sign(key: PrivateKey, body: bytes) -> bytes:
    """64 bytes over the role and the body."""
    return key.sign_raw(_signed(key.public.role, body))


def _signed(role: str, body: bytes) -> bytes:
    return b"edgequilt/1/" + role.encode() + b"\0" + body
