"""Another key of the hub: made, named to the boards by the key before (wire.succession), and after an overlap used.

* `hub.chain`: all links since the hub was made, the oldest first, as JSON; public.
* `hub-N.key`, `hub-N.pub`: the next key, from the moment that it is announced until it takes the place of `hub.key`.

Until `finish` the hub signs as before, and boards that have heard of the new key believe both.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.errors import BadData, HubError, SignatureError, StorageError
from hub.keys import beside, make_key, put_in_place, read_key
from hub.store.registry import KEY, Home
from wire.files import read_bytes, write_atomic
from wire.json_text import parse_json
from wire.keys import PrivateKey, PublicKey
from wire.succession import LINK_LIMIT_BYTES, MOST_LINKS, key_of, make_link

CHAIN = "hub.chain"
LIMIT_BYTES = 2 * MOST_LINKS * LINK_LIMIT_BYTES


@dataclass(frozen=True)
class Kept:
    """A link as it lies in `hub.chain`."""

    data: bytes
    key: PublicKey  # the new one


@dataclass(frozen=True)
class Rotation:
    """How a change of keys stands."""

    key: str  # id of the key that signs
    next: str  # of the one that is announced; empty: none is
    know: tuple[str, ...] = ()  # devices that say that they believe it
    wait: tuple[str, ...] = ()  # those that have not said it yet


def chain(folder: Path) -> tuple[Kept, ...]:
    """All links.

    Raises:
        BadData: the file is damaged.
        StorageError: it cannot be read.
    """
    path = folder / CHAIN
    if not path.exists():
        return ()
    try:
        found = parse_json(read_bytes(path, "the hub's chain of keys", LIMIT_BYTES))
        links = [base64.b64decode(text, validate=True) for text in found["links"]]
        return tuple(Kept(data, key_of(data)) for data in links)
    except (ValueError, KeyError, TypeError, BadData, SignatureError) as error:
        raise BadData(
            f"expected the links between the hub's keys in {path}, found something else; restore it from a backup"
        ) from error


def standing(home: Home) -> Rotation:
    """How a change of keys stands."""
    links, own = chain(home.folder), home.key.public.id
    if not links or links[-1].key.id == own:
        return Rotation(own, "")
    heir = links[-1].key.id
    rows = [row for row in home.ledger.devices() if not row["revoked"]]
    know = {row["name"] for row in rows if heir in ((row["hello"] or {}).get("hub_keys") or ())}
    return Rotation(own, heir, tuple(sorted(know)), tuple(sorted({row["name"] for row in rows} - know)))


def begin(home: Home) -> Rotation:
    """Make the next key and the link to it; where that is done already, nothing changes.

    Raises:
        StorageError: they cannot be written.
        HubError: there were too many keys already.
        UsageError, SignatureError, MissingDependency: the hardware module cannot be used.
    """
    links = chain(home.folder)
    if not links or links[-1].key.id == home.key.public.id:
        number = len(links) + 1
        if number > MOST_LINKS:
            raise HubError(f"expected fewer than {MOST_LINKS} keys in a row, found as many; make another fleet")
        stem = _stem(number)
        public = home.folder / f"{stem}.pub"
        if not public.exists():  # else it was cut off before the link
            (home.folder / f"{stem}.key").unlink(missing_ok=True)
            make_key(home.folder, stem, home.config.fleet, beside(home.folder, KEY))
        link = make_link(home.key, read_key(home.folder, stem), home.config.fleet, number)
        _write(home.folder, [*(one.data for one in links), link])
    return standing(home)


def finish(home: Home, *, anyway: bool = False, speak: Callable[[PrivateKey], None] = lambda key: None) -> Rotation:
    """Put the next key in the place of the one that signs.

    Args:
        home: the hub's folder, opened.
        anyway: also if not every board has said that it believes the next one.
        speak: told the new key; a running hub says everything anew with it.

    Raises:
        HubError: none is announced, or boards do not know it yet.
        StorageError, SignatureError: it is not there, or is not the one that was announced.
    """
    found = standing(home)
    if not found.next:
        raise HubError("expected a key that was announced, found none; begin with `edgequilt hub rotate-key`")
    if found.wait and not anyway:
        raise HubError(
            f"expected every board to know the new key, found that {', '.join(found.wait[:20])} "
            f"({len(found.wait)} of {len(found.wait) + len(found.know)}) have not said so; wait for them, or say "
            f"--anyway: those that understand such messages follow when they come back"
        )
    stem = _stem(len(chain(home.folder)))
    try:
        heir = read_key(home.folder, stem)
    except StorageError as error:
        raise StorageError(
            f"expected the announced key in {home.folder / f'{stem}.key'}, found none; put it there from where you "
            f"keep keys: no other one can take its place"
        ) from error
    if heir.public.id != found.next:
        raise SignatureError(f"expected key {found.next} in {stem}.key, found {heir.public.id}; restore the right one")
    put_in_place(home.folder, KEY, stem)
    home.key = read_key(home.folder, KEY)
    speak(home.key)
    return standing(home)


def files(folder: Path) -> tuple[list[str], list[str]]:
    """The names of what belongs to a change of keys that goes on: open ones, secret ones."""
    public = sorted(path.name for path in folder.glob(f"{KEY}-*.pub"))
    return [CHAIN, *public], [name.replace(".pub", ".key") for name in public]


def _stem(number: int) -> str:
    return f"{KEY}-{number + 1}"


def _write(folder: Path, links: list[bytes]) -> None:
    found: dict[str, Any] = {"schema": 1, "links": [base64.b64encode(data).decode() for data in links]}
    write_atomic(folder / CHAIN, json.dumps(found, indent=1).encode() + b"\n")
