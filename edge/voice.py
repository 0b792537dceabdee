"""How a device speaks: every message with its sender, signed, on its topic."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from wire.envelope import seal
from wire.keys import PrivateKey
from wire.messages import Chunk, Presence, Sender, encode
from wire.topics import entry_of, topic_of
from wire.transport import Transport, Will

BLIP_S = 30  # a connection that is lost for less does not look like a departure


@dataclass
class Voice:
    """Identity of one start of an agent: `boot` is new each time, `sequence` counts its messages."""

    fleet: str
    model: str
    device: str
    key: PrivateKey
    boot: str = field(default_factory=lambda: secrets.token_hex(8))
    sequence: int = 0

    def sender(self) -> Sender:
        """The next sender."""
        self.sequence += 1
        return Sender(self.device, self.boot, self.sequence)

    def sealed(self, kind: Any, /, **fields: Any) -> tuple[str, bytes]:
        """Topic and bytes of a message of ours."""
        body = encode(kind(sender=self.sender(), **fields))
        return topic_of(self.fleet, self.model, "up", kind.TYPE, self.device), seal(self.key, body)

    def say(self, transport: Transport, kind: Any, /, **fields: Any) -> int:
        """Send a message; returns the bytes that went out, 0 without a connection."""
        topic, payload = self.sealed(kind, **fields)
        return self._send(transport, kind.TYPE, topic, payload)

    def say_chunk(self, transport: Transport, chunk: Chunk) -> int:
        """Send a chunk; the only message without a signature."""
        return self._send(
            transport, Chunk.TYPE, topic_of(self.fleet, self.model, "up", Chunk.TYPE, self.device), encode(chunk)
        )

    def sealed_to(self, receiver: str, kind: Any, /, **fields: Any) -> tuple[str, bytes]:
        """Topic and bytes of a message of ours to another device."""
        body = encode(kind(sender=self.sender(), **fields))
        return topic_of(self.fleet, self.model, "peer", kind.TYPE, self.device, receiver), seal(self.key, body)

    def will(self) -> Will:
        """What the broker says for us when we are gone."""
        return Will(*self.sealed(Presence, state="offline"), delay_s=BLIP_S)

    def _send(self, transport: Transport, kind: str, topic: str, payload: bytes) -> int:
        entry = entry_of("up", kind)
        sent = transport.publish(topic, payload, qos=entry.qos, retain=entry.retain, expiry_s=entry.expiry_s)
        return len(topic) + len(payload) if sent else 0
