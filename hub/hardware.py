"""Keys in a hardware module: the one door to PKCS#11.

In place of a key, `hub.key` and `ca.key` then hold where it is, as a PKCS#11 URI (RFC 7512) with module-path and, if
the PIN is in a file, pin-source; else the PIN is in the environment variable EDGEQUILT_PKCS11_PIN. What is signed and
how it looks is the same as with keys in files: Ed25519 (RFC 8032) for messages, ECDSA P-256 for certificates.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from cryptography.hazmat.primitives.asymmetric import ec, utils

from console.errors import MissingDependency, SignatureError, StorageError, UsageError
from wire.files import read_bytes
from wire.keys import PrivateKey, PublicKey

PIN = "EDGEQUILT_PKCS11_PIN"
PIN_LIMIT_BYTES = 256
ED25519 = bytes.fromhex("06032b6570")  # OBJECT IDENTIFIER 1.3.101.112 (RFC 8410), DER
SCHEME = "pkcs11:"
_POINT_HEAD = {32: b"\x04\x20", 65: b"\x04\x41"}  # DER of an OCTET STRING of so many bytes
Found = TypeVar("Found")
_sessions: dict[tuple[str, str], Any] = {}  # by module and token: a process logs in once
_lock = threading.Lock()  # a session belongs to one call at a time (PKCS#11 2.40, section 5.1.5)


@dataclass(frozen=True)
class Place:
    """Where a key is.

    Attributes:
        module: the library of the module's maker.
        token: its label.
        label: of the key.
        pin_file: holds the PIN; none: it is in the environment.
    """

    module: str
    token: str
    label: str
    pin_file: str = ""

    @property
    def uri(self) -> str:
        """As RFC 7512 writes it."""
        pin = f"&pin-source=file:{quote(self.pin_file)}" if self.pin_file else ""
        path = f"token={quote(self.token, safe='')};object={quote(self.label, safe='')};type=private"
        return f"{SCHEME}{path}?module-path={quote(self.module)}{pin}"


@dataclass(frozen=True)
class Hardware:
    """A token of a module, before a key is named; `pin_file` as in Place."""

    module: Path
    token: str
    pin_file: Path | None = None

    def at(self, label: str) -> Place:
        """The place of a key."""
        pin = "" if self.pin_file is None else str(self.pin_file.resolve())
        return Place(str(self.module.resolve()), self.token, label, pin)


def parse_uri(text: str, where: str) -> Place:
    """Read what stands in place of a key.

    >>> parse_uri(Place("/lib/x.so", "my fleet", "hub", "/run/pin").uri, "a file")
    Place(module='/lib/x.so', token='my fleet', label='hub', pin_file='/run/pin')

    Raises:
        SignatureError: it is no such URI, or lacks what we need.
    """
    path, _, query = text.strip().removeprefix(SCHEME).partition("?")
    parts = [part.partition("=") for part in (*path.split(";"), *query.split("&"))]
    told = {name: unquote(value) for name, _, value in parts}
    needed = [told.get(name, "") for name in ("module-path", "token", "object")]
    if not text.startswith(SCHEME) or not all(needed) or "pin-value" in told:
        raise SignatureError(
            f"expected a PKCS#11 URI with token, object and module-path and without pin-value in {where}, found "
            "something else; restore the file, or make another hub with --pkcs11"
        )
    module, token, label = needed
    return Place(module, token, label, told.get("pin-source", "").removeprefix("file:"))


def place_in(path: Path) -> Place | None:
    """Where a key file says that its key is; None if it holds a key, or is not there."""
    if not path.is_file():
        return None
    text = read_bytes(path, "a key", 1 << 16).decode(errors="replace")
    found = re.search(rf"^{SCHEME}.*$", text, re.MULTILINE)
    return None if found is None else parse_uri(found.group(), str(path))


# ------------------------------------------------------------------------------------------------- keys


@dataclass(frozen=True)
class HubSigner:
    """What signs as a private key in a file does."""

    _place: Place

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return _do(self._place, lambda session, p11: _signed(session, p11, self._place.label, data, "EDDSA"))


class AuthorityKey(ec.EllipticCurvePrivateKey):
    """A P-256 key whose private half nobody sees; cryptography's builders of certificates take it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        point = _do(place, lambda session, p11: _point(session, p11, place.label, 65))
        self._public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)

    def __repr__(self) -> str:
        return f"AuthorityKey({self._place.token}, {self._place.label})"

    def __copy__(self) -> AuthorityKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> AuthorityKey:
        return self

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return ec.SECP256R1()

    @property
    def key_size(self) -> int:
        """Bits."""
        return 256

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """What everybody may know."""
        return self._public

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ECDSA over SHA-256 of the data, as DER (RFC 3279, section 2.2.3)."""
        hashed = hashlib.sha256(bytes(data)).digest()
        raw = _do(self._place, lambda session, p11: _signed(session, p11, self._place.label, hashed, "ECDSA"))
        half = len(raw) // 2
        return utils.encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """Not what an authority is for."""
        raise NotImplementedError

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        """Nobody has them."""
        raise NotImplementedError

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> bytes:  # noqa: A002  # as its base
        """Nobody has them."""
        raise NotImplementedError


def hub_key(place: Place, name: str, *, make: bool = False) -> PrivateKey:
    """The hub's signing key; made, if the module has none of that label, where that is asked for.

    Raises:
        MissingDependency, SignatureError, StorageError: see `_do`.
    """
    if make:
        _do(place, lambda session, p11: _make(session, p11, place.label, "EC_EDWARDS", ED25519))
    raw = _do(place, lambda session, p11: _point(session, p11, place.label, 32))
    return PrivateKey(PublicKey("hub", raw, name), HubSigner(place))


def new_authority_key(place: Place) -> AuthorityKey:
    """The key of a fleet's authority, made if the module has none of that label.

    Raises:
        MissingDependency, SignatureError, StorageError: see `_do`.
    """
    from pkcs11.util.ec import encode_named_curve_parameters

    curve = encode_named_curve_parameters("secp256r1")
    _do(place, lambda session, p11: _make(session, p11, place.label, "EC", curve))
    return AuthorityKey(place)


# ------------------------------------------------------------------------------------------------- module


def _make(session: Any, p11: Any, label: str, kind: str, curve: bytes) -> None:
    """A key that cannot be taken out, unless there is one of that label."""
    wanted = {p11.Attribute.CLASS: p11.ObjectClass.PRIVATE_KEY, p11.Attribute.LABEL: label}
    if list(session.get_objects(wanted)):
        return
    parameters = session.create_domain_parameters(p11.KeyType[kind], {p11.Attribute.EC_PARAMS: curve}, local=True)
    mechanism = p11.Mechanism[f"{kind}_KEY_PAIR_GEN"]
    parameters.generate_keypair(mechanism=mechanism, store=True, label=label)


def _point(session: Any, p11: Any, label: str, size: int) -> bytes:
    public = session.get_key(object_class=p11.ObjectClass.PUBLIC_KEY, label=label)
    point = bytes(public[p11.Attribute.EC_POINT])
    head = _POINT_HEAD[size]
    return point[len(head) :] if len(point) == size + len(head) and point.startswith(head) else point


def _signed(session: Any, p11: Any, label: str, data: bytes, mechanism: str) -> bytes:
    key = session.get_key(object_class=p11.ObjectClass.PRIVATE_KEY, label=label)
    return bytes(key.sign(data, mechanism=p11.Mechanism[mechanism]))


def _do(place: Place, what: Callable[[Any, Any], Found]) -> Found:
    """Something with an open session, one call at a time.

    Raises:
        MissingDependency: python-pkcs11 is not installed.
        SignatureError: module, token, key or PIN are not there or do not fit.
    """
    try:
        import pkcs11
    except ImportError as error:
        raise MissingDependency(
            "expected python-pkcs11 for keys in a hardware module, found none; pip install 'edgequilt[pkcs11]'"
        ) from error
    at = (place.module, place.token)
    with _lock:
        try:
            if at not in _sessions:
                token = pkcs11.lib(place.module).get_token(token_label=place.token)
                _sessions[at] = token.open(rw=True, user_pin=_pin(place))
            return what(_sessions[at], pkcs11)
        except (pkcs11.PKCS11Error, RuntimeError, OSError, KeyError, ValueError) as error:
            _end(at)  # a module that was pulled out is asked anew
            raise SignatureError(
                f"expected the key {place.label!r} on the token {place.token!r} of {place.module}, the module said: "
                f"{type(error).__name__}; check that it is plugged in, and its PIN ({PIN} or --pin-file)"
            ) from error


def log_out() -> None:
    """End all sessions: the next use of a key asks for the PIN again."""
    with _lock:
        for at in list(_sessions):
            _end(at)


def _end(at: tuple[str, str]) -> None:
    session = _sessions.pop(at, None)
    if session is not None:
        with contextlib.suppress(Exception):  # of a module that is gone
            session.close()


def _pin(place: Place) -> str:
    if place.pin_file:
        path = Path(place.pin_file)
        try:
            if path.stat().st_mode & 0o077:
                raise UsageError(f"expected the PIN in {path} to be its owner's alone, found others; chmod 600 {path}")
        except OSError as error:
            raise StorageError(f"expected a PIN in {path}, found none to read ({error.strerror})") from error
        return read_bytes(path, "a PIN", PIN_LIMIT_BYTES).decode(errors="replace").strip()
    pin = os.environ.get(PIN, "")
    if not pin:
        raise UsageError(f"expected the PIN of the token {place.token!r} in {PIN}, found none; or use --pin-file")
    return pin
