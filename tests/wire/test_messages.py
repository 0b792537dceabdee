"""Messages, topics, chunks and the in-memory network."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.errors import BadData, TransportError, UsageError
from wire import messages as m
from wire.broker import parse_broker
from wire.chunks import Assembly, cut
from wire.files import digest
from wire.keys import PrivateKey, PublicKey, Seed
from wire.memory import MemoryTransport, Network, matches
from wire.pack import pack, unpack
from wire.succession import make_link
from wire.topics import TABLE, device_subscriptions, hub_subscriptions, parse_topic, peer_subscription, topic_of
from wire.transport import Will

D = "a" * 64
SENDER = m.Sender("barn-1", "boot", 3)


def known_key(number: int) -> PrivateKey:
    """A hub key that everybody knows, for examples alone."""
    seed = Seed(bytes([number]) * 32)
    return PrivateKey(PublicKey("hub", seed.public, f"hub-{number}"), seed)


LINKS = tuple(make_link(known_key(n), known_key(n + 1), "farm", n) for n in (1, 2))
SAMPLES: tuple[Any, ...] = (
    m.Hello(SENDER, "0.1.0", "server", D, 8, ("train",), 120),
    m.Presence(SENDER, "offline"),
    m.Begin(SENDER, D, "tail", "r1-train-barn-1.tail", 1, D, 1000, 40),
    m.Begin(SENDER, D, "adapter", "r1-train-barn-1", 1, D, 1000, 40, metrics={"loss": 0.5}),
    m.Commit(SENDER, D),
    m.Fetch(SENDER, D, (0, 2)),
    m.Failed(SENDER, "r1-train-barn-1", "no room"),
    m.Failed(SENDER, "r1-train-barn-1", "nothing came for 120 s", "coop"),
    m.MaskKeys(SENDER, "r1-train-barn-1", 1, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32),
    m.MaskShares(SENDER, "r1-train-barn-1", {"coop": b"\x00\xff"}),
    m.MaskAgreed(SENDER, "r1-train-barn-1", {"coop": b"\x04" * 32}),
    m.MaskReveal(SENDER, "r1-train-barn-1", {"barn-1": b"\x00"}, {"coop": b"\xff"}),
    m.Job("coop", "r1-train-barn-1.tail", "tail", 1, (D,), {"split": {"board": "barn-1"}}),
    m.Job("barn-1", "r1-train-barn-1", "train", 1, (D,), {"steps": 8, "learning_rate": 5e-4}),
    m.Cancel("barn-1", "r1-train-barn-1"),
    m.Receipt("barn-1", D, "accepted"),
    m.Missing("barn-1", D, (1,), begin=True),
    m.Missing("barn-1", D, (1, 2), ranges=((1, 2), (7, 900))),
    m.MaskRoster("barn-1", "r1-train-barn-1", {"barn-1": b"\x00", "coop": b"\xff"}),
    m.MaskSealed("barn-1", "r1-train-barn-1", {"coop": b"\x00\xff"}),
    m.MaskSurvivors("barn-1", "r1-train-barn-1", ("barn-1", "coop")),
    m.MaskOpen("barn-1", "r1-train-barn-1", {"coop": b"\x04" * 32}),
    m.Version("toy-1", 3, D, 16, 2.0, (m.Rung(0, 1, D, 10),), ("a", "b"), D, 99, 4),
    m.Release("toy-1", 2, 3, D),
    m.Canary("barn-1", "toy-1", 3, 4, D),
    m.Assignment("barn-1", 4, "toy-1", D, (":8884", "hub.example:8884")),
    m.Program("barn-1", 5, D, (":8884",)),
    m.HubKeys("barn-1", LINKS),
    m.Standing("barn-1", "0011223344556677", 7, 12, D, 4, 5),
    m.Chunk(D, 0, 1, b"\x00\xff"),
    m.Crossing(SENDER, "r1-train-barn-1", "0" * 16, "f" * 16, 7, "forth", 3, 1, 0, 2, {"rows": 4}, b"\x00\xff"),
    m.Peer(SENDER, "r1-train-barn-1", "0" * 16, "credit", "f" * 16, fields={"next": 3, "until": 11}),
)


@pytest.mark.parametrize("message", SAMPLES, ids=[s.TYPE for s in SAMPLES])
def test_every_message_survives_the_wire(message: Any) -> None:
    """Encoding and decoding gives the message back, with fields that nobody here knows."""
    body = m.encode(message)
    assert m.decode(body, type(message)) == message
    newer = pack({**unpack(body, "m"), "from_the_future": [1]})
    assert m.encode(m.decode(newer, type(message))) == newer


def test_the_samples_are_all_messages() -> None:
    """No message type is left out of the test above, and each has its row in the table of topics."""
    assert {type(s) for s in SAMPLES} == set(m.MESSAGES.values()) == {t.message for t in TABLE}


GOLDEN_RECEIPT = (
    "86a474797065a772656365697074a6736368656d6101a6646576696365a66261726e2d31a6757064617465d940"
    + "61" * 64
    + "a6737461747573a86163636570746564a6726561736f6ea0"
)


def test_bytes_of_schema_1_are_read_forever() -> None:
    """Golden bytes of a receipt: a reader of any later version must read them so."""
    assert m.decode(bytes.fromhex(GOLDEN_RECEIPT), m.Receipt) == m.Receipt("barn-1", D, "accepted")


def test_other_types_and_schemas_are_named() -> None:
    """A message on the wrong topic, or of a later schema, is refused in words."""
    with pytest.raises(BadData, match="expected a commit message, found 'receipt'"):
        m.decode(m.encode(m.Receipt("d", D, "accepted")), m.Commit)
    later = pack({**unpack(m.encode(m.Commit(SENDER, D)), "m"), "schema": 2})
    with pytest.raises(BadData, match="of schema 1, found 2; update the older side"):
        m.decode(later, m.Commit)


def test_topics_say_who_and_what() -> None:
    """Writing and reading a topic are inverse; strangers' topics are nobody's; bad names are refused."""
    for entry in TABLE:
        topic = topic_of("farm", "toy-1", entry.direction, entry.message.TYPE, "barn-1", "coop")
        address = parse_topic(topic)
        assert address is not None
        assert (address.fleet, address.model, address.topic) == ("farm", "toy-1", entry)
        listeners = {
            "up": hub_subscriptions("farm", "toy-1"),
            "peer": [peer_subscription("farm", "toy-1", "coop")],
        }.get(entry.direction, device_subscriptions("farm", "toy-1", "barn-1"))
        assert any(matches(p, topic) for p in listeners)
    between = parse_topic("edgequilt/1/farm/toy-1/peer/barn-1/coop/peer")
    assert between is not None
    assert (between.device, between.receiver) == ("barn-1", "coop")
    strangers = ("", "edgequilt/1/f/m/up/d/nothing", "edgequilt/2/f/m/up/d/hello", "edgequilt/1/f/m/up/d/hello/x")
    for stranger in (*strangers, "edgequilt/1/f/m/peer/d/crossing", "edgequilt/1/f/m/peer/d/e/hello"):
        assert parse_topic(stranger) is None
    with pytest.raises(UsageError, match="expected a name of small letters"):
        topic_of("farm", "toy-1", "up", "hello", "barn/+")


@given(st.binary(min_size=1, max_size=5000), st.integers(1024, 2048), st.randoms())
def test_chunks_in_any_order_with_repeats_give_the_bytes(data: bytes, chunk_bytes: int, dice: random.Random) -> None:
    """Reordered and repeated chunks do no harm; what is missing is known."""
    chunks = cut(data, chunk_bytes=chunk_bytes)
    arriving = chunks * 2
    dice.shuffle(arriving)
    assembly = Assembly(digest(data), len(data), chunk_bytes)
    for chunk in arriving:
        assert assembly.add(chunk)
    assert assembly.missing() == ()
    assert assembly.join() == data
    assert cut(data, (len(chunks) - 1, 99), chunk_bytes) == chunks[-1:]


def test_false_chunks_are_not_believed() -> None:
    """A chunk of the wrong length or place is refused, and bytes with another digest are dropped."""
    data = bytes(3000)
    assembly = Assembly(digest(data), 3000, 1024)
    good = cut(data, chunk_bytes=1024)
    assert not assembly.add(m.Chunk(digest(data), 7, 3, b"x"))
    assert not assembly.add(m.Chunk(digest(data), 0, 3, b"short"))
    assert not assembly.add(m.Chunk(D, 0, 3, good[0].data))
    for chunk in [m.Chunk(digest(data), 0, 3, b"\x01" * 1024), *good[1:]]:
        assert assembly.add(chunk)
    assert assembly.join() is None
    assert assembly.missing() == (0, 1, 2)


def test_the_network_in_memory_behaves_like_a_broker() -> None:
    """Sessions wait for those who are away, retained messages greet newcomers, wills speak for the dead."""
    network, heard = Network(seed=1), []
    alice, bob = MemoryTransport(network, "alice", Will("w", b"gone")), MemoryTransport(network, "bob")
    bob.start(lambda t, p: heard.append((t, p)), lambda up: None)
    alice.start(lambda t, p: None, lambda up: None)
    bob.subscribe("#")
    assert alice.publish("a", b"1", retain=True)
    bob.drop()
    alice.publish("b", b"2")
    alice.drop()
    assert not alice.publish("c", b"3")
    network.pump()
    assert heard == []
    bob.restore()
    network.pump()
    assert heard == [("a", b"1"), ("b", b"2"), ("w", b"gone")]
    late: list[tuple[str, bytes]] = []
    carol = MemoryTransport(network, "carol")
    carol.start(lambda t, p: late.append((t, p)), lambda up: None)
    carol.subscribe("a")
    network.pump()
    assert late == [("a", b"1")]


def test_the_network_loses_repeats_and_reorders() -> None:
    """The three faults really happen, and one seed gives one history."""

    def run(seed: int) -> list[bytes]:
        network, heard = Network(seed=seed, lose=0.2, repeat=0.2, reorder=0.5), []
        hub, device = MemoryTransport(network, "hub"), MemoryTransport(network, "device")
        hub.start(lambda t, p: heard.append(p), lambda up: None)
        device.start(lambda t, p: None, lambda up: None)
        hub.subscribe("up/#")
        for i in range(100):
            device.publish("up/x", bytes([i]))
        network.pump()
        return heard

    heard = run(3)
    assert heard == run(3) != run(4)
    assert len(set(heard)) < 100 < len(heard) + 100 - len(set(heard))
    assert heard != sorted(heard)


def test_a_handler_that_fails_ends_nothing() -> None:
    """An exception in a handler is kept for the test and the next message still arrives."""
    network, heard = Network(), []

    def handler(topic: str, payload: bytes) -> None:
        heard.append(payload)
        raise ValueError(payload)

    one = MemoryTransport(network, "one")
    one.start(handler, lambda up: None)
    one.subscribe("t")
    one.publish("t", b"1")
    one.publish("t", b"2")
    network.pump()
    assert (heard, len(one.errors)) == ([b"1", b"2"], 2)


@pytest.mark.parametrize("url", ["http://x", "mqtt://", "x:1", "mqtt://h:port"])
def test_wrong_brokers_are_named(url: str) -> None:
    """The sentence shows what an address looks like."""
    with pytest.raises(TransportError, match="expected a broker like mqtt://host:1883"):
        parse_broker(url)
