"""Renewing a certificate: a new key is made and kept, the hub is asked, certificate and key change at one instant.

Who asks is proven by the device's signing key and a nonce of the hub, so a board that was away until its certificate
ran out comes back by itself.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from console.errors import BadData, SignatureError, TransportError
from edge.identity.folder import CA, NEXT, TLS, alone, device_key, write_certificate
from edge.identity.hubs import first_answer
from edge.identity.record import Identity, read_identity, write_identity
from wire.clock import plausible
from wire.https import Server, get_json, post_json
from wire.identity import NONCE_PATH, RENEWAL_PATH, Granted, Renewal, read_granted, signed
from wire.keys import PrivateKey
from wire.tls import request_for


def hub_time(folder: Path) -> float:
    """The hub's time, in seconds since 1970.

    Raises:
        TransportError, Refused: the hub does not say.
    """
    known = _known(folder)
    found, _ = first_answer(known.hub, lambda host, port: _nonce(Server(host, port, folder / CA))[1])
    return found


def renew(folder: Path) -> Identity:
    """Get a certificate for a new key.

    Raises:
        TransportError: the hub cannot be reached now; try again.
        HubError: it refuses; this device may be revoked.
        SignatureError, StorageError: what it answered cannot be used or kept; nothing was changed.
    """
    with alone(folder, _known(folder).name):
        return _renew(folder, _known(folder))


def _renew(folder: Path, known: Identity) -> Identity:
    key = device_key(folder, known.name)
    request = request_for(known.name, folder / NEXT).decode()
    granted, _ = first_answer(known.hub, lambda host, port: _ask(folder, host, port, known, key, request))
    write_certificate(folder, granted)
    at = tuple(dict.fromkeys([*granted.web, *known.hub]))[:8]
    renewed = replace(known, hub=at, at_s=granted.at_s, expires_at_s=granted.expires_at_s)
    write_identity(folder, renewed)
    (folder / NEXT).unlink(missing_ok=True)
    return renewed


def _ask(folder: Path, host: str, port: int, known: Identity, key: PrivateKey, request: str) -> Granted:
    server = _server(folder, host, port)
    try:
        nonce, _ = _nonce(server)
    except TransportError:
        if server.certificate is None:
            raise
        server = Server(host, port, folder / CA)  # our certificate may have run out, whatever our clock says
        nonce, _ = _nonce(server)
    body = Renewal(known.fleet, known.name, nonce, request)
    granted = read_granted(post_json(server, RENEWAL_PATH, signed(key, body)))
    if (granted.fleet, granted.name) != (known.fleet, known.name):
        raise SignatureError(f"expected a certificate of {known.name}, found one of {granted.name}; it was not kept")
    return granted


def _server(folder: Path, host: str, port: int) -> Server:
    """With our certificate, while there is one."""
    path = folder / TLS
    return Server(host, port, folder / CA, path if path.exists() else None)


def _nonce(server: Server) -> tuple[str, float]:
    found = get_json(server, NONCE_PATH)
    nonce, at_s = found.get("nonce"), found.get("at_s")
    if not isinstance(nonce, str) or not isinstance(at_s, (int, float)) or not plausible(at_s):
        raise TransportError(f"expected a nonce and a time of the hub at {server.address}, found something else")
    return nonce, float(at_s)


def _known(folder: Path) -> Identity:
    known = read_identity(folder)
    if known is None:
        raise BadData(f"expected an identity in {folder}, found none; claim one")
    return known
