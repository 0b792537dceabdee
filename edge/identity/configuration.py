"""`agent.toml` as a claim writes it: what was there stays, what the hub said is set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from console.toml import read_toml
from console.toml_text import toml_text
from edge.identity.folder import CA, HUB, TLS
from wire.files import write_atomic
from wire.identity import Granted

HEAD = (
    "# Written by edgequilt when this board claimed its name; docs/agent.md has all entries. Comments are not kept.\n"
)
USUAL = {"state": "state", "data": "data"}


@dataclass(frozen=True)
class Wishes:
    """What a person chose; None: as it is, or as usual."""

    bundle: Path | None = None
    data: Path | None = None


def write_configuration(path: Path, granted: Granted, host: str, publishers: tuple[str, ...], wishes: Wishes) -> None:
    """Write it, whole or not at all.

    Args:
        path: of agent.toml.
        granted: the hub's answer.
        host: under which the hub was reached.
        publishers: files of publishers' keys, relative to the folder.
        wishes: what a person chose.

    Raises:
        StorageError, BadData: it cannot be written, or what is there cannot be read.
    """
    found = read_toml(path) if path.exists() else {}
    agent = {"name": granted.name, "fleet": granted.fleet, **USUAL, **found.get("agent", {})}
    agent |= {"name": granted.name, "fleet": granted.fleet}
    agent |= {k: _below(path.parent, v) for k, v in (("bundle", wishes.bundle), ("data", wishes.data)) if v is not None}
    broker = granted.broker
    at = broker.host or host
    url = f"{'mqtts' if broker.tls else 'mqtt'}://{f'[{at}]' if ':' in at else at}:{broker.port}"
    files = {"ca": CA, "certificate": TLS, "key": TLS} if broker.tls else {}
    tables = {
        **{name: table for name, table in found.items() if name not in ("agent", "broker", "keys")},
        "agent": agent,
        "broker": {"url": url, **files},
        "keys": {"device": f"{granted.name}.key", "hub": HUB, "publisher": list(publishers)},
    }
    write_atomic(path, toml_text(tables, HEAD).encode())


def _below(folder: Path, path: Path) -> str:
    """A path as agent.toml has it: relative to its folder where it is inside."""
    whole, root = path.resolve(), folder.resolve()
    return os.fspath(whole.relative_to(root) if whole.is_relative_to(root) else whole)
