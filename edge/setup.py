"""Everything that must be right before an agent talks to anybody: its keys, its bundle, its data, its folder."""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from console.errors import StorageError
from edge.config import OUTBOX_BYTES, Config
from edge.data import Counted, count_board
from edge.identity.record import read_identity
from edge.keyring import Keyring
from edge.local.about import About, about
from edge.request import Place
from edge.shelf import Shelf
from edge.voice import Voice
from wire.broker import Broker, parse_broker
from wire.bundle import Bundle, open_bundle
from wire.envelope import Trust
from wire.keys import read_private_key, read_public_key
from wire.topics import NO_MODEL

CORRECTIONS = "feedback"  # folder in the state folder
FRONT, TAIL = "front", "tail"  # of them: halves of split jobs
SECURE = "secure"  # of the jobs in a hello: sums under masks
SERVER = "server"  # the profile of agents that compute what a hub needs computed


@dataclass(frozen=True)
class Setup:
    """What the core works with; nothing in it needs numpy."""

    name: str
    model: str
    profile: str
    bundle: str  # SHA-256 of its manifest; empty: there is none yet
    rank: int
    jobs: tuple[str, ...]
    counted: Counted
    state: Path
    place: Place
    voice: Voice
    hub: Keyring
    budget_bytes: int | None
    runtime: str
    config: Config
    publishers: Trust
    shelf: Shelf
    lock: IO[bytes] | None = None
    take_part: bool = True
    only_secure: bool = False
    outbox_bytes: int = OUTBOX_BYTES
    about: About | None = None  # for local requests; None: there is no bundle yet
    peers: Trust | None = None  # the boards that it adds up with under masks; None: those that the hub names

    @property
    def samples(self) -> int:
        """Rows that there were at the start."""
        return self.counted.rows


def prepare(config: Config) -> Setup:
    """Check everything that a configuration names; the bundle is the hub's latest, or else the one to begin with.

    Raises:
        EdgequiltError: the first thing that is wrong, in one sentence.
    """
    lock = lock_folder(config.state)
    try:
        return _prepared(config, lock)
    except BaseException:
        lock.close()
        raise


def _prepared(config: Config, lock: IO[bytes]) -> Setup:
    key = read_private_key(config.device_key)
    known = read_identity(config.device_key.parent)
    anchors = [read_public_key(path, "hub") for path in config.hub_keys]
    hub = Keyring(config.state, config.fleet, anchors, "" if known is None else known.token)
    publishers = Trust(read_public_key(path, "publisher") for path in config.publisher_keys)
    shelf = Shelf(config.state)
    with suppress(StorageError):  # a full disk does not keep a board from serving what it has
        shelf.begin()
    bundle = bundle_in_use(config, shelf, publishers)
    manifest = None if bundle is None else bundle.manifest
    model = NO_MODEL if manifest is None else manifest.model.id
    counted = manifest if config.take_part else None  # what nobody asks for is not read
    return Setup(
        name=config.name,
        model=model,
        profile=config.profile if manifest is None else manifest.plan.device,
        bundle="" if bundle is None else bundle.sha256,
        rank=0 if manifest is None else manifest.plan.rank,
        jobs=jobs_of(bundle) if config.take_part and bundle is not None else (),
        counted=Counted(0) if counted is None else count_board(config.data, counted, config.state / CORRECTIONS),
        state=config.state,
        place=place_of(config, None if bundle is None else bundle.folder, "" if bundle is None else bundle.sha256),
        voice=Voice(config.fleet, model, config.name, key),
        hub=hub,
        outbox_bytes=config.outbox_bytes,
        budget_bytes=config.budget_bytes or (manifest.plan.budget_bytes if manifest is not None else None) or None,
        runtime=runtime_version(),
        config=config,
        publishers=publishers,
        shelf=shelf,
        lock=lock,
        take_part=config.take_part,
        only_secure=config.only_secure,
        about=None if manifest is None else about(manifest),
        peers=Trust(read_public_key(path, "device") for path in config.peer_keys) if config.peer_keys else None,
    )


def bundle_in_use(config: Config, shelf: Shelf, publishers: Trust) -> Bundle | None:
    """The bundle that an agent works with, checked: of its shelf, or else the one that agent.toml names; None: neither.

    Raises:
        EdgequiltError: the one of agent.toml is not what it should be.
    """
    found = shelf.open(publishers)
    if found is None and config.bundle is not None:
        found = open_bundle(config.bundle, publishers)
    return found


def place_of(config: Config, folder: Path | None, sha256: str) -> Place:
    """Where a worker finds a bundle with that manifest, and all else."""
    return Place(
        bundle="" if folder is None else str(folder.resolve()),
        bundle_sha256=sha256,
        data=str(config.data.resolve()),
        holdout=config.holdout,
        blobs=str((config.state / "blobs").resolve()),
        threads=config.threads,
        cache=str((config.state / "trunk").resolve()),
        cache_bytes=config.cache_bytes,
        providers=config.providers,
        corrections=str((config.state / CORRECTIONS).resolve()),
    )


def broker_of(config: Config) -> Broker:
    """Where to connect.

    Raises:
        TransportError: the url is none.
    """
    given = config.broker
    return replace(
        parse_broker(given.url),
        ca=_path(given.ca),
        certificate=_path(given.certificate),
        key=_path(given.key),
        username=given.username,
        password=given.password,
    )


def jobs_of(bundle: Bundle) -> tuple[str, ...]:
    """What the bundle can be asked to do."""
    manifest = bundle.manifest
    split = manifest.split
    if split is not None and split.role == "front":
        return (FRONT,)  # it learns with a tail alone
    kinds = [{g.kind for g in s.graphs} for s in manifest.segments]
    runs = all("forward" in k for k in kinds) and (manifest.head is not None or manifest.loss is not None)
    learns = "backward" in kinds[-1] and all("forward" in k for k in kinds[:-1])
    steps = runs and bool(manifest.slots_of("lora"))
    scales = runs and bool(manifest.scales)
    labels = runs and manifest.head is not None
    fixes = labels and manifest.plan.device == SERVER  # a board is not told other people's inputs
    kinds_of_job = {
        "train": learns,
        "spry": steps,
        "qzo": scales,
        "statistics": labels,
        "evaluate": runs,
        "fix": fixes,
    }
    found = tuple(kind for kind, able in kinds_of_job.items() if able)
    found += (TAIL,) if learns and split is not None else ()
    return (*found, SECURE) if found else found


def runtime_version() -> str:
    """The installed onnxruntime, read from its folder's name: importing it is the worker's business."""
    for root in map(Path, filter(None, sys.path)):
        for found in root.glob("onnxruntime-*.dist-info"):
            return found.name.removesuffix(".dist-info").replace("-", " ")
    return ""


def lock_folder(folder: Path) -> IO[bytes]:
    """Keep a second agent out of a state folder, for as long as the file returned stays open.

    Raises:
        StorageError: the folder cannot be written, or another agent has it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # what was learned is in it
        handle = (folder / "lock").open("wb")
    except OSError as error:
        raise StorageError(
            f"expected a state folder at {folder}, but it cannot be written ({error.strerror}); choose another one"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise StorageError(
            f"expected the state folder {folder} for this agent alone, found another agent on it (this is process "
            f"{os.getpid()}); end that one or choose another folder"
        ) from error
    return handle


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)
