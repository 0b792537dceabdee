"""Claiming: keys are made and kept, the hub is asked, what it grants is kept, and `agent.toml` is written last.

Killed at any instant it is begun anew with the same keys, and the hub gives the same answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from console.errors import SignatureError, UsageError
from edge.identity.configuration import Wishes, write_configuration
from edge.identity.folder import NEXT, alone, device_key, write_believed, write_certificate
from edge.identity.hubs import first_answer
from edge.identity.record import Identity, read_identity, write_identity
from wire.https import Server, fetch_authority, post_json
from wire.identity import CLAIM_PATH, Claim, Granted, read_granted, signed
from wire.keys import PrivateKey
from wire.tls import request_for
from wire.token import Token


@dataclass(frozen=True)
class Claimed:
    """Who this board is now, and where that is written."""

    identity: Identity
    config: Path
    anew: bool  # whether the hub was asked


def claim(token: Token, folder: Path, wishes: Wishes, hub: str | None = None) -> Claimed:
    """Become the device that a token names.

    Args:
        token: as the hub made it.
        folder: for keys, certificates and `agent.toml`.
        wishes: what the configuration should say beside that.
        hub: HOST:PORT to ask instead of the token's.

    Raises:
        UsageError: another device lives in the folder.
        TransportError: the hub cannot be reached now; try again.
        HubError: it refuses the token.
        SignatureError: who answers is not the hub of the token.
        StorageError: the folder cannot be written.
    """
    with alone(folder, token.name):
        return _claim(token, folder, wishes, hub)


def _claim(token: Token, folder: Path, wishes: Wishes, hub: str | None) -> Claimed:
    mark = hashlib.sha256(token.text.encode()).hexdigest()[:16]
    known = read_identity(folder)
    if known is not None and (known.fleet, known.name) != (token.fleet, token.name):
        raise UsageError(
            f"expected no other device in {folder}, found {known.name} of {known.fleet}; choose another folder, or "
            f"remove this one"
        )
    config = folder / "agent.toml"
    if known is not None and known.token == mark:
        (folder / NEXT).unlink(missing_ok=True)  # power went away before this last step
        return Claimed(known, config, False)
    key = device_key(folder, token.name)
    request = request_for(token.name, folder / NEXT).decode()
    body = Claim(token.fleet, token.name, token.secret.hex(), key.public.line, request)
    addresses = (hub,) if hub is not None else token.addresses
    granted, host = first_answer(addresses, lambda host, port: _ask(host, port, token, key, body))
    write_certificate(folder, granted)
    publishers = write_believed(folder, granted)
    write_configuration(config, granted, host, publishers, wishes)
    at = tuple(dict.fromkeys([*addresses, *granted.web]))
    identity = Identity(granted.fleet, granted.name, at, granted.at_s, granted.expires_at_s, mark)
    write_identity(folder, identity)
    (folder / NEXT).unlink(missing_ok=True)
    return Claimed(identity, config, True)


def _ask(host: str, port: int, token: Token, key: PrivateKey, body: Claim) -> Granted:
    ca = fetch_authority(host, port, token.fingerprint)  # before anything secret is said
    granted = read_granted(post_json(Server(host, port, ca), CLAIM_PATH, signed(key, body)))
    if (granted.fleet, granted.name) != (token.fleet, token.name):
        raise SignatureError(
            f"expected to become {token.name} of {token.fleet}, found {granted.name}; nothing was kept"
        )
    return granted
