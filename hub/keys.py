"""The hub's signing key: in its folder, or in a hardware module of which a file in its folder says where it is."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from console.errors import SignatureError, StorageError
from hub.hardware import Hardware, hub_key, place_in
from wire.files import read_bytes, sync_folder, write_atomic
from wire.keys import KEY_FILE_LIMIT_BYTES, PrivateKey, new_key, read_private_key, read_public_key, write_key


def make_key(folder: Path, stem: str, fleet: str, hardware: Hardware | None = None) -> None:
    """A new key: STEM.key (0600) and STEM.pub.

    Raises:
        StorageError: they cannot be written.
        UsageError, SignatureError, MissingDependency: the hardware module cannot be used.
    """
    if hardware is None:
        write_key(new_key("hub", stem), folder)
        return
    place = hardware.at(f"edgequilt {fleet} {stem}")
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


def beside(folder: Path, stem: str) -> Hardware | None:
    """Where another key like STEM.key is to be: in the same module; None: in a file, too.

    Raises:
        StorageError, SignatureError: it cannot be read.
    """
    place = place_in(folder / f"{stem}.key")
    if place is None:
        return None
    return Hardware(Path(place.module), place.token, Path(place.pin_file) if place.pin_file else None)


def put_in_place(folder: Path, stem: str, heir: str) -> None:
    """HEIR.key and HEIR.pub become STEM.key and STEM.pub; the key before is gone.

    Killed at any instant, `settle` ends it: with STEM.pub it has begun.

    Raises:
        StorageError: they cannot be read or written.
    """
    write_atomic(folder / f"{stem}.pub", read_bytes(folder / f"{heir}.pub", "a public key", KEY_FILE_LIMIT_BYTES))
    settle(folder, stem)


def settle(folder: Path, stem: str) -> None:
    """End a change of keys that was cut off.

    Raises:
        StorageError: the folder cannot be written.
    """
    public = folder / f"{stem}.pub"
    for heir in sorted(folder.glob(f"{stem}-*.pub")) if public.is_file() else ():
        if heir.read_bytes() != public.read_bytes():
            continue
        try:
            with suppress(FileNotFoundError):  # done already, but for the rest
                heir.with_suffix(".key").replace(folder / f"{stem}.key")
            sync_folder(folder)
            heir.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"expected to put {heir.stem}.key in the place of {stem}.key in {folder}, but it cannot be written "
                f"({error.strerror}); mend that and start again"
            ) from error


def newer(folder: Path, stem: str, known: PrivateKey) -> PrivateKey | None:
    """The key, where it is another one by now.

    Raises:
        StorageError, UsageError, SignatureError, MissingDependency: as `read_key`.
    """
    if read_public_key(folder / f"{stem}.pub", "hub").raw == known.public.raw:
        return None
    found = read_key(folder, stem)
    return None if found.public.raw == known.public.raw else found
