"""The embedded broker with the hub's own client, and a port that is taken."""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterator

import pytest

from console.errors import TransportError
from hub.brokers.embedded import EmbeddedBroker
from wire.broker import Broker
from wire.mqtt import MqttTransport


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    """A broker on a free port."""
    started = EmbeddedBroker("127.0.0.1", 0)
    started.open(subscriptions=0)
    yield started
    started.close()


def client(broker: EmbeddedBroker, name: str) -> tuple[MqttTransport, queue.Queue[tuple[str, bytes]]]:
    """A connected client and what it receives."""
    transport, received = MqttTransport(Broker(broker.host, broker.port), name), queue.Queue[tuple[str, bytes]]()
    transport.start(lambda topic, payload: received.put((topic, payload)), lambda up: None)
    assert transport.wait_connected(10)
    return transport, received


def test_messages_pass(broker: EmbeddedBroker) -> None:
    """What one client publishes with QoS 1 another one receives; what is retained reaches who comes later."""
    one, _ = client(broker, "one")
    other, received = client(broker, "other")
    other.subscribe("a/+")
    one.publish("a/kept", b"kept", retain=True)
    assert received.get(timeout=10) == ("a/kept", b"kept")
    data = bytes(range(256)) * 256
    one.publish("a/b", data)
    found = received.get(timeout=10)
    if found == ("a/kept", b"kept"):  # published and retained at the very moment of the subscription
        found = received.get(timeout=10)
    assert found == ("a/b", data)

    late, late_received = client(broker, "late")
    late.subscribe("a/#")
    assert late_received.get(timeout=10) == ("a/kept", b"kept")

    for transport in (one, other, late):
        transport.close()


def test_a_port_in_use_is_said() -> None:
    """A port that something else holds is one sentence, not a traceback; no thread stays behind."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]

        with pytest.raises(TransportError) as caught:
            EmbeddedBroker("127.0.0.1", port)

    assert str(caught.value) == (
        f"expected to listen on 127.0.0.1:{port}, could not (Address already in use); stop what uses the port, or "
        f"choose another one with --port"
    )


def test_a_broker_can_be_started_again(broker: EmbeddedBroker) -> None:
    """After `close` the port is free at once, clients or not."""
    transport, _ = client(broker, "one")
    broker.close()
    assert not broker.is_running

    again = EmbeddedBroker("127.0.0.1", broker.port)

    again.open(subscriptions=0)
    assert again.port == broker.port
    assert transport.wait_connected(10)
    transport.close()
    again.close()


def test_devices_wait_until_the_hub_listens() -> None:
    """Who comes before the hub has subscribed is not refused and not let in; what it then says, the hub hears."""
    broker = EmbeddedBroker("127.0.0.1", 0)
    device = MqttTransport(Broker(broker.host, broker.port), "device")

    def hello(up: bool) -> None:
        device.publish("up/device", b"hello")

    device.start(lambda topic, payload: None, hello)
    assert not device.wait_connected(0.5)

    heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
    hub = MqttTransport(Broker("127.0.0.1", broker.inner_port), "hub")
    hub.subscribe("up/+")
    hub.start(lambda topic, payload: heard.put((topic, payload)), lambda up: None)
    broker.open()

    assert heard.get(timeout=10) == ("up/device", b"hello")
    for closing in (device, hub, broker):
        closing.close()


def test_a_packet_that_is_too_large_ends_its_connection(broker: EmbeddedBroker) -> None:
    """A client that announces more than a message may have is cut off at once, and the broker serves the others."""
    connect = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05large"
    with socket.create_connection((broker.host, broker.port), timeout=10) as large:
        large.sendall(connect)
        assert large.recv(4) == b"\x20\x02\x00\x00"
        large.sendall(b"\x30\xff\xff\xff\x7f\x00\x03a/b" + bytes(1000))  # PUBLISH of 256 MB
        assert large.recv(1) == b""
    one, _ = client(broker, "one")
    other, received = client(broker, "other")
    other.subscribe("a/b")
    one.publish("a/b", b"small", retain=True)  # whether it comes before the subscription or after it
    assert received.get(timeout=60) == ("a/b", b"small")
    one.close()
    other.close()
