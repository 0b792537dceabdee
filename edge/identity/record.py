"""identity.json: who this board is, until when, and where its hub is: all that the core must know, and no more."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.errors import BadData
from wire.files import read_bytes, write_atomic
from wire.json_text import parse_json
from wire.record import NAME, at_least, matching, plain, read_record

FILE = "identity.json"
LIMIT_BYTES = 65536


@dataclass(frozen=True)
class Identity:
    """identity.json; times in seconds since 1970, of the hub's clock.

    Attributes:
        fleet, name: of the device.
        hub: HOST:PORT of the hub's HTTPS, in the order in which they are tried.
        at_s: when the certificate was made.
        expires_at_s: when it runs out.
        token: the first digits of the SHA-256 of the token that was claimed.
    """

    fleet: str = field(metadata=matching(NAME))
    name: str = field(metadata=matching(NAME))
    hub: tuple[str, ...]
    at_s: float = field(metadata=at_least(0))
    expires_at_s: float = field(metadata=at_least(0))
    token: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def read_identity(folder: Path) -> Identity | None:
    """Who this board is; None before it has claimed to be anybody.

    Raises:
        BadData: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        found = parse_json(read_bytes(path, "an identity", LIMIT_BYTES))
    except ValueError as error:
        raise BadData(f"expected an identity as JSON in {path}, found something else; claim another one") from error
    return read_record(Identity, found, str(path))


def write_identity(folder: Path, identity: Identity) -> None:
    """Say who this board is.

    Raises:
        StorageError: it cannot be written.
    """
    write_atomic(folder / FILE, json.dumps(plain(identity), indent=1).encode() + b"\n")
