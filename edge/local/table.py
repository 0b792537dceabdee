"""The table `[local]` of agent.toml, and what it means (docs/local-api.md)."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from wire.record import at_least, matching

SOCKET = "agent.sock"
TOKEN = "local-token"  # noqa: S105  # the name of a file
RUNTIME = "RUNTIME_DIRECTORY"  # systemd's word for its RuntimeDirectory=


@dataclass(frozen=True)
class LocalTable:
    """As it is written.

    Attributes:
        socket: where programs on the board ask; None: see `listening`; empty: nowhere.
        mode: of the socket: who may.
        http: host and port of loopback on which they may ask as well; empty: on none.
        token_file: the secret that is asked for there; made if it is not there.
        idle_s: the process that answers ends after so many seconds without a request.
        deadline_s: what takes longer is given up.
    """

    socket: str | None = None
    mode: str = field(default="0660", metadata=matching(r"0?[0-7]{3}"))
    http: str = ""
    token_file: str = TOKEN
    idle_s: float = field(default=300.0, metadata=at_least(0))
    deadline_s: float = field(default=30.0, metadata=at_least(0.1, 3600))


@dataclass(frozen=True)
class Local:
    """Where the agent listens for programs on its own board."""

    socket: Path | None = None
    mode: int = 0o660
    http: tuple[str, int] | None = None
    token_file: Path = Path(TOKEN)
    idle_s: float = 300.0
    deadline_s: float = 30.0
    named: bool = False  # whether somebody chose the place: then it must be there


def listening(table: LocalTable | None, root: Path, state: Path, problems: list[str]) -> Local:
    """What a table means: without one, a socket where systemd has made a folder for it, or in the state folder.

    Args:
        table: of agent.toml.
        root: its folder.
        state: the agent's.
        problems: what is wrong is added.
    """
    table = table or LocalTable()
    usual = Path(os.environ.get(RUNTIME, "").partition(":")[0] or state) / SOCKET
    socket = usual if table.socket is None else root / table.socket if table.socket else None
    http, named = None, bool(table.socket or table.http)
    if table.http:
        http = _loopback(table.http)
        if http is None:
            problems.append(
                f"local.http: expected an address of this board alone, like 127.0.0.1:8427, found {table.http[:80]!r}"
            )
    return Local(socket, int(table.mode, 8), http, root / table.token_file, table.idle_s, table.deadline_s, named)


def _loopback(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    good = address.is_loopback and port.isdecimal() and 0 < int(port) < 1 << 16
    return (str(address), int(port)) if good else None
