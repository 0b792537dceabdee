"""What checks look at: one board, its files read once, whole or not."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from console.errors import EdgequiltError
from console.toml import read_toml
from devices.payload.places import UNIT
from edge.config import Config, read_config
from edge.identity.record import Identity, read_identity
from edge.shelf import Shelf
from wire.broker import parse_broker
from wire.bundle import MANIFEST
from wire.files import read_bytes
from wire.https import parse_address
from wire.json_text import parse_json
from wire.manifest import LIMIT_BYTES, Plan, parse_manifest
from wire.token import TOKEN_LIMIT, Token, parse_token

STATUS_LIMIT_BYTES = 4 << 20


@dataclass(frozen=True)
class Address:
    """A place that the agent talks to; `what` it is, in words."""

    what: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.what} at {self.host}:{self.port}"


@dataclass(frozen=True)
class Board:
    """A board as its configuration names it.

    Attributes:
        path: of agent.toml.
        root: where proc and sys are.
        wall: the clock, seconds since 1970.
        unit: of systemd.
    """

    path: Path
    root: Path = Path("/")
    wall: Callable[[], float] = field(default=time.time)
    unit: str = UNIT

    @property
    def folder(self) -> Path:
        """Of agent.toml and, where it was claimed, of the identity."""
        return self.path.parent

    @cached_property
    def tables(self) -> dict[str, Any]:
        """The configuration as far as it is TOML."""
        with suppress(EdgequiltError):
            return read_toml(self.path)
        return {}

    @cached_property
    def config(self) -> Config | EdgequiltError:
        """The configuration, or what is wrong with it."""
        try:
            return read_config(self.path)
        except EdgequiltError as error:
            return error

    @cached_property
    def identity(self) -> Identity | None:
        """Who the board is, if it was claimed."""
        folder = self.config.device_key.parent if isinstance(self.config, Config) else self.folder
        with suppress(EdgequiltError):
            return read_identity(folder)
        return None

    @property
    def state(self) -> Path:
        """The state folder, also where the configuration is not whole."""
        if isinstance(self.config, Config):
            return self.config.state
        agent = self.tables.get("agent")
        named = agent.get("state") if isinstance(agent, dict) else None
        return self.folder / (named if isinstance(named, str) else "state")

    @cached_property
    def status(self) -> dict[str, Any]:
        """What the agent wrote last."""
        with suppress(EdgequiltError, ValueError):
            found = parse_json(read_bytes(self.state / "status.json", "a status", STATUS_LIMIT_BYTES), finite=False)
            return found if isinstance(found, dict) else {}
        return {}

    @cached_property
    def running(self) -> bool | None:
        """Whether an agent has the state folder; None: this user may not look."""
        try:
            with (self.state / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
        except BlockingIOError:
            return True
        except PermissionError:
            return None
        except OSError:
            return False

    @cached_property
    def token(self) -> Token | EdgequiltError | None:
        """The claim token that waits beside the configuration, or what is wrong with it; None: there is none."""
        claim = self.tables.get("claim")
        name = claim.get("token_file") if isinstance(claim, dict) else None
        if not isinstance(name, str) or not (self.folder / name).exists():
            return None
        try:
            return parse_token(read_bytes(self.folder / name, "a claim token", TOKEN_LIMIT).decode(errors="replace"))
        except EdgequiltError as error:
            return error

    @cached_property
    def addresses(self) -> list[Address]:
        """Whom the agent talks to: broker and hub; before it is claimed, the hub that its token names."""
        found = list[Address]()
        with suppress(EdgequiltError):
            if isinstance(self.config, Config):
                broker = parse_broker(self.config.broker.url)
                found.append(Address("the broker", broker.host, broker.port))
            named = self.identity.hub if self.identity is not None else ()
            if not named and isinstance(self.token, Token):
                named = self.token.addresses
            found += [Address("the hub", *parse_address(text)) for text in named]
        return found

    @cached_property
    def plan(self) -> Plan | None:
        """Of the bundle in use; its signature is the agent's business."""
        shelf = Shelf(self.state)
        folders = [shelf.folder(digest) for digest in (shelf.kept.current,) if digest]
        if isinstance(self.config, Config) and self.config.bundle is not None:
            folders.append(self.config.bundle)
        for folder in folders:
            with suppress(EdgequiltError):
                return parse_manifest(read_bytes(folder / MANIFEST, "a manifest", LIMIT_BYTES)).plan
        return None
