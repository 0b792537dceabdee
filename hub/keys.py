"""The hub's signing key: in its folder, or in a hardware module of which a file in its folder says where it is."""

from __future__ import annotations

from pathlib import Path

from console.errors import SignatureError
from hub.hardware import Hardware, hub_key, place_in
from wire.files import write_atomic
from wire.keys import PrivateKey, new_key, read_private_key, read_public_key, write_key


def make_key(folder: Path, stem: str, fleet: str, hardware: Hardware | None = None) -> None:
    """STEM.key (0600) and STEM.pub of a new hub.

    Raises:
        StorageError: they cannot be written.
        UsageError, SignatureError, MissingDependency: the hardware module cannot be used.
    """
    if hardware is None:
        write_key(new_key("hub", stem), folder)
        return
    place = hardware.at(f"edgequilt {fleet} hub")
    key = hub_key(place, stem, make=True)
    write_atomic(folder / f"{stem}.key", f"edgequilt-hub {stem}\n{place.uri}\n".encode(), mode=0o600)
    write_atomic(folder / f"{stem}.pub", key.public.line.encode() + b"\n")


def read_key(folder: Path, stem: str) -> PrivateKey:
    """The key.

    Raises:
        StorageError: it cannot be read.
        UsageError, SignatureError, MissingDependency: it is none, not reached, or not the one of STEM.pub.
    """
    path = folder / f"{stem}.key"
    place = place_in(path)
    if place is None:
        return read_private_key(path)
    key = hub_key(place, stem)
    if read_public_key(folder / f"{stem}.pub", "hub").raw != key.public.raw:
        raise SignatureError(
            f"expected the key of {folder / f'{stem}.pub'} on the token {place.token!r}, found another of that name; "
            f"use the token that the hub was made with"
        )
    return key
