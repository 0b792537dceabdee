"""Who and what belongs to a hub: its folder, its devices, its bundles. Used with and without a running hub."""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from console.errors import HubError, StorageError, UsageError
from hub import authority
from hub.bundles.keeping import keep
from hub.config import FILE, TEMPLATE, BrokerConfig, Config, listen_address, publishers, read_config
from hub.hardware import Hardware
from hub.keys import make_key, read_key, settle
from hub.making import versions
from hub.making.model import Model, agree, model_of, read_model, whole_of
from hub.store import schema as t
from hub.store.blobs import Blobs
from hub.store.database import Database, file, server
from hub.store.ledger import Ledger
from hub.store.writes import put_device, put_row, put_tip
from wire.bundle import MANIFEST, SIGNATURE, open_bundle
from wire.files import read_bytes, write_atomic
from wire.keys import PrivateKey, parse_public_key, read_public_key
from wire.record import NAME
from wire.topics import NO_MODEL

KEY = "hub"


@dataclass
class Home:
    """A hub's folder, opened."""

    folder: Path
    config: Config
    key: PrivateKey
    ledger: Ledger
    blobs: Blobs

    @property
    def bundles(self) -> Blobs:
        """The files of bundles that it keeps."""
        return Blobs(self.folder / "bundles")


def create(
    folder: Path, fleet: str, publisher_files: list[Path], listen: str, hardware: Hardware | None = None
) -> Path:
    """Make a hub's folder: key, authority, `hub.toml`, the keys of its publishers; returns its public key's file.

    Args:
        folder: made where it is not there.
        fleet: its name.
        publisher_files: keys whose bundles are taken.
        listen: of the embedded broker.
        hardware: a module that is to have the secret keys; none: they are files.

    Raises:
        UsageError: the folder already holds a hub, or the fleet's name is not one.
        SignatureError: a file is not a publisher's public key.
        StorageError: the folder cannot be made.
    """
    if (folder / FILE).exists():
        raise UsageError(f"expected no hub in {folder}, found one; start it with `edgequilt hub up {folder}`")
    if not re.fullmatch(NAME, fleet):
        raise UsageError(
            f"expected a fleet name of small letters, digits, '.', '_' or '-' (at most 63), found {fleet!r}"
        )
    listen_address(Config(fleet, BrokerConfig(listen=listen)))  # raises before anything is written
    keys = [read_public_key(path, "publisher") for path in publisher_files]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # updates of boards and secrets of rounds lie in it
    except OSError as error:
        raise StorageError(f"expected to make {folder}, could not ({error.strerror}); choose another place") from error
    names = []
    for key in keys:
        write_atomic(folder / "publishers" / f"{key.id}.pub", key.line.encode() + b"\n")
        names.append(f'"publishers/{key.id}.pub"')
    public = folder / f"{KEY}.pub"
    if not public.exists():
        make_key(folder, KEY, fleet, hardware)
    authority.create(fleet, folder, None if hardware is None else hardware.at(f"edgequilt {fleet} authority"))
    text = TEMPLATE.format(fleet=fleet, listen=listen, publishers=", ".join(names))
    write_atomic(folder / FILE, text.encode())
    return public


def open_home(folder: Path, *, reading: bool = False) -> Home:
    """Open a hub's folder; `reading` where a hub may be running on it.

    Raises:
        UsageError: there is no hub in it.
        HubError: a hub on another folder uses the same database.
    """
    config = read_config(folder)
    settle(folder, KEY)
    key = read_key(folder, KEY)
    ledger = Ledger(database_of(config, folder), reading=reading)
    return Home(folder, config, key, ledger, Blobs(folder / "blobs"))


def database_of(config: Config, folder: Path) -> Database:
    """Where the ledger of a hub is.

    Raises:
        UsageError: database.url of hub.toml is not one.
        StorageError: the file with its password cannot be read.
    """
    told = config.database
    if not told.url:
        return file(folder / "ledger.sqlite")
    return server(told.url, folder / told.password_file if told.password_file else None)


def known_devices(folder: Path) -> list[str]:
    """The names of the devices that may come in."""
    home = open_home(folder)
    try:
        return let_in(home)
    finally:
        home.ledger.close()


