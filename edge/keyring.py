"""Which keys of its hub an agent believes: those that a person gave it, and those that they named (wire.succession).

`hub-keys.json` holds the links that were followed and the keys that are believed no more, synced before either counts.
A key has one heir: the first that came. The key before is believed as long as the hub goes on speaking with it; the
first word under the new key ends that, for good.

Who was given other keys, or claimed anew, begins anew: a person's word is above what was said by messages.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from console.errors import EdgequiltError, StorageError
from wire.envelope import Trust
from wire.files import read_bytes, write_atomic
from wire.json_text import parse_json
from wire.keys import PublicKey
from wire.record import plain, read_record
from wire.succession import MOST_LINKS, ROLE, Link, before_of, read_link

log = logging.getLogger("edgequilt.agent")
RECORD, LIMIT_BYTES = "hub-keys.json", 4 << 20


@dataclass(frozen=True)
class Kept:
    """What `hub-keys.json` says."""

    given: str  # digest of the keys and the claim that all of this goes on from
    links: tuple[str, ...] = ()  # base64, in the order in which they were followed
    retired: tuple[str, ...] = ()  # key ids


class Keyring(Trust):
    """The hub's keys that are believed now.

    Args:
        state: the state folder.
        fleet: whose hub it is.
        anchors: the keys that agent.toml names.
        claim: which claim they came with; empty: a person put them there.
    """

    def __init__(self, state: Path, fleet: str, anchors: Iterable[PublicKey], claim: str = "") -> None:
        anchors = list(anchors)
        super().__init__(anchors)
        self._path, self._fleet = state / RECORD, fleet
        self._known = {key.id: key for key in anchors}
        self._heirs: dict[str, Link] = {}  # by the id of the key before
        given = hashlib.sha256("\n".join([claim, *sorted(key.line for key in anchors)]).encode()).hexdigest()
        self._kept = Kept(given)
        self._restore()

    @property
    def believed(self) -> tuple[str, ...]:
        """The ids of the keys, as a hello says them; the newest last."""
        return self.ids(ROLE)

    def follow(self, links: Sequence[bytes]) -> bool:
        """Take new keys that believed ones name; whether there were any.

        Raises:
            BadData, SignatureError: one is not what it should be; those before it were followed.
            StorageError: they cannot be kept, and are not believed then.
        """
        news = False
        for data in links[:MOST_LINKS]:
            before = before_of(data)
            if before not in self.believed:
                continue  # of a time before ours, or of somebody else
            if before in self._heirs:
                if base64.b64encode(data).decode() not in self._kept.links:
                    log.warning("the hub's key %s names another heir than before; it is not believed", before)
                continue
            link = read_link(data, self, self._fleet)
            if link.key.id in (*self._kept.retired, *self._before(before)):
                continue  # no way back
            self._write(replace(self._kept, links=(*self._kept.links, base64.b64encode(data).decode())))
            self._adopt(link)
            log.info("the hub has a new key, %s, named by %s", link.key.id, link.before)
            news = True
        return news

    def heard(self, key: PublicKey) -> None:
        """The hub spoke with this key: those before it are believed no more."""
        before = self._before(key.id)
        ended = [one for one in before if one in self.believed]
        if not ended:
            return
        with suppress(StorageError):  # then both are believed until there is room
            self._write(replace(self._kept, retired=(*self._kept.retired, *ended)))
            self._forget(ended)
            log.info("the hub speaks with key %s; %s is believed no more", key.id, ", ".join(ended))

    def _before(self, key_id: str) -> list[str]:
        """The keys that this one came from, nearest first."""
        parents = {link.key.id: before for before, link in self._heirs.items()}
        found: list[str] = []
        while (key_id := parents.get(key_id, "")) and key_id not in found:
            found.append(key_id)
        return found

    def _adopt(self, link: Link) -> None:
        self._heirs[link.before] = link
        self._known[link.key.id] = link.key
        self.add(link.key)

    def _forget(self, ids: Iterable[str]) -> None:
        for key_id in ids:
            if key_id in self._known:
                self.drop(self._known[key_id])

    def _restore(self) -> None:
        """Go on from what was kept, if it goes on from the same keys; all of it or nothing."""
        if not self._path.exists():
            return
        trial, links = Trust(self._known.values()), list[Link]()
        try:
            kept = read_record(Kept, parse_json(read_bytes(self._path, "the hub's keys", LIMIT_BYTES)), RECORD)
            if kept.given != self._kept.given:
                return
            for data in kept.links[:MOST_LINKS]:
                links.append(read_link(base64.b64decode(data, validate=True), trial, self._fleet))
                trial.add(links[-1].key)
        except (ValueError, EdgequiltError) as error:
            log.warning("%s cannot be used (%s); the hub's keys are learned anew", self._path, error)
            return
        self._kept = kept
        for link in links:
            self._adopt(link)
        self._forget(kept.retired)

    def _write(self, kept: Kept) -> None:
        write_atomic(self._path, json.dumps(plain(kept), indent=1).encode() + b"\n")
        self._kept = kept
