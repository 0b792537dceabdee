"""The floor: the same bytes in the same pieces over the same broker, to a subscriber that only counts and answers.

`python -m bench.transport.floor BROKER FOLDER SIZE` is that subscriber: no signature, no ledger, no disk. It answers
on `down/NAME/receipt` as soon as SIZE bytes of a board have come on `up/NAME/chunk`.
"""

from __future__ import annotations

import socket
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from bench.hub_boards import FLEET
from bench.load.brokers import as_hub
from bench.load.crowd import Member, context
from wire.broker import parse_broker
from wire.messages import CHUNK_BYTES
from wire.mqtt import IN_FLIGHT
from wire.topics import topic_of

MODEL = "floor"
ANSWER = bytes(64)


class Sender:
    """A client that sends bytes in pieces and waits for the answer."""

    def __init__(self, name: str, member: Member) -> None:
        self.member, self.name = member, name
        self.topic = topic_of(FLEET, MODEL, "up", "chunk", name)
        self.prepared, self.began_s, self.ended_s = b"", 0.0, 0.0

    def start(self) -> None:
        """Connect."""
        self.member.subscribe(topic_of(FLEET, MODEL, "down", "receipt", self.name))
        self.member.start(self._answered, lambda up: None)

    def send(self) -> None:
        """All of it, as a board does."""
        self.ended_s, self.began_s = 0.0, time.perf_counter()
        for at in range(0, len(self.prepared), CHUNK_BYTES):
            self.member.publish(self.topic, self.prepared[at : at + CHUNK_BYTES])

    def _answered(self, topic: str, payload: bytes) -> None:
        self.ended_s = time.perf_counter()


def main(url: str, folder: str, size: str) -> None:
    """Count and answer until ended."""
    broker, wanted, came = as_hub(parse_broker(url), Path(folder)), int(size), defaultdict[str, int](int)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="floor", protocol=paho.MQTTv311)
    client.max_inflight_messages_set(IN_FLIGHT)
    if broker.tls:
        client.tls_set_context(context(broker))

    def heard(client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        came[message.topic] += len(message.payload)
        if came[message.topic] >= wanted:
            came[message.topic] = 0
            client.publish(message.topic.replace("/up/", "/down/").replace("/chunk", "/receipt"), ANSWER, qos=1)

    def connected(client: paho.Client, *_: Any) -> None:
        client.subscribe(topic_of(FLEET, MODEL, "up", "chunk", "x").replace("/x/", "/+/"), qos=1)

    def opened(client: paho.Client, data: Any, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    client.on_connect = connected
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.on_message = heard
    client.on_socket_open = opened
    client.connect(broker.host, broker.port)
    client.loop_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
