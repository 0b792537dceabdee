"""What a board is told before its first start: agent.toml with a claim, and the token (docs/identity.md).

The first `agent run` claims the name that the token names, writes the rest of agent.toml, and removes the token.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from console.errors import UsageError
from console.toml_text import toml_text
from devices.payload.placed import Payload, Placed
from devices.payload.places import BUNDLE, CLAIM, CONFIG, DATA, HOME, STATE
from wire.token import Token, parse_token

HEAD = "# Written before this board's first start; its claim adds the rest. docs/agent.md has all entries.\n"
IDLE = {"load": 0.5}  # a board has something else to do: what it learns waits until it is idle (docs/agent.md)
SCHEMES = ("mqtts", "mqtt", "https")


@dataclass(frozen=True)
class Settings:
    """What a person chose for one board.

    Attributes:
        token: the claim token, one word.
        hub: where the board reaches the hub: `mqtts://HOST:PORT`, `https://HOST:PORT` or a host; None: the token says.
        profile: the kind of board.
        bundle: whether a bundle travels along.
        tables: further entries of agent.toml, by table.
    """

    token: str = field(repr=False)
    hub: str | None = None
    profile: str | None = None
    bundle: bool = False
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def settings_payload(settings: Settings) -> Payload:
    """agent.toml, the token (both 0600), and an empty folder for data.

    Raises:
        UsageError: the token is none, or `hub` is no address.
    """
    token = reached_at(parse_token(settings.token), settings.hub)
    files = (Placed(CONFIG, agent_toml(settings).encode(), 0o600), Placed(CLAIM, f"{token.text}\n".encode(), 0o600))
    return Payload(files, folders=((HOME, 0o755), (STATE, 0o700), (DATA, 0o755)))


def agent_toml(settings: Settings) -> str:
    """The text of agent.toml before the claim; paths are relative to its folder."""
    agent: dict[str, Any] = {"state": _below(STATE), "data": _below(DATA)}
    agent |= {"bundle": _below(BUNDLE)} if settings.bundle else {}
    agent |= {"profile": settings.profile} if settings.profile is not None else {}
    more = {name: dict(table) for name, table in settings.tables.items()}
    agent |= more.pop("agent", {})
    tables = {"claim": {"token_file": _below(CLAIM)}, "agent": agent, "idle": IDLE, **more}
    return toml_text(tables, HEAD)


def reached_at(token: Token, hub: str | None) -> Token:
    """The token with the hub's address as this board sees it before its own ones.

    A hub's HTTPS, where a board claims, has a port of its own: that of an `https://` address, or else the token's.
    Which broker the board speaks to is said by the hub when it claims; where the hub names no host, this one is used.

    Raises:
        UsageError: `hub` is no address.
    """
    if hub is None:
        return token
    host, port = _address(hub)
    ports = [str(port)] if port is not None else [address.rsplit(":", 1)[1] for address in token.addresses]
    first = [f"[{host}]:{p}" if ":" in host else f"{host}:{p}" for p in ports]
    return dataclasses.replace(token, addresses=tuple(dict.fromkeys([*first, *token.addresses])))


def _address(hub: str) -> tuple[str, int | None]:
    """Host, and the port of HTTPS where it is said.

    >>> _address("mqtts://hub.example:8883"), _address("https://[::1]:9443"), _address("hub.example")
    (('hub.example', None), ('::1', 9443), ('hub.example', None))
    """
    try:
        parts = urlsplit(hub if "://" in hub else f"mqtts://{hub}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or parts.scheme not in SCHEMES or parts.path.strip("/") or not re.fullmatch(r"[\w.:%-]+", host):
        raise UsageError(f"expected --hub as mqtts://HOST:PORT or https://HOST:PORT, found {hub!r}")
    return host, port if parts.scheme == "https" else None


def _below(path: str) -> str:
    return posixpath.relpath(path, HOME)
