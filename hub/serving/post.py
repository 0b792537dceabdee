"""What the hub says: signed, on the right topic, with the delivery that the table of topics asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hub.making.versions import Made
from hub.serving.pieces import Pieces
from wire.envelope import seal
from wire.keys import PrivateKey
from wire.messages import Chunk, Release, Version, encode
from wire.topics import Topic, entry_of, topic_of
from wire.transport import Transport

CHUNKS_AT_ONCE = 512  # 32 MiB; a device asks again for what is still missing


class Post:
    """The hub's voice in one fleet, for one model."""

    def __init__(self, transport: Transport, key: PrivateKey, fleet: str, model: str) -> None:
        self.transport, self.key, self.fleet, self.model = transport, key, fleet, model
        self._pieces = Pieces()

    def send(self, device: str, message: Any) -> None:
        """Say something to one device."""
        entry = entry_of("down", message.TYPE)
        topic = topic_of(self.fleet, self.model, "down", message.TYPE, device)
        self.transport.publish(topic, seal(self.key, encode(message)), **_manner(entry))

    def send_bare(self, device: str, message: Any) -> None:
        """Say something without an envelope: what is in it has signatures of its own."""
        entry = entry_of("down", message.TYPE)
        topic = topic_of(self.fleet, self.model, "down", message.TYPE, device)
        self.transport.publish(topic, encode(message), **_manner(entry))

    def send_blob(self, device: str, name: str, read: Callable[[], bytes], indexes: tuple[int, ...]) -> None:
        """Send chunks of a blob, those asked for or all."""
        topic = topic_of(self.fleet, self.model, "down", Chunk.TYPE, device)
        manner = _manner(entry_of("down", Chunk.TYPE))
        pieces = self._pieces.of(name, read)
        wanted = sorted(set(indexes)) or range(len(pieces))
        for index in wanted[:CHUNKS_AT_ONCE]:
            if 0 <= index < len(pieces):
                self.transport.publish(topic, pieces[index], **manner)

    def version(self, made: Made, *, tip: bool) -> None:
        """Say a version to everybody; only the tip stays with the broker for those who come later.

        It is signed anew: the hub may have another key by now than when it made the version.
        """
        topic = topic_of(self.fleet, self.model, "all", Version.TYPE)
        self.transport.publish(topic, seal(self.key, made.body), qos=1, retain=tip)

    def release(self, row: dict[str, Any]) -> None:
        """Say to everybody, also later, which version to serve."""
        message = Release(self.model, row["sequence"], row["version"], row["digest"])
        topic = topic_of(self.fleet, self.model, "all", Release.TYPE)
        self.transport.publish(topic, seal(self.key, encode(message)), qos=1, retain=True)


def _manner(entry: Topic) -> dict[str, Any]:
    """How the table of topics has a message travel."""
    return {"qos": entry.qos, "retain": entry.retain, "expiry_s": entry.expiry_s}