def let_in(home: Home) -> list[str]:
    """The devices that are enrolled and not revoked."""
    return [row["name"] for row in home.ledger.devices() if not row["revoked"]]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the hub's folder; one process at a time writes there.

    Raises:
        HubError: another process holds it.
    """
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HubError(f"expected {folder} to be free, found a hub running on it; stop that one first") from error
        yield


def check_name(name: str) -> None:
    """See that this can be the name of a device.

    Raises:
        UsageError: it cannot.
    """
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"expected a device name of small letters, digits, '.', '_' or '-' (at most 63), found {name!r}"
        )


def enroll(
    home: Home, name: str, line: str, *, replace: bool = False, also: Callable[[Connection], None] = lambda tx: None
) -> dict[str, Any]:
    """Believe a device's key under a name; the same key again changes nothing.

    Args:
        home: the hub's folder, opened.
        name: of the device.
        line: of its .pub file.
        replace: the name may have another key already, which is no longer believed.
        also: what belongs to the same transaction.

    Raises:
        HubError: the name has another key, or the key another name.
        SignatureError: it is not a device's public key.
        UsageError: the name is not one.
    """
    check_name(name)
    key = parse_public_key(line, "device", f"the key of {name}")
    answer, known = {"device": name, "key": key.id}, False
    row = home.ledger.device(name)
    if row is not None and row["revoked"]:
        raise HubError(f"expected a name that is not revoked, found {name}; say `edgequilt hub revoke {name} --undo`")
    for row in home.ledger.devices():
        same = parse_public_key(row["key"], "device", "the ledger").raw == key.raw
        if row["name"] == name and same:
            known = True
            break
        if same or (row["name"] == name and not replace):
            raise HubError(
                f"expected a new name and a new key, found that {row['name']} is enrolled with "
                f"{'this key; make another one' if same else 'another key; choose another name, or say --replace'}"
            )
    with home.ledger.transaction() as tx:
        if not known and home.ledger.device(name) is not None:
            put_device(tx, name, key=key.line, online=False)
        elif not known:
            put_row(tx, t.devices, {"name": name, "key": key.line, "online": False})
        also(tx)
    return answer


def add_bundle(home: Home, folder: Path, *, copy: bool = True) -> dict[str, Any]:
    """Check a bundle and take it in; the first one of a model makes version 0 of that.

    Args:
        home: the hub's folder, opened.
        folder: of the bundle.
        copy: keep its files, so that the folder may go away; else they are served from there.

    Raises:
        SignatureError: it is not signed by a publisher that hub.toml trusts.
        IntegrityError: a file is not what the manifest says.
        HubError: another bundle of its model promises other shapes.
        StorageError: its files cannot be kept.
    """
    bundle = open_bundle(folder, publishers(home.config, home.folder))
    raw = read_bytes(folder / MANIFEST, "a bundle's manifest")
    found = model_of(bundle.manifest)
    if found.id == NO_MODEL:
        raise HubError(f"expected a model with a name of its own, found {NO_MODEL}; export it with --name")
    known = models(home).get(found.id)
    if known is not None:
        agree(known, found, str(folder))
    elif found.front and bundle.manifest.split is not None:
        raise HubError(
            f"expected the whole of {found.id} as its first bundle, found in {folder} a front of it; add the bundle of "
            f"its tail first (the export wrote it beside this one, as {bundle.manifest.split.tail}), then this one"
        )
    plan = bundle.manifest.plan
    row = {"model": found.id, "device": plan.device, "rank": plan.rank, "mode": plan.mode}
    if copy:
        keep(home.bundles, bundle)
    told = {"folder": str(folder.resolve()), "signature": read_bytes(folder / SIGNATURE, "a signature", 4096)}
    with home.ledger.transaction() as tx:
        if home.ledger.bundle(bundle.sha256) is not None:  # its folder may be another one by now
            tx.execute(t.bundles.update().where(t.bundles.c.sha256 == bundle.sha256).values(**told))
        else:
            kept = {**row, **told, "sha256": bundle.sha256, "manifest": raw, "added_at_s": time.time()}
            put_row(tx, t.bundles, kept)
            if known is None:
                _begin_model(tx, home, found)
    return {**row, "bundle": bundle.sha256, "signer": bundle.signer.name if bundle.signer else ""}


def _begin_model(tx: Connection, home: Home, found: Model) -> None:
    adapter = home.config.adapter
    made = versions.first(found, adapter.rank, adapter.scale, home.blobs, home.key)
    put_version(tx, made, 0, time.time())
    put_tip(tx, found.id, made.digest)


def put_version(tx: Connection, made: versions.Made, round_number: int, created_at_s: float) -> None:
    """Keep a version."""
    v = made.version
    put_row(
        tx,
        t.versions,
        {
            "digest": made.digest,
            "model": v.model,
            "number": v.version,
            "parent": v.parent,
            "parents": [digest for digest in (v.parent, *v.parents) if digest],
            "round": round_number,
            "participants": list(made.participants),
            "metrics": {**made.metrics, "notes": list(made.notes)},
            "created_at_s": created_at_s,
            "body": made.body,
            "envelope": made.envelope,
            "cut": made.cut,
        },
    )


def models(home: Home) -> dict[str, Model]:
    """The models that have bundles, by name; what one is, the bundle says that holds all of it."""
    found: dict[str, list[Model]] = {}
    for row in home.ledger.bundles():
        found.setdefault(row["model"], []).append(read_model(bytes(row["manifest"])))
    return {name: whole_of(found[name]) for name in sorted(found)}


def model(home: Home, wanted: str = "") -> Model:
    """A model of the hub; the only one where none is named.

    Raises:
        HubError: there is none yet, none of that name, or a name is needed.
    """
    known = models(home)
    return known[chosen(list(known), wanted)]


def chosen(known: list[str], wanted: str = "") -> str:
    """The model that is meant.

    Raises:
        HubError: there is none yet, none of that name, or a name is needed.
    """
    if not known:
        raise HubError("expected a model, found none; add a bundle with `edgequilt hub add BUNDLE`")
    if wanted in known:
        return wanted
    if wanted or len(known) > 1:
        raise HubError(
            f"expected a model among {', '.join(known)}, found {wanted or 'none named'}; name one with --model"
        )
    return known[0]
