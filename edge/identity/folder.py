"""The files that make a board a device: in one folder, each whole or not there, the last one says that all are.

| file | what |
|---|---|
| `NAME.key`, `NAME.pub` | the device's signing key (0600), made here, and its public half |
| `tls-next.key` | the TLS key that a certificate is being asked for (0600) |
| `tls.pem` | the certificate and its key in one file (0600), so that both change at one instant |
| `ca.pem`, `hub.pub`, `publishers/` | whom to believe |
| `identity.json` | who the device is, until when, and where its hub is |
"""

from __future__ import annotations

import fcntl
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from console.errors import SignatureError, StorageError
from edge.identity.record import FILE
from wire.files import read_bytes, write_atomic
from wire.identity import Granted
from wire.keys import PrivateKey, new_key, parse_public_key, read_private_key, write_key
from wire.tls import KEY_LIMIT_BYTES, client_context

CA, HUB, TLS, NEXT, PUBLISHERS = "ca.pem", "hub.pub", "tls.pem", "tls-next.key", "publishers"
TRIAL, LOCK = "tls.pem.new", "identity.lock"


@contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Change the files of an identity, one process at a time; what a killed one left half-written is removed.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise StorageError(
            f"expected a folder for an identity at {folder}, but it cannot be written ({error.strerror}); choose "
            f"another one"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ours = (FILE, CA, HUB, TLS, TRIAL, NEXT, "agent.toml", f"{name}.key", f"{name}.pub")
        halves = [path for file in ours for path in folder.glob(f".{file}.*")]
        for path in (*halves, *(folder / PUBLISHERS).glob(".*.pub.*"), folder / TRIAL):
            path.unlink(missing_ok=True)
        yield


def device_key(folder: Path, name: str) -> PrivateKey:
    """The signing key of the device, made and kept if there is none.

    Raises:
        StorageError, SignatureError: it cannot be read or written.
    """
    path = folder / f"{name}.key"
    if not path.exists():
        write_key(new_key("device", name), folder)
    key = read_private_key(path)
    public = folder / f"{name}.pub"
    if not public.exists():  # power went away between the two files
        write_atomic(public, key.public.line.encode() + b"\n")
    return key


def write_certificate(folder: Path, granted: Granted) -> None:
    """Keep whom to believe, then switch to the new certificate and its key at one instant.

    Raises:
        SignatureError: the certificate is not for our key, or not by an authority that the hub trusts.
        StorageError: something cannot be written.
    """
    key = read_bytes(folder / NEXT, "the new TLS key", KEY_LIMIT_BYTES)
    pair = granted.certificate.encode() + key
    trial = folder / TRIAL
    write_atomic(trial, pair, mode=0o600)
    try:
        client_context(granted.ca, trial)
    except (OSError, ValueError) as error:  # ssl.SSLError among the former
        reason = error.reason if isinstance(error, ssl.SSLError) else str(error)
        raise SignatureError(
            f"expected a certificate for our key and the authorities of the fleet, found others ({reason}); nothing "
            f"was changed"
        ) from error
    finally:
        trial.unlink(missing_ok=True)
    write_atomic(folder / CA, granted.ca.encode())
    write_atomic(folder / TLS, pair, mode=0o600)


def write_believed(folder: Path, granted: Granted) -> tuple[str, ...]:
    """Keep the keys of hub and publishers; returns the names of the latter's files.

    Raises:
        SignatureError: a line is no key.
        StorageError: something cannot be written.
    """
    keys = [parse_public_key(line, "publisher", "the hub's answer") for line in granted.publishers]
    hub = parse_public_key(granted.hub, "hub", "the hub's answer")
    write_atomic(folder / HUB, hub.line.encode() + b"\n")
    for key in keys:
        write_atomic(folder / PUBLISHERS / f"{key.id}.pub", key.line.encode() + b"\n")
    return tuple(f"{PUBLISHERS}/{key.id}.pub" for key in keys)
