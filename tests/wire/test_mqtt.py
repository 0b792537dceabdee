"""Which MQTT a transport speaks to brokers of other minds, played by a socket."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from wire.broker import Broker
from wire.mqtt import MqttTransport
from wire.transport import Fate

FIVE, THREE = 5, 4  # protocol levels
ACCEPTED, UNACCEPTABLE = bytes([0x20, 2, 0, 0]), bytes([0x20, 2, 0, 1])
ACCEPTED_5 = bytes([0x20, 8, 0, 0, 5, 0x27, 0, 0, 2, 0])  # MaximumPacketSize 512


@contextmanager
def played(answers: dict[int, bytes]) -> Iterator[tuple[Broker, queue.Queue[int]]]:
    """A broker that answers a CONNECT by its protocol level, and ends the connection where it has no answer."""
    door, levels = socket.create_server(("127.0.0.1", 0)), queue.Queue[int]()

    def serve() -> None:
        while True:
            try:
                connection, _ = door.accept()
            except OSError:
                return
            with suppress(OSError):
                first = connection.recv(4096)
                level = first[first.index(b"MQTT") + 4]
                levels.put(level)
                connection.sendall(answers.get(level, b""))
                while level in answers and answers[level] != UNACCEPTABLE and connection.recv(4096):
                    pass
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Broker("127.0.0.1", door.getsockname()[1]), levels
    finally:
        door.shutdown(socket.SHUT_RDWR)
        door.close()
        thread.join(5)


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ({FIVE: ACCEPTED_5, THREE: ACCEPTED}, [FIVE]),
        ({FIVE: UNACCEPTABLE, THREE: ACCEPTED}, [FIVE, THREE]),
        ({THREE: ACCEPTED}, [FIVE, FIVE, THREE]),
    ],
    ids=["has both", "refuses 5", "hangs up on 5"],
)
def test_the_newest_protocol_that_a_broker_has_is_spoken(answers: dict[int, bytes], asked: list[int]) -> None:
    """MQTT 5 first, 3.1.1 when that is refused, or ended again and again without an answer."""
    with played(answers) as (broker, levels):
        transport = MqttTransport(broker, "barn")
        transport.start(lambda topic, payload: None, lambda up: None)
        assert transport.wait_connected(15)
        assert [levels.get(timeout=5) for _ in asked] == asked
        assert transport.capabilities.protocol == ("5" if asked[-1] == FIVE else "3.1.1")
        transport.close()
        assert levels.empty()


def test_a_choice_is_kept_over_a_lost_connection() -> None:
    """Whoever was refused MQTT 5 does not ask for it again at the next connection."""
    with played({FIVE: UNACCEPTABLE, THREE: ACCEPTED}) as (broker, levels):
        transport = MqttTransport(broker, "barn")
        transport.start(lambda topic, payload: None, lambda up: None)
        assert [levels.get(timeout=15), levels.get(timeout=15)] == [FIVE, THREE]
        assert transport.wait_connected(5)
        sock = transport._client.socket()
        assert sock is not None
        sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]  # a socket, whatever paho calls it
        assert levels.get(timeout=15) == THREE
        transport.close()


@pytest.mark.parametrize(("told", "level"), [("5", FIVE), ("3.1.1", THREE)])
def test_a_protocol_that_is_told_is_the_only_one(told: str, level: int) -> None:
    """With `protocol` in the configuration nothing else is asked for, whatever the broker says."""
    with played({FIVE: UNACCEPTABLE, THREE: UNACCEPTABLE}) as (broker, levels):
        transport = MqttTransport(broker, "barn", protocol=told)  # type: ignore[arg-type]  # one of them
        transport.start(lambda topic, payload: None, lambda up: None)
        assert {levels.get(timeout=15) for _ in range(3)} == {level}
        transport.close()


def test_what_a_broker_would_not_take_is_not_sent() -> None:
    """A message above the broker's own limit would end the connection: it is refused here, and that is said."""
    with played({FIVE: ACCEPTED_5}) as (broker, _):
        fates: list[Fate] = []
        transport = MqttTransport(broker, "barn")
        transport.start(lambda topic, payload: None, lambda up: None, fates.append)
        assert transport.wait_connected(15)
        assert transport.publish("a", bytes(400))
        assert not transport.publish("a", bytes(600))
        assert [(f.topic, f.outcome) for f in fates] == [("a", "denied")]
        assert "takes packets of 512" in fates[0].reason
        transport.close()
