"""agent.toml: what an agent is told about itself (docs/agent.md)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from console.errors import BadData, UsageError, join
from console.toml import read_toml
from edge.data.row import KEPT_BACK
from edge.idle.settings import Idle, wrong_hours
from edge.local.table import Local, LocalTable, listening
from edge.split.table import SEATS, Door, SplitTable, door
from edge.standing import STALE_S
from wire.broker import Protocol
from wire.files import is_file, is_folder
from wire.record import NAME, at_least, matching, read_record

CACHE_BYTES = 256 << 20  # of activations that a bundle whose trunk is apart keeps
OUTBOX_BYTES = 64 << 20  # of updates that wait for their receipts


@dataclass(frozen=True)
class AgentTable:
    """The table `[agent]`."""

    name: str = field(metadata=matching(NAME))
    fleet: str = field(metadata=matching(NAME))
    state: str
    data: str
    bundle: str | None = None
    profile: str = ""
    holdout: float = field(default=KEPT_BACK, metadata=at_least(0, 0.9))
    threads: int = field(default=1, metadata=at_least(1, 256))
    worker_idle_s: float = field(default=20.0, metadata=at_least(0))
    budget: int | None = field(default=None, metadata=at_least(1))
    cache: int = field(default=CACHE_BYTES, metadata=at_least(0))
    outbox: int = field(default=OUTBOX_BYTES, metadata=at_least(1))
    take_part: bool = True
    only_secure: bool = False
    providers: tuple[str, ...] = ()
    stale_s: float = field(default=STALE_S, metadata=at_least(60))


@dataclass(frozen=True)
class BrokerTable:
    """The table `[broker]`."""

    url: str
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    protocol: Protocol = "auto"  # of MQTT


@dataclass(frozen=True)
class KeysTable:
    """The table `[keys]`."""

    device: str
    hub: Any
    publisher: Any
    peers: Any = None


@dataclass(frozen=True)
class ClaimTable:
    """The table `[claim]`, which is done with when the others are there (edge.identity.first)."""

    token_file: str


@dataclass(frozen=True)
class _File:
    agent: AgentTable
    broker: BrokerTable
    keys: KeysTable
    claim: ClaimTable | None = None
    idle: Idle | None = None
    local: LocalTable | None = None
    split: SplitTable | None = None


@dataclass(frozen=True)
class Config:
    """The checked configuration; all paths are absolute or relative to the working folder."""

    name: str
    fleet: str
    bundle: Path | None  # to begin with; None: the hub names one
    state: Path
    data: Path
    holdout: float
    threads: int
    worker_idle_s: float
    budget_bytes: int | None
    broker: BrokerTable
    device_key: Path
    hub_keys: tuple[Path, ...]
    publisher_keys: tuple[Path, ...]
    cache_bytes: int = 0
    outbox_bytes: int = OUTBOX_BYTES
    peer_keys: tuple[Path, ...] = ()
    take_part: bool = True  # in rounds; a board that does not still serves versions
    only_secure: bool = False  # of what it learns, nothing leaves it but under masks
    profile: str = ""  # the kind of board, as long as no bundle says it
    idle: Idle | None = None  # what training waits for; None: it was not told
    local: Local = field(default_factory=Local)  # where programs on the board may ask
    providers: tuple[str, ...] = ()  # of onnxruntime, beside the CPU
    seats: int = SEATS  # tails that are served at a time
    split: Door | None = None  # where boards connect to this tail; None: they speak to it through the broker
    stale_s: float = STALE_S  # that the hub may leave hellos without an answer


_TABLES = {
    "agent": AgentTable,
    "broker": BrokerTable,
    "keys": KeysTable,
    "claim": ClaimTable,
    "idle": Idle,
    "local": LocalTable,
    "split": SplitTable,
}


def read_config(path: Path) -> Config:
    """Read agent.toml; paths in it are relative to its folder.

    Raises:
        StorageError: it cannot be read.
        BadData: it is not TOML.
        UsageError: naming every entry that is absent, wrong or unknown, and every file that is not there.
    """
    tables, root, problems = read_toml(path), path.parent, list[str]()
    try:
        found = read_record(_File, tables, str(path))
    except BadData as error:
        raise UsageError(join([str(error), *_unknown(tables)])) from error
    problems += _unknown(tables)
    agent, keys = found.agent, found.keys
    files = {name: _below(root, getattr(found.broker, name)) for name in ("ca", "certificate", "key")}
    hub, publisher = (_listed(getattr(keys, k), f"keys.{k}", problems) for k in ("hub", "publisher"))
    config = Config(
        agent.name,
        agent.fleet,
        None if agent.bundle is None else root / agent.bundle,
        root / agent.state,
        root / agent.data,
        agent.holdout,
        agent.threads,
        agent.worker_idle_s,
        agent.budget,
        replace(found.broker, ca=files["ca"], certificate=files["certificate"], key=files["key"]),
        root / keys.device,
        tuple(root / k for k in hub),
        tuple(root / k for k in publisher),
        agent.cache,
        agent.outbox,
        () if keys.peers is None else tuple(root / k for k in _listed(keys.peers, "keys.peers", problems)),
        agent.take_part,
        agent.only_secure,
        agent.profile,
        found.idle,
        listening(found.local, root, root / agent.state, problems),
        agent.providers,
        SEATS if found.split is None else found.split.seats,
        door(found.split, (files["ca"], files["certificate"], files["key"]), problems),
        agent.stale_s,
    )
    wrong = wrong_hours(found.idle) if found.idle is not None else ""
    problems += [f"idle.quiet_hours: {wrong}"] if wrong else []
    problems += _absent(config)
    if problems:
        raise UsageError(f"{path} is not what it should be: {join(problems)}")
    return config


def _listed(value: Any, at: str, problems: list[str]) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(v, str) for v in values):
        problems.append(f"{at}: expected a path of a .pub file or a list of them, found {value!r}")
        return ()
    return tuple(values)


def _below(root: Path, path: str | None) -> str | None:
    return None if path is None else str(root / path)


def _unknown(tables: dict[str, Any]) -> list[str]:
    problems = [f"{name}: unknown table" for name in tables if name not in _TABLES]
    for name, kind in _TABLES.items():
        known = {f.name for f in fields(kind)}
        entries = tables.get(name)
        if isinstance(entries, dict):
            problems += [f"{name}.{k}: unknown entry" for k in entries if k not in known]
    return problems


def _absent(config: Config) -> list[str]:
    needed = {
        **({} if config.bundle is None else {"agent.bundle": config.bundle / "manifest.json"}),
        **({} if is_folder(config.data) else {"agent.data": config.data}),
        "keys.device": config.device_key,
        **{f"keys.hub {p.name}": p for p in config.hub_keys},
        **{f"keys.publisher {p.name}": p for p in config.publisher_keys},
        **{f"keys.peers {p.name}": p for p in config.peer_keys},
    }
    given = {f"broker.{k}": getattr(config.broker, k) for k in ("ca", "certificate", "key")}
    needed |= {k: Path(v) for k, v in given.items() if v is not None}
    return [f"{name}: expected a file at {p}, found none" for name, p in needed.items() if not is_file(p)]
